"""`leadlog wait`."""

import click

from services.cli.exits import REFUSED, end, run
from services.settings import addresses
from services.wait import Behind, wait


@click.command("wait")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most.")
@click.option("--quiet", is_flag=True, help="Say nothing while waiting.")
def command(timeout: float, quiet: bool) -> None:
    """Wait until everything published so far is in Postgres and nothing is stale."""
    last: list[Behind] = []

    def report(behind: Behind) -> None:
        if not quiet and [behind] != last[-1:]:
            click.echo(
                f"{behind.records} records, {behind.stale} stale journeys, {behind.unsent} unsent", err=True
            )
        last.append(behind)

    behind = run(wait(addresses(), timeout, report))
    if not behind.nothing:
        end(
            REFUSED,
            f"after {timeout:g} s still {behind.records} records to read, {behind.stale} stale journeys, "
            f"{behind.unsent} messages to send. Is the projector running? `leadlog status` tells.",
        )
    click.echo("everything published is in Postgres, nothing is stale", err=True)
