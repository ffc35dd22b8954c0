"""`leadlog definition backtest`: all history under a candidate, beside the definition in force."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import Progress

from projections.agreement.diff import diff
from projections.definition import Definition
from schemas.instants import rfc3339
from services import settings
from services.backtest import CANDIDATE, PRESENT, Changed, report
from services.backtest_run import Backtested, backtest
from services.cli.definition_file import read_file, show_changes
from services.cli.exits import run
from services.cli.files import TEXT_FILE
from services.cli.layout import console, section, table
from services.wording import cell, instant

Report = dict[str, Any]
EXAMPLES = 10
"""Journeys that change which are shown."""
GLANCE: tuple[tuple[str, str], ...] = (
    ("leads handed to sales (MQLs)", "leads"),
    ("of them: outcome not known", "unknown_share"),
    ("accepted, of accepted and rejected hand-offs", "acceptance"),
    ("became customers, of leads handed over", "conversion"),
    ("won, of their won and lost deals", "win_rate"),
    ("median days from MQL to won", "median_days_to_won"),
    ("MQLs that rest on facts recorded more than a day late", "late_share"),
)
"""Lines of the first table, and the numbers that they show."""


@click.command("backtest")
@click.argument("file", type=TEXT_FILE)
@click.option("--export", type=click.File("w"), help="All journeys that change, as CSV.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=os.cpu_count(),
    show_default="all cores",
    help="Processes that work at once.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(file: Path, export: TextIO | None, processes: int, as_json: bool) -> None:
    """What FILE would have made of all history. Beside the definition in force; changes nothing.

    Leads that FILE would hand to sales and the present definition does not were never worked: what depends on
    them is shown as a range, from all of them lost to as their peers.
    """
    candidate = read_file(file)
    examples: list[Changed] = []
    with _progress() as move, _exported(export) as write:

        def done(share: float, changed: list[Changed]) -> None:
            write(changed)
            examples.extend(changed[: EXAMPLES - len(examples)])
            move(share)

        found = run(_run(candidate, processes, done))
    numbers = report(found.tally)
    if as_json:
        names = {"present_version": found.present, "candidate_version": candidate.label, "zone": found.zone}
        click.echo(json.dumps(names | numbers, indent=2))
    else:
        _show(console(), found, candidate, numbers, examples)


async def _run(
    candidate: Definition, processes: int, done: Callable[[float, list[Changed]], None]
) -> Backtested:
    return await backtest(settings.addresses(), candidate, processes, done)


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """A bar on a terminal; elsewhere nothing."""
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task("folding all history twice", total=1.0)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def _exported(file: TextIO | None) -> Iterator[Callable[[Sequence[Changed]], None]]:
    """Writes journeys that change as they come, if there is a file for them."""
    if file is None:
        yield lambda changed: None
        return
    writer = csv.writer(file)
    writer.writerow(Changed._fields)
    yield lambda changed: writer.writerows(map(_cells, changed))


def _cells(changed: Changed) -> list[Any]:
    return [
        rfc3339(value) if name.endswith("_at") and value is not None else cell(value)
        for name, value in changed._asdict().items()
    ]


def _show(
    out: Console, found: Backtested, candidate: Definition, numbers: Report, examples: Sequence[Changed]
) -> None:
    sides = (found.present, candidate.label)
    out.print(
        f"Backtest of {candidate.label} beside {found.present}, which is in force: "
        f"{numbers['journeys']:,} leads, {numbers['events']:,} events; days and months in {found.zone}",
        style="bold",
        markup=False,
    )
    section(out, "What it changes")
    show_changes(out, diff(found.in_force, candidate))
    _show_glance(out, sides, numbers)
    _show_differing(out, sides, numbers)
    _show_months(out, sides, numbers)
    _show_load(out, sides, numbers)
    _show_journeys(out, sides, numbers, examples)


def _show_glance(out: Console, sides: tuple[str, str], numbers: Report) -> None:
    section(out, "At a glance")
    rows = [
        (text, *(_plain(name, numbers[side][name]) for side in (PRESENT, CANDIDATE))) for text, name in GLANCE
    ]
    outcomes = dict.fromkeys([*numbers[PRESENT]["handoffs"], *numbers[CANDIDATE]["handoffs"]])
    for outcome in outcomes:
        counts = (numbers[side]["handoffs"].get(outcome, 0) for side in (PRESENT, CANDIDATE))
        rows.append((f"hand-offs {outcome}", *(f"{count:,}" for count in counts)))
    table(out, ("", *sides), rows, right=sides)


def _plain(name: str, value: Any) -> str:
    """A number as people read it; a range from the worst to the likely."""
    match value:
        case None:
            return "not known"
        case {"if_all_lost": low, "as_their_peers": high}:
            worst, likely = _plain("rate", low), _plain("rate", high)
            return likely if worst == likely else f"{worst} to {likely}"
        case float():
            return f"{value:,.1f}" if name.startswith("median") else f"{value:.1%}"
    return f"{value:,}"


def _show_differing(out: Console, sides: tuple[str, str], numbers: Report) -> None:
    section(out, "Leads that only one of them hands to sales")
    present, candidate = sides
    added, removed = numbers["added"], numbers["removed"]
    out.print(
        f"Only {candidate}: {added['leads']:,}, of which sales never worked {added['unknown']:,}. What would "
        "have become of those is unknown, not lost: ranges above go from all of them lost to as their peers.",
        markup=False,
    )
    out.print(
        f"Only {present}: {removed['leads']:,}, of which sales accepted {removed['accepted']:,} and "
        f"{removed['customers']:,} became customers.",
        markup=False,
    )


def _show_months(out: Console, sides: tuple[str, str], numbers: Report) -> None:
    before, after = (numbers[side]["mqls_per_month"] for side in (PRESENT, CANDIDATE))
    if before or after:
        section(out, "MQLs per month")
    rows = [
        (month, f"{before.get(month, 0):,}", f"{after.get(month, 0):,}", _difference(before, after, month))
        for month in sorted({*before, *after})
    ]
    table(out, ("month", *sides, "difference"), rows, right=(*sides, "difference"))


def _difference(before: Report, after: Report, name: str) -> str:
    change = after.get(name, 0) - before.get(name, 0)
    return f"{change:+,}" if change else ""


def _show_load(out: Console, sides: tuple[str, str], numbers: Report) -> None:
    """Two lines a team, hours across."""
    section(out, "SLA clocks started, by team and hour of the day")
    loads = [_by_hour(numbers[side]["sla_load"]) for side in (PRESENT, CANDIDATE)]
    hours = [f"{hour:02}" for hour in range(24)]
    rows = [
        (team, side, *load.get(team, [""] * 24))
        for team in sorted({team for load in loads for team in load})
        for side, load in zip(sides, loads, strict=True)
    ]
    table(out, ("team", "", *hours), rows, right=hours)


def _by_hour(load: Sequence[Report]) -> dict[str, list[str]]:
    """Team to the clocks of all its policies in each hour."""
    sums: dict[str, list[int]] = {}
    for each in load:
        sums.setdefault(each["team_id"] or "no team", [0] * 24)[each["hour"]] += each["clocks"]
    return {team: [str(count) if count else "." for count in counts] for team, counts in sums.items()}


def _show_journeys(
    out: Console, sides: tuple[str, str], numbers: Report, examples: Sequence[Changed]
) -> None:
    section(out, f"Journeys that change: {sum(numbers['changed'].values()):,}")
    kinds = [f"{kind} {count:,}" for kind, count in numbers["changed"].items() if count]
    if kinds:
        out.print("; ".join(kinds), markup=False)
        tables = (f"{table} {count:,}" for table, count in numbers["differing"].items())
        out.print(f"with other rows in: {', '.join(tables)}", markup=False)
    present, candidate = sides
    headings = ("journey", "change", f"{present}: MQL at", "stage", f"{candidate}: MQL at", "stage")
    rows = [
        (
            each.journey_id,
            each.change,
            instant(each.present_mql_at),
            each.present_stage,
            instant(each.candidate_mql_at),
            each.candidate_stage,
        )
        for each in examples
    ]
    if rows:
        table(out, headings, rows)
    if sum(numbers["changed"].values()) > len(rows):
        out.print("and more: --export FILE writes all of them; `leadlog lead ID --definition` explains one")
