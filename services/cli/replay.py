"""`leadlog replay`: build a version beside the one that BI reads, compare, switch, switch back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click
from rich.console import Console

from projections.definition import Definition
from schemas.instants import rfc3339
from schemas.records import Micros
from services import settings
from services.cli import verdict
from services.cli.definition_file import read_file
from services.cli.exits import REFUSED, asking, end, run
from services.cli.files import TEXT_FILE
from services.cli.layout import console, plain, section, table
from services.cli.numbers import POSITIVE
from services.collector import collect_seldom
from services.definitions import now, person, start_of
from services.replay import candidates, diff_outcome
from services.replay.build import build
from services.replay.catch_up import catch_up
from services.replay.diff import diff
from services.replay.job import Progress
from services.replay.plan import Plan, plan
from services.replay.runs import Candidate
from services.replay.switch import Switched, previous, switch
from services.replay.verify import Verdict, last, verify
from services.replay.versions import overview, ready, retire
from services.replay.workers import NICENESS, Effort
from services.store.pool import Connection
from services.store.versions import promoted_version
from services.wording import duration, instant

Result = TypeVar("Result")

with_definition = click.option(
    "--definition", "file", type=TEXT_FILE, help="A trial from this file; it can never be promoted."
)
as_known = click.option(
    "--as-known",
    metavar="TIME",
    help="Only what the log had by then, by what BI reads or FILE; never fed nor promoted.",
)
with_processes = click.option(
    "--processes",
    default=os.cpu_count(),
    show_default="all cores",
    type=click.IntRange(1, 64),
    help="Processes that work at once.",
)
full_speed = click.option("--full-speed", is_flag=True, help="Do not give way to live processing.")
number_of_version = click.argument("number", metavar="VERSION", type=POSITIVE)
MEGABYTE = 1_000_000

COUNTS = ("added", "gone", "changed")
TABLES = ("table", *COUNTS, "journeys")
REASONS = ("reason", "rows", "journeys")
COLUMNS = ("table", "column", "rows")
RANKED = ("value", "journeys", *COUNTS)
"""What the numbers of a diff are called."""
WORDS = {
    "opens": "opens",
    "raises": "raised, the warning is a breach there",
    "lowers": "lowered, the breach is a warning there",
    "gone": "closes, it has no such clock",
    "not_due": "closes, not due there yet",
    "met": "closes, kept in time there",
    "met_logged_late": "closes, kept in time there",
    "stopped_late": "closes, done there though too late",
}
"""What a switch does to obligations: the change, or why it closes."""


@click.group("replay")
def command() -> None:
    """Fold all history again, beside what BI reads.

    Under another definition, or by other code.
    """


@command.command("plan")
@with_definition
def plan_command(file: Path | None) -> None:
    """Say what a replay would change, and what it takes."""
    tried = _tried(file)

    async def work(connection: Connection) -> Plan:
        return await plan(connection, await _candidate(connection, tried))

    _show_plan(kindly(asking(work)))


@command.command("build")
@with_definition
@as_known
@with_processes
@full_speed
def build_command(file: Path | None, as_known: str | None, processes: int, full_speed: bool) -> None:
    """Build a new version from the topics, or finish one.

    One that is built already, and that BI does not read, is not built again: `retire` it first.

    TIME is a date, or a date and a time, in the zone of the definition's calendar unless it has an offset.
    """
    tried = _tried(file)

    async def planned(connection: Connection) -> tuple[Candidate, int | None]:
        known_at = None if as_known is None else await _known_at(connection, as_known, tried)
        candidate = await _candidate(connection, tried, known_at)
        return candidate, await ready(connection, candidate)

    candidate, number = kindly(asking(planned))
    said = "built" if number is None else "that already"
    if number is None:
        number = kindly(build(settings.addresses(), candidate, Teller(), _effort(processes, full_speed)))
    step = "catch-up" if as_known is None else "diff"
    click.echo(f"version {number} is {said}; next: leadlog replay {step} {number}")


@command.command("catch-up")
@number_of_version
def catch_up_command(number: int) -> None:
    """Bring a built version up to the log. The projector feeds it from then on."""
    kindly(catch_up(settings.addresses(), number, Teller()))
    click.echo(f"version {number} is fed and up to date; next: leadlog replay diff {number}")


@command.command("diff")
@number_of_version
@click.option("--csv", "file", type=click.File("w"), help="Every row to this file; - is standard output.")
@click.option("--show", is_flag=True, help="Show the last diff again instead of comparing anew.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@with_processes
@full_speed
def diff_command(
    number: int, *, file: TextIO | None, show: bool, as_json: bool, processes: int, full_speed: bool
) -> None:
    """Compare a version row by row with the promoted one. Exit 1 when any row differs.

    Also says what on-call would hear if BI read the version from this moment on.
    """
    to_output = file is not None and file.name == "<stdout>"
    if to_output and as_json:
        raise click.UsageError("--json and --csv - both write to standard output: name a file for the CSV")
    addresses = settings.addresses()
    if not show:
        effort = _effort(processes, full_speed)
        kindly(diff(addresses, number, Teller(), effort))
    outcome = kindly(_outcome(number, file))
    if as_json:
        click.echo(json.dumps(_as_json(outcome), indent=2))
    elif not to_output:
        _show_outcome(outcome)
    if outcome.tables:
        raise SystemExit(REFUSED)


@command.command("promote")
@number_of_version
def promote_command(number: int) -> None:
    """Let BI read this version from now on."""
    _switch(number)


@command.command("rollback")
def rollback_command() -> None:
    """Let BI read the version that it read before."""
    _switch(None)


@command.command("retire")
@number_of_version
def retire_command(number: int) -> None:
    """Drop a version that BI does not read."""
    kindly(retire(settings.addresses(), number))
    click.echo(f"version {number} is gone")


@command.command("verify")
@click.option("--show", is_flag=True, help="Show what the last one found instead of verifying anew.")
@with_processes
@full_speed
def verify_command(show: bool, processes: int, full_speed: bool) -> None:
    """Build the promoted version again and compare every row. Exit 1 when any differs.

    `leadlog run verifier` does so by itself from time to time.
    """
    effort = _effort(processes, full_speed)
    found = _last() if show else kindly(verify(settings.addresses(), Teller(), effort))
    verdict.show(found)
    if not found.is_equal:
        raise SystemExit(REFUSED)


def _last() -> Verdict:
    outcome = kindly(asking(last))
    if outcome is None:
        end(REFUSED, "nothing was verified yet: `leadlog replay verify`")
    click.echo(f"version {outcome.version_no}, verified {instant(outcome.finished_at)}")
    return outcome.verdict


@command.command("status")
@click.option("--all", "with_retired", is_flag=True, help="Also versions that are retired.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status_command(*, with_retired: bool, as_json: bool) -> None:
    """List the versions and how far each is. Also what the last verification found."""
    found, verified = kindly(asking(overview)), kindly(asking(last))
    rows = [row for row in found if with_retired or row["status"] != "retired"]
    if as_json:
        versions = [_version_object(row) for row in rows]
        click.echo(json.dumps({"versions": versions, "verification": verdict.as_object(verified)}, indent=2))
        return
    headings = ("version", "definition", "status", "made from", "built", "stale", "parked", "MB")
    table(console(), headings, [_status(row) for row in rows], right=("version", "stale", "parked", "MB"))
    if len(rows) < len(found):
        click.echo(f"and {len(found) - len(rows)} retired: --all")
    click.echo(verdict.line(verified))


@command.command("run")
@with_definition
@with_processes
@full_speed
def run_command(file: Path | None, processes: int, full_speed: bool) -> None:
    """Plan, build, catch up and compare; stops before promote.

    Done is exit 0, whether rows differ or not: `leadlog replay diff NUMBER --show` tells by its code.
    """
    effort, tried = _effort(processes, full_speed), _tried(file)

    async def planned(connection: Connection) -> tuple[Candidate, Plan, int | None]:
        candidate = await _candidate(connection, tried)
        return candidate, await plan(connection, candidate), await ready(connection, candidate)

    candidate, found, number = kindly(asking(planned))
    _show_plan(found)
    if number is None:
        number = kindly(build(settings.addresses(), candidate, Teller(), effort))
    else:
        click.echo(f"version {number} is that already: going on with it")
    kindly(catch_up(settings.addresses(), number, Teller()))
    kindly(diff(settings.addresses(), number, Teller(), effort))
    _show_outcome(kindly(_outcome(number, None)))
    click.echo(f"\nversion {number} is ready; every row: leadlog replay diff {number} --show --csv FILE")
    if file is None:
        click.echo(f"to let BI read it: leadlog replay promote {number}")


def _tried(file: Path | None) -> Definition | None:
    return None if file is None else read_file(file)


def _effort(processes: int, full_speed: bool) -> Effort:
    return Effort(processes, 0 if full_speed else NICENESS)


def kindly(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs the work; who interrupts it is told what to do."""
    try:
        return run(work)
    except KeyboardInterrupt:
        end(REFUSED, "interrupted; what is done is kept, and the same command goes on from there")


