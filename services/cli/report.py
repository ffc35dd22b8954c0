"""`leadlog report`: what takes all journeys at once and is worked out when asked for."""

import csv
import json
import sys
from datetime import date
from typing import Any

import asyncpg
import click
from rich.console import Console

from services import settings
from services.cli.exits import ask
from services.cli.layout import console, table
from services.cli.numbers import DAYS
from services.cli.times import DayType
from services.store.versions import NothingPromoted
from services.wording import cell

UNATTRIBUTED = "unattributed"
SAID = ("model", "order", "as_of", "quiet_days", "definition_version")
COLUMNS = ("channel", "paths", "conversions", "removal_effect", "share", "credit")


@click.group("report")
def command() -> None:
    """Reports over all journeys."""


@command.command("markov")
@click.option(
    "--order",
    type=click.IntRange(1, 3),
    default=1,
    show_default=True,
    help="How many channels back a step remembers.",
)
@click.option(
    "--as-of",
    type=DayType(),
    metavar="DATE",
    help="Report date, in the time zone of the definition's calendar. [default: today]",
)
@click.option(
    "--quiet-days",
    type=DAYS,
    default=settings.MARKOV_QUIET_DAYS,
    show_default=True,
    help="Without an event for so long a lead without a deal is gone.",
)
@click.option("--json", "form", flag_value="json", help="One JSON object.")
@click.option("--csv", "form", flag_value="csv", help="One line a channel.")
def report_markov(order: int, as_of: date | None, quiet_days: int, form: str | None) -> None:
    """Credit by channel from a Markov chain over all closed journeys.

    The removal effect of a channel is the share of conversions that would be lost without it, if leads went
    on as the chain says. Closed are deals won or lost, and leads without a deal that went quiet. What a chain
    learns is correlation, not causal lift.
    """
    try:
        report = read(order, as_of, quiet_days)
    except asyncpg.UndefinedTableError:
        raise NothingPromoted from None
    if form == "json":
        click.echo(json.dumps(report, indent=2))
    elif form == "csv":
        write_csv(report)
    else:
        show(console(), report)


def read(order: int, as_of: date | None, quiet_days: int) -> dict[str, Any]:
    """Asks Postgres."""
    from services.markov import read_report  # noqa: PLC0415 (numpy takes a tenth of a second)

    return ask(lambda connection: read_report(connection, order, as_of, quiet_days))


def write_csv(report: dict[str, Any]) -> None:
    """A line per channel that can be read alone, and one for what no touch may claim."""
    said = {name: report[name] for name in SAID}
    writer = csv.DictWriter(sys.stdout, [*SAID, *COLUMNS], lineterminator="\n")
    writer.writeheader()
    for line in report["channels"]:
        writer.writerow(said | line | {"channel": cell(line["channel"])})
    writer.writerow(said | {"channel": UNATTRIBUTED, "credit": report["unattributed"]})


def show(out: Console, report: dict[str, Any]) -> None:
    """Prints the report for people."""
    out.print(
        f"Markov of order {report['order']} as of {report['as_of']}, by definition "
        f"{report['definition_version']}",
        style="bold",
        markup=False,
    )
    out.print(
        f"{report['paths']:,} closed paths: deals won or lost, and leads without a deal after "
        f"{report['quiet_days']} quiet days; {report['conversions']:,} won. Correlation, not causal lift.",
        markup=False,
    )
    out.print()
    rows = [
        (
            line["channel"],
            f"{line['paths']:,}",
            f"{line['conversions']:,}",
            f"{line['removal_effect']:.1%}",
            f"{line['share']:.1%}",
            f"{line['credit']:,.1f}",
        )
        for line in report["channels"]
    ]
    rows.append((UNATTRIBUTED, "", "", "", "", f"{report['unattributed']:,}"))
    numbers = ("paths with it", "won with it", "removal effect", "share", "credit (wins)")
    table(out, ("channel", *numbers), rows, right=numbers)
