"""The `leadlog` command."""

import click

from services.cli import alerts, generate, importer, lead, parked, publish, run, sla, stack, summary, wait


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leadlog")
def main() -> None:
    """One history of every lead, read the same by marketing and sales."""


COMMANDS = (
    *stack.COMMANDS,
    run.command,
    publish.command,
    importer.command,
    generate.command,
    wait.command,
    lead.command,
    summary.command,
    parked.command,
    alerts.command,
    sla.command,
)

for command in COMMANDS:
    main.add_command(command)
