"""The `leadlog` command."""

import click

from services.cli import (
    alerts,
    bi,
    definition,
    generate,
    importer,
    key,
    lead,
    log,
    parked,
    publish,
    rejected,
    replay,
    report,
    run,
    sla,
    stack,
    summary,
    wait,
)
from services.cli.exits import Kindly


@click.group(cls=Kindly, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leadlog")
def main() -> None:
    """One history of every lead, read the same by marketing and sales.

    Exit codes: 0 done, 1 refused or different, 2 wrong usage, 3 a server is away. What --json prints on
    standard output is one JSON document.
    """


COMMANDS = (
    *stack.COMMANDS,
    run.command,
    publish.command,
    importer.command,
    generate.command,
    wait.command,
    lead.command,
    summary.command,
    report.command,
    bi.command,
    definition.command,
    parked.command,
    rejected.command,
    key.command,
    replay.command,
    log.command,
    alerts.command,
    sla.command,
)

for command in COMMANDS:
    main.add_command(command)
