"""What `publish` and `import` show: progress, what is refused, and the summary at the end."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from schemas.faults import Fault
from services import settings
from services.wording import legible


class Display:
    """Progress of one command on standard error: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, what: str, total_bytes: int | None) -> None:
        self._what, self._total_bytes = what, total_bytes
        self._started = self._told_at = time.monotonic()
        self._bytes_before = self._taken_before = 0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(what, total=total_bytes, told="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def go_on(self, done_bytes: int, taken: int) -> None:
        """So much was done by an earlier run: rates are of this one."""
        self._bytes_before, self._taken_before = done_bytes, taken

    def move(self, done_bytes: int, taken: int, refused: int) -> None:
        """How far it is."""
        told = f"{taken:,} events, {refused:,} refused, {self.rate(taken):,.0f} events/s"
        if not self._bar.disable:
            self._bar.update(self._task, completed=done_bytes, told=told)
        elif time.monotonic() - self._told_at > settings.PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            self.say(f"{self._what}: {told}{self._left(done_bytes)}")

    def say(self, sentence: str) -> None:
        """Something to be read, above the bar."""
        if self._bar.disable:
            click.echo(sentence, err=True)
        else:
            self._bar.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def rate(self, taken: int) -> float:
        """Events a second of this run."""
        return (taken - self._taken_before) / self.seconds

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(0.001, time.monotonic() - self._started)

    def _left(self, done_bytes: int) -> str:
        now_done = done_bytes - self._bytes_before
        if not self._total_bytes or not now_done:
            return ""
        seconds_left = self.seconds / now_done * (self._total_bytes - done_bytes)
        return f", {done_bytes / self._total_bytes:.0%}, {seconds_left:,.0f} s left"


def fault_lines(faults: Sequence[Fault]) -> list[str]:
    """Each fault in one line for people."""
    lines = []
    for fault in faults:
        hint = f" ({fault.hint})" if fault.hint else ""
        found = "" if fault.value is None else f"found {json.dumps(fault.value, ensure_ascii=False)}, "
        told = f"{fault.path or '(event)'}: {fault.code}: {found}expected {fault.expected}{hint}"
        lines.append(f"  {legible(told)}")
    return lines


def summary(as_json: bool, text: str, **numbers: Any) -> None:
    """The last lines of a command, on standard output."""
    click.echo(msgspec.json.encode(numbers).decode() if as_json else text)
