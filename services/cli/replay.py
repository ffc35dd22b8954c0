"""`leadlog replay`: build a version beside the one that BI reads, compare, switch, switch back."""

from __future__ import annotations

import os
from pathlib import Path

import click

from projections import definition
from projections.definition import DefinitionFaults
from schemas.instants import instant_of
from services import settings
from services.cli.exits import REFUSED, end, run
from services.cli.layout import duration
from services.replay.build import NICENESS, build
from services.replay.job import Progress
from services.replay.runs import Busy, Candidate
from services.store.versions import TimelineEntry

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("replay")
def command() -> None:
    """Fold all history again, under another definition or by other code, without touching what BI reads."""


@command.command("build")
@click.option("--definition", "file", type=FILE, help="A trial from this file; it can never be promoted.")
@click.option("--as-known", metavar="TIME", help="Only what the log had by then (RFC 3339): never promoted.")
@click.option("--processes", default=os.cpu_count(), show_default=True, type=click.IntRange(1, 64))
@click.option("--full-speed", is_flag=True, help="Do not give way to live processing.")
def build_command(file: Path | None, as_known: str | None, processes: int, full_speed: bool) -> None:
    """Build a new version from the topics, or finish one that was interrupted."""
    number = run(_build(_candidate(file, as_known), processes, 0 if full_speed else NICENESS))
    click.echo(f"version {number} is built; next: leadlog replay catch-up {number}")


async def _build(candidate: Candidate, processes: int, niceness: int) -> int:
    try:
        return await build(settings.addresses(), candidate, _say, processes=processes, niceness=niceness)
    except Busy as error:
        end(REFUSED, str(error))


def _candidate(file: Path | None, as_known: str | None) -> Candidate:
    assert file is not None
    text = file.read_text()
    try:
        definition.parse(text)
    except DefinitionFaults as faults:
        end(REFUSED, str(faults))
    return Candidate([TimelineEntry(None, text)], True, instant_of(as_known) if as_known else None)


def _say(progress: Progress) -> None:
    left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
    rate = f", {progress.records_per_second:,.0f} records/s" if progress.records else ""
    click.echo(f"{progress.phase} {progress.finished}/{progress.units}{rate}{left}", err=True)
