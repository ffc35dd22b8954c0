"""`leadlog rejected`: records on the topics that could not be taken, and events published in their place."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

import click
import msgspec

from schemas.contract import parse_line
from schemas.faults import Refused
from schemas.records import Micros, Record
from services.broker import connected, create_producer
from services.cli.exits import REFUSED, ask, end
from services.cli.layout import console, table
from services.cli.sending import fault_lines
from services.cli.times import InstantType
from services.rejections import Page, Place, Rejection, read_one, read_page, repair
from services.settings import addresses
from services.store.pool import Connection
from services.wording import instant, legible

HEADINGS = ("place", "rejected at", "reason", "source", "event", "repaired by", "message")


class PlaceType(click.ParamType):
    """A record on a topic."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """The place in a text."""
        try:
            return Place.parse(value)
        except ValueError as wrong:
            self.fail(f"{wrong}. `leadlog rejected list` shows them", param, ctx)


@click.group("rejected")
def command() -> None:
    """Records on the topics that could not be read: list, repair."""


@command.command("list")
@click.option(
    "--since", type=InstantType(), help="Refused then or later: a date or time, in UTC if it has no offset."
)
@click.option("--reason", help="Only this reason, for example wrong_key.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, with everything known.")
def list_rejected(since: Micros | None, reason: str | None, as_json: bool) -> None:
    """List what was refused, oldest first.

    Where each record lies, why it was refused, and which event was published in its place.
    """
    ask(lambda connection: _list(connection, since, reason, as_json))


async def _list(connection: Connection, since: Micros | None, reason: str | None, as_json: bool) -> None:
    pages = _pages(connection, since, reason)
    if as_json:
        await _write_array(pages)
        return
    found = False
    async for page in pages:
        found = found or bool(page.rejections)
        if page.rejections:
            table(console(), HEADINGS, [_row(each) for each in page.rejections], wrapped=("message",))
    if not found:
        click.echo("nothing of that kind was rejected" if since or reason else "nothing was rejected")


async def _write_array(pages: AsyncIterator[Page]) -> None:
    """Page by page, since there may be any number."""
    before = "["
    async for page in pages:
        for each in page.rejections:
            click.echo(f"{before}{_json(each)}", nl=False)
            before = ",\n"
    click.echo("[]" if before == "[" else "]")


async def _pages(connection: Connection, since: Micros | None, reason: str | None) -> AsyncIterator[Page]:
    page = await read_page(connection, since=since, reason=reason)
    yield page
    while not page.is_last:
        page = await read_page(connection, after=page.cursor, since=since, reason=reason)
        yield page


def _json(rejection: Rejection) -> str:
    return msgspec.json.encode(rejection).decode()


def _row(each: Rejection) -> tuple[str | None, ...]:
    at, repaired_by = instant(each.rejected_at), ", ".join(each.repaired_by)
    return (each.place, at, each.reason, each.source, each.event_id, repaired_by, each.message)


@command.command("show")
@click.argument("place", type=PlaceType())
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--event", "event_only", is_flag=True, help="Only the event as JSON, to be corrected.")
def show(place: Place, as_json: bool, event_only: bool) -> None:
    """Show one rejected record.

    PLACE is topic-partition-offset, as `leadlog rejected list` shows it; the record is shown as far as it can
    be read.
    """
    rejection = ask(lambda connection: _read(connection, place))
    if event_only and rejection.content is None:
        end(REFUSED, f"{place} cannot be read as an event: {rejection.message}")
    if as_json:
        click.echo(_json(rejection))
    elif event_only:
        click.echo(json.dumps(rejection.content, indent=2, ensure_ascii=False))
    else:
        _show(rejection)


def _show(rejection: Rejection) -> None:
    told = msgspec.structs.asdict(rejection) | {"repaired_by": ", ".join(rejection.repaired_by) or None}
    for name, value in told.items():
        if value is not None and name != "content":
            click.echo(f"{name:12} {legible(str(value))}")
    if rejection.content is not None:
        content = json.dumps(rejection.content, indent=2, ensure_ascii=False)
        click.echo("\n".join(map(legible, content.split("\n"))))


async def _read(connection: Connection, place: Place) -> Rejection:
    rejection = await read_one(connection, place)
    if rejection is None:
        end(REFUSED, f"no record was rejected at {place}: `leadlog rejected list` shows those that were")
    return rejection


@command.command("repair")
@click.argument("place", type=PlaceType())
@click.argument("file", type=click.File("rb"))
def repair_rejected(place: Place, file: BinaryIO) -> None:
    """Publish a corrected event instead.

    FILE (or - for standard input) holds one JSON object, as `leadlog rejected show PLACE --event` prints it,
    checked as at every door. It is published in place of the rejected record at PLACE: the event carries the
    place in the header leadlog_repairs, and `leadlog rejected list` shows its id. A record that is good but
    lay in the wrong place needs no correction:

      leadlog rejected show PLACE --event | leadlog rejected repair PLACE -
    """
    try:
        corrected = parse_line(file.read(), now=time.time_ns() // 1000, may_import=True)
    except Refused as refused:
        told = "\n".join(fault_lines(refused.faults))
        end(REFUSED, f"the event is refused, nothing was published:\n{told}")
    ask(lambda connection: _repair(connection, place, corrected))
    click.echo(f"{corrected.event_id} is published in place of {place}")


async def _repair(connection: Connection, place: Place, corrected: Record) -> None:
    await _read(connection, place)
    bootstrap = addresses().kafka_bootstrap
    async with connected(create_producer(bootstrap), bootstrap) as producer:
        await repair(producer, connection, place, corrected)