async def _candidate(
    connection: Connection, tried: Definition | None, as_known_at: int | None = None
) -> Candidate:
    if tried is not None:
        return candidates.trial(tried, as_known_at)
    if as_known_at is not None:
        return await candidates.as_known(connection, as_known_at)
    return await candidates.newest_approved(connection)


async def _known_at(connection: Connection, text: str, tried: Definition | None) -> Micros:
    return start_of(text, tried or (await promoted_version(connection)).in_force(now()))


async def _outcome(number: int, file: TextIO | None) -> diff_outcome.Outcome:
    async def work(connection: Connection) -> diff_outcome.Outcome:
        found = await diff_outcome.outcome(connection, number)
        if file is not None:
            await diff_outcome.write_csv(connection, found.version.schema, file)
        return found

    return await asking(work)


class Teller:
    """Progress on standard error: when a phase begins and when it ends, and between that a line now and
    then, since phases have up to hundreds of units."""

    def __init__(self) -> None:
        self._phase = ""
        self._told_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """So far it is now."""
        is_turn = progress.phase != self._phase or progress.finished == progress.units
        if is_turn or time.monotonic() - self._told_at > settings.PROGRESS_SECONDS:
            self._phase, self._told_at = progress.phase, time.monotonic()
            click.echo(told(progress), err=True)


