"""`leadlog sla`: what another target, calendar or warning would have meant."""

import json
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click

from projections.business_time import DAY
from projections.definition import DefinitionFaults
from schemas.instants import EPOCH_DAY
from schemas.records import Micros
from services import what_if
from services.cli.exits import REFUSED, ask, end
from services.cli.files import TEXT_FILE, text_of
from services.cli.layout import console, table
from services.cli.times import DayType
from services.store.pool import Connection
from services.what_if import Compared, Refused

NOTE = (
    "A mechanical re-scoring: starts, stops and pauses stay as they happened. Under another target people "
    "would have acted otherwise. Night = outside the opening hours of the definition's calendar."
)
HEADINGS = ("team", "clocks", "breaches", "avoided", "added", "alerts", "alerts per night")
DAYS = 90


@click.group("sla")
def command() -> None:
    """SLA policies: what a change would have meant."""


@command.command("what-if")
@click.option(
    "--policy",
    "file",
    required=True,
    type=TEXT_FILE,
    help="YAML: `sla:` with one policy, its id and what changes; `calendars:` if need be.",
)
@click.option("--from", "begin", type=DayType(), metavar="DAY", help=f"UTC; {DAYS} days ago if left out.")
@click.option("--until", type=DayType(), metavar="DAY", help="UTC, exclusive; tomorrow if left out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def score(file: Path, begin: date | None, until: date | None, as_json: bool) -> None:
    """Score a changed policy on the clocks that started in a period."""
    today = datetime.now(UTC).date()
    first = begin or today - timedelta(days=DAYS)
    last = until or today + timedelta(days=1)
    if first >= last:
        raise click.UsageError(f"--from {first} is not before --until {last}")
    text = text_of(file)
    try:
        found = ask(lambda connection: _score(connection, text, first, last))
    except (Refused, DefinitionFaults) as error:
        end(REFUSED, f"{file}: {error}")
    if as_json:
        click.echo(json.dumps({"note": NOTE, "teams": what_if.as_json(found)}))
    else:
        _show(found, (last - first).days)


async def _score(connection: Connection, text: str, first: date, last: date) -> dict[str, Compared]:
    asked = await what_if.prepare(connection, text)
    return await what_if.score(connection, asked, _micros(first), _micros(last), time.time_ns() // 1000)


def _micros(day: date) -> Micros:
    return (day.toordinal() - EPOCH_DAY) * DAY


def _show(found: dict[str, Compared], days: int) -> None:
    if found:
        rows = [_row(team, each, days) for team, each in found.items()]
        table(console(), HEADINGS, rows, right=HEADINGS[1:])
    else:
        click.echo("no clock of the policy started in the period")
    click.echo(NOTE)


def _row(team: str, each: Compared, days: int) -> tuple[object, ...]:
    was, would_be = each.before, each.after
    return (
        *(team, was.clocks, f"{was.breaches} -> {would_be.breaches}", each.avoided, each.added),
        f"{was.alerts} -> {would_be.alerts}",
        f"{was.alerts_at_night / days:.2f} -> {would_be.alerts_at_night / days:.2f}",
    )
