"""`leadlog parked`: journeys set aside because their fold raised."""

import json

import click
from asyncpg import Record as Row

from services.cli.exits import REFUSED, ask, end
from services.store.pool import Connection
from services.store.versions import MARK_STALE
from services.wording import legible

COLUMNS = ("version", "journey_id", "attempts", "parked_at", "tried_at", "error")

PARKED = """
select version.schema_name as version, journey_id, attempts, parked_at::text, tried_at::text, error, detail
from ops.parked join ops.version version using (version_no) order by version_no, journey_id
"""


@click.group("parked")
def command() -> None:
    """Journeys that the code could not fold: a defect. The rest goes on."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_parked(as_json: bool) -> None:
    """List what is parked, in every version."""
    rows = [{name: row[name] for name in COLUMNS} for row in ask(fetch_parked)]
    if as_json:
        click.echo(json.dumps(rows))
    elif not rows:
        click.echo("nothing is parked")
    for row in [] if as_json else rows:
        click.echo("  ".join(legible(str(row[name])) for name in COLUMNS))


@command.command("show")
@click.argument("journey_id")
def show(journey_id: str) -> None:
    """Show why a journey is parked, with the traceback."""
    rows = [row for row in ask(fetch_parked) if row["journey_id"] == journey_id]
    if not rows:
        end(REFUSED, f"{journey_id} is not parked")
    for row in rows:
        click.echo("\n".join(f"{name}: {legible(str(row[name]))}" for name in COLUMNS))
        click.echo("\n".join(map(legible, row["detail"].split("\n"))))


@command.command("retry")
@click.argument("journey_id", required=False)
def retry(journey_id: str | None) -> None:
    """Fold a parked journey again, or all of them. For after the code was fixed."""
    tried = ask(lambda connection: mark_stale(connection, journey_id))
    if journey_id and not tried:
        end(REFUSED, f"{journey_id} is not parked")
    click.echo(f"{tried} parked journeys are tried again; `leadlog wait` tells when that is done")


async def fetch_parked(connection: Connection) -> list[Row]:
    """All parked journeys of all versions."""
    return list(await connection.fetch(PARKED))


async def mark_stale(connection: Connection, journey_id: str | None) -> int:
    """Hands parked journeys to the refold loop; returns how many."""
    rows = [row for row in await fetch_parked(connection) if journey_id in (None, row["journey_id"])]
    for row in rows:
        await connection.execute(MARK_STALE.format(schema=row["version"]), [row["journey_id"]])
    return len(rows)
