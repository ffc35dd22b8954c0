"""Shows what the processes of a stack wrote: the end of their logs, and then what comes."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

LOOK_AGAIN_SECONDS = 0.3
END_BYTES = 100_000


def files(folder: Path, name: str | None) -> dict[str, Path]:
    """The logs by the name of their process; the name `projector` stands for all workers."""
    every = {file.stem: file for file in sorted(folder.glob("*.log"))}
    return {
        stem: file
        for stem, file in every.items()
        if name is None or stem == name or stem.startswith(f"{name}-")
    }


def last_lines(logs: Mapping[str, Path], lines: int) -> Iterator[str]:
    """The last lines of each log, each with the name of its process before it."""
    for name, file in logs.items():
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - END_BYTES))
            text = opened.read().decode(errors="replace")
        yield from (f"{name} | {line}" for line in deque(text.splitlines(), lines))


def follow(logs: Mapping[str, Path]) -> Iterator[str]:
    """Every line written from now on, for ever; a log that was rotated is read from its new beginning."""
    opened = {name: _at_end(file) for name, file in logs.items()}
    while True:
        for name, file in logs.items():
            yield from (f"{name} | {line.rstrip()}" for line in opened[name])
            if file.exists() and file.stat().st_size < opened[name].tell():
                opened[name] = file.open(errors="replace")
        time.sleep(LOOK_AGAIN_SECONDS)


def _at_end(file: Path) -> TextIO:
    opened = file.open(errors="replace")
    opened.seek(0, 2)
    return opened