def told(progress: Progress) -> str:
    """Phase, units, rate and time left, as far as they are known."""
    left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
    rate = f", {progress.records_per_second:,.0f}/s" if progress.records else ""
    return f"{progress.phase} {progress.finished}/{progress.units}{rate}{left}"


def _show_plan(found: Plan) -> None:
    click.echo(f"from {found.before} to {found.label}")
    if not found.is_needed:
        click.echo("the same definition and the same code: a replay would change nothing")
    if found.is_other_code:
        click.echo("the promoted version was folded by other code: rows may differ for that reason too")
    for change in found.changes:
        click.echo(f"  {change}")
    if found.changes:
        click.echo(f"rows may differ in {', '.join(found.affected)}" if found.affected else "no row differs")
    if found.counts_from is not None:
        click.echo(
            f"without a replay it counts from {rfc3339(found.counts_from)} on: both teams scheduled it"
        )
    elif found.affected and not found.is_trial:
        definition_id, _, version = found.label.rpartition("@")
        click.echo(
            "a replay restates all of the past; to let it count from a date on only, without one: "
            f"leadlog definition schedule {definition_id} {version} --from DATE"
        )
    click.echo(
        f"{found.records:,} events of {found.journeys:,} journeys, {len(found.tables)} tables, "
        f"about {duration(found.seconds)} and {found.bytes / MEGABYTE:,.0f} MB"
    )


def _switch(number: int | None) -> None:
    """To this version, or to the one before."""

    async def work(connection: Connection) -> Switched:
        return await switch(connection, number or await previous(connection), person(None))

    collect_seldom()  # every open obligation is settled
    found = kindly(asking(work))
    attempts = f"{found.attempts} attempt{'' if found.attempts == 1 else 's'}"
    click.echo(f"BI reads {found.after} now, no longer {found.before} ({attempts}, {found.seconds:.2f} s)")
    click.echo("the way back: leadlog replay rollback")


