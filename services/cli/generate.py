"""`leadlog generate`: made-up journeys as lines of the contract."""

import math
import sys
from collections.abc import Iterator
from datetime import date
from itertools import islice
from typing import BinaryIO

import click
import msgspec

from projections.business_time import DAY
from schemas.instants import EPOCH_DAY
from services.cli.numbers import DAYS
from services.cli.times import DayType
from services.generator import kinds, live
from services.generator.arrival import Line
from services.generator.stream import Plan, lines

LINES_AT_ONCE = 500
"""Lines written by one call when nothing holds them back."""
DEFAULT_EVENTS = 10_000
DEFAULT_START = "2024-01-08"
"""So early that the journeys of a year, which go on for up to another, end before today."""


@click.command("generate")
@click.option(
    "--events", type=click.IntRange(1), help="So many lines (default 10,000; with --live: without end)."
)
@click.option("--journeys", type=click.IntRange(1), help="So many whole journeys instead.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--rate", metavar="N[/s]", help="At most so many lines a second, steadily.")
@click.option(
    "--start", type=DayType(), default=DEFAULT_START, show_default=True, metavar="DATE", help="First day."
)
@click.option("--days", type=DAYS, default=365, show_default=True, help="Journeys begin over so many days.")
@click.option(
    "--kinds",
    "wanted",
    default="every",
    show_default=True,
    metavar="PRESET,KIND=PERCENT,..",
    help="every (3 % and more of each awkward kind), usual (a tidy company) or clean; then single kinds.",
)
@click.option("--live", "is_live", is_flag=True, help="As if it happened now, for load: not reproducible.")
@click.option("--json", "as_json", is_flag=True, help="The report of kinds on stderr as JSON.")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="File (default stdout).")
def command(
    *,
    events: int | None,
    journeys: int | None,
    seed: int,
    rate: str | None,
    start: date,
    days: int,
    wanted: str,
    is_live: bool,
    as_json: bool,
    output: BinaryIO,
) -> None:
    """Make up lead journeys, one JSON event a line.

    In the order in which they reach the log. Realistic and reproducible: campaigns, nights and weekends,
    hand-offs accepted and rejected, deals, refunds; and, in the shares asked for, late, duplicate,
    conflicting, retracted, linked, unlinked, erased and refused events. The count of each kind is printed
    on stderr."""
    if events and journeys:
        raise click.UsageError("--events and --journeys exclude each other")
    if events is None and journeys is None and not is_live:
        events = DEFAULT_EVENTS
    begin = (start.toordinal() - EPOCH_DAY) * DAY
    stream = lines(Plan(seed, events, journeys, begin, days, _shares(wanted)))
    if rate:
        stream = live.paced(stream, _per_second(rate))
    if is_live:
        stream = live.as_now(stream)
    tally = _write(stream, output, 1 if rate else LINES_AT_ONCE)
    click.echo(_json(tally) if as_json else tally.report(), err=True)


def _shares(wanted: str) -> kinds.Shares:
    try:
        return kinds.shares(wanted)
    except kinds.UnknownKind as fault:
        raise click.BadParameter(str(fault), param_hint="--kinds") from None


def _per_second(rate: str) -> float:
    try:
        value = float(rate.removesuffix("/s"))
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise click.BadParameter(
            f"{rate!r}: expected a number of lines a second, e.g. 20 or 20/s", param_hint="--rate"
        )
    return value


def _write(stream: Iterator[Line], output: BinaryIO, at_once: int) -> kinds.Tally:
    """Write all lines; a reader that goes away (`| head`) or Ctrl-C ends it without complaint."""
    tally = kinds.Tally()
    try:
        while chunk := list(islice(stream, at_once)):
            output.write(b"".join([line.json + b"\n" for line in chunk]))
            output.flush()
            for line in chunk:
                tally.add(line.kinds, line.firsts)
    except BrokenPipeError:
        sys.stdout = None
    except KeyboardInterrupt:
        pass
    return tally


def _json(tally: kinds.Tally) -> str:
    counts = {name: count._asdict() for name, count in tally.counts().items()}
    return msgspec.json.encode({"events": tally.lines, "kinds": counts}).decode()
