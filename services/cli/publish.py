"""`leadlog publish`: lines of the contract's JSON, checked and sent straight to Kafka."""

import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from services import foreign, json_lines, settings
from services.cli.exits import REFUSED, end, run
from services.cli.sending import Display, fault_lines, summary
from services.collector import collect_seldom
from services.json_lines import Bookmark, Position, Refusal, Step
from services.publisher import Publisher
from services.wording import legible


@click.command("publish")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--json", "as_json", is_flag=True, help="Refusals (stderr) and summary (stdout) as JSON, one a line."
)
@click.option("--from-start", is_flag=True, help="Forget where an interrupted run came to.")
def command(file: BinaryIO, as_json: bool, from_start: bool) -> None:
    """Publish FILE (- is standard input), one JSON event a line.

    Events are checked as at every door. Refused lines are listed with every fault, the others go on to Kafka.
    `recorded_at` is taken from the line if it is there. An event counts as taken once Kafka has acknowledged
    it. Interrupted and started again, a file goes on where it was acknowledged; a pipe begins anew.

    Exit 0: all taken, 1: some refused, 3: Kafka is away.
    """
    collect_seldom()
    _refuse_foreign(file)
    try:
        position, seconds, rate = run(_publish(file, as_json, from_start))
    except BrokenPipeError:
        sys.exit(REFUSED)
    text = f"{position.taken:,} taken, {position.refused:,} refused, {seconds:.1f} s, {rate:,.0f} events/s"
    summary(
        as_json,
        text,
        taken=position.taken,
        refused=position.refused,
        lines=position.lines,
        seconds=round(seconds, 3),
    )
    if position.refused:
        sys.exit(REFUSED)


def _refuse_foreign(file: BinaryIO) -> None:
    """Ends the command when a named file holds no lines of JSON at all."""
    if _path(file):
        meant = foreign.meaning(file.read(foreign.HEAD_BYTES))
        if meant:
            end(REFUSED, f"{file.name} is not one JSON event a line, nothing was published: {meant}")
        file.seek(0)


async def _publish(file: BinaryIO, as_json: bool, from_start: bool) -> tuple[Position, float, float]:
    """The position at the end, and of this run the seconds and the events a second."""
    path = _path(file)
    reached = Position()
    with Display("publishing", os.fstat(file.fileno()).st_size if path else None) as display:

        def taken(step: Step) -> None:
            nonlocal reached
            reached = step.position
            for refusal in step.refusals:
                display.say(_told(refusal, as_json))
            if bookmark:
                bookmark.save(reached)  # after the telling: a run that goes on here does not tell it again
            display.move(reached.offset, reached.taken, reached.refused)

        publisher = Publisher(settings.addresses().kafka_bootstrap, taken=taken, say=display.say)
        bookmark = Bookmark(path, await publisher.log_id()) if path else None
        if bookmark and not from_start:
            reached = bookmark.load()
        if bookmark:
            bookmark.save(reached)  # a folder that cannot be written is told before anything is sent
        if reached.lines:
            display.say(f"going on after line {reached.lines:,}, up to which all was acknowledged")
            display.go_on(reached.offset, reached.taken)
        await publisher.publish(json_lines.read(file, reached))
        if bookmark:
            bookmark.forget()
        return reached, display.seconds, display.rate(reached.taken)


def _path(file: BinaryIO) -> Path | None:
    """Where a named file is; None for standard input, a pipe or a device, which cannot be read again."""
    if file is sys.stdin.buffer or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return None
    return Path(file.name)


def _told(refusal: Refusal, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(refusal).decode()
    event = f", event {legible(refusal.event_id)}" if refusal.event_id else ""
    return "\n".join([f"line {refusal.line}{event} is refused:", *fault_lines(refusal.faults)])