def _progress(row: dict[str, Any]) -> Progress:
    finished, seconds = row["units_finished"], row["seconds"]
    rate = row["records"] / seconds if seconds else 0.0
    left = seconds / finished * (row["units"] - finished) if seconds else None
    return Progress(row["phase"], finished, row["units"], row["records"], rate, left)


def _status(row: dict[str, Any]) -> tuple[Any, ...]:
    status = row["status"]
    if status == "building" and row["phase"]:
        status = f"building: {told(_progress(row))}"
    kind = "a file (trial)" if row["is_trial"] else "agreed definition"
    if row["is_verification"]:
        kind = "the promoted one, to verify it"
    if row["as_known_at"] is not None:
        kind += f", as known at {rfc3339(row['as_known_at'])}"
    if not row["is_our_code"]:
        kind += ", other code"
    built = instant(row["built_at"])
    size = "" if row["bytes"] is None else f"{row['bytes'] / MEGABYTE:,.1f}"
    return (row["version_no"], row["label"], status, kind, built, row["stale"], row["parked"], size)


def _version_object(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the status as plain values."""
    facts = ("status", "is_trial", "is_verification", "is_our_code", "stale", "parked", "bytes")
    instants = ("as_known_at", "created_at", "built_at", "promoted_at")
    is_building = row["status"] == "building" and row["phase"]
    return {
        "number": row["version_no"],
        "definition_version": row["label"],
        **{name: row[name] for name in facts},
        **{name: plain(name, row[name]) for name in instants},
        "progress": _progress(row)._asdict() if is_building else None,
    }


def _as_json(found: diff_outcome.Outcome) -> dict[str, Any]:
    versions = {
        name: {"number": each.number, "definition_version": each.label}
        for name, each in (("version", found.version), ("against", found.against))
    }
    return {
        **versions,
        "left_out": found.left_out,
        "tables": _named(TABLES, found.tables),
        "reasons": _named(REASONS, found.reasons),
        "columns": _named(COLUMNS, found.columns),
        "rankings": {name: _named(RANKED, lines) for name, lines in found.rankings.items()},
        "alerts": [each._asdict() for each in found.alerts],
    }


def _named(names: Sequence[str], lines: diff_outcome.Lines) -> list[dict[str, Any]]:
    return [dict(zip(names, line, strict=True)) for line in lines]


def _show_outcome(found: diff_outcome.Outcome) -> None:
    out = console()
    out.print(f"{found.version} against {found.against}, which BI reads", style="bold", markup=False)
    if found.left_out:
        out.print(f"{found.left_out:,} journeys were behind or parked and are not compared", markup=False)
    if found.tables:
        _show_rows(out, found)
    else:
        out.print("no row differs")
    if found.alerts:
        _show_alerts(out, found.alerts)


def _show_rows(out: Console, found: diff_outcome.Outcome) -> None:
    table(out, TABLES, found.tables, right=(*COUNTS, "journeys"))
    section(out, "Why")
    table(out, REASONS, found.reasons, right=("rows", "journeys"))
    if found.columns:
        section(out, "Columns")
        table(out, COLUMNS, found.columns, right=("rows",))
    for name, lines in found.rankings.items():
        if lines:
            section(out, f"By {name}")
            table(out, (name, *RANKED[1:]), lines, right=RANKED[1:])


def _show_alerts(out: Console, changes: Sequence[diff_outcome.AlertChange]) -> None:
    section(out, "What on-call would hear if BI read it now")
    lines = [(each.policy, _words(each), each.told, each.silent) for each in changes]
    table(out, ("policy", "obligation", "told", "silent"), lines, right=("told", "silent"))
    if any(each.silent for each in changes):
        age = duration(settings.ALERT_MAX_AGE_SECONDS)
        out.print(f"silent: overdue for more than {age} already when it came, so nobody is told")


def _words(found: diff_outcome.AlertChange) -> str:
    return WORDS.get(found.reason or found.change, f"closes, {found.reason}")
