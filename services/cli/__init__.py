"""The `leadlog` command."""

import click

from services.cli import stack


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leadlog")
def main() -> None:
    """One history of every lead, read the same by marketing and sales."""


for command in (*stack.COMMANDS,):
    main.add_command(command)
