"""The `leadlog` command."""

from importlib import import_module

import click

from services.cli.exits import Kindly

COMMANDS = {
    **{
        name: (name, "command")
        for name in (
            *("alerts", "bi", "definition", "generate", "key", "lead", "log", "parked", "publish"),
            *("rejected", "replay", "report", "run", "sla", "summary", "wait"),
        )
    },
    "import": ("importer", "command"),
    "databases": ("stack", "make_databases"),
    "deploy": ("stack", "deploy_on_given"),
    "doctor": ("stack", "examine"),
    "down": ("stack", "down"),
    "logs": ("stack", "show_logs"),
    "migrate": ("stack", "migrate_database"),
    "status": ("stack", "status"),
    "up": ("stack", "up"),
}
"""Name to the module beside this one that has the command, and what it is called there."""


class Lazy(Kindly):
    """Imports a command when it is called: to import all of them takes a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, as help lists them."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"{__name__}.{module}"), attribute)
        return found


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leadlog")
def main() -> None:
    """One history of every lead, read the same by marketing and sales.

    Exit codes: 0 done, 1 refused or different, 2 wrong usage, 3 a server is away. What --json prints on
    standard output is one JSON document.
    """
