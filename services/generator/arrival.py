"""Sorting by arrival in flat memory.

Promises: lines leave in order of arrival (ties in the order in which they came), whatever their number; what
does not fit in memory waits in a folder that is gone afterwards.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

from schemas.records import Micros
from services import settings

_PREFIX = 48
"""Bytes before the JSON of a waiting line, hexadecimal: arrival (16), number (16), kinds (8), firsts (8)."""


class Line(NamedTuple):
    """A line that has arrived."""

    arrival: Micros
    kinds: int
    firsts: int
    json: bytes


class Arrivals:
    """Lines waiting for their turn, in buckets of equal time; they go to disk when memory is used up."""

    def __init__(self, bucket_width: Micros) -> None:
        self.width = max(1, bucket_width)
        self._folder = TemporaryDirectory(prefix="leadlog-generate-")
        self._waiting: dict[int, list[bytes]] = {}
        self._held = 0
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def put(self, line: Line) -> None:
        """A line that will arrive at its time."""
        self._number += 1
        prefix = b"%016x%016x%08x%08x" % (line.arrival, self._number, line.kinds, line.firsts)
        waiting = self._waiting.setdefault(line.arrival // self.width, [])
        waiting.append(prefix + line.json)
        self._held += len(line.json) + 150
        if self._held > settings.GENERATE_MEMORY_BYTES:
            self._spill()

    def until(self, moment: Micros) -> Iterator[Line]:
        """What arrives in buckets that end at or before the moment; nothing more may be put there."""
        for bucket in sorted(self._waiting):
            if (bucket + 1) * self.width > moment:
                return
            yield from self._take(bucket)

    def rest(self) -> Iterator[Line]:
        """All that still waits."""
        for bucket in sorted(self._waiting):
            yield from self._take(bucket)

    def _take(self, bucket: int) -> Iterator[Line]:
        lines = self._waiting.pop(bucket)
        self._held -= sum(len(line) - _PREFIX + 150 for line in lines)
        file = self._file(bucket)
        if file.exists():
            lines += file.read_bytes().splitlines()
            file.unlink()
        lines.sort()
        for line in lines:
            yield Line(int(line[:16], 16), int(line[32:40], 16), int(line[40:48], 16), line[_PREFIX:])

    def _spill(self) -> None:
        """Buckets keep their key, so that the sorted keys stay the list of all that waits."""
        for bucket, lines in self._waiting.items():
            if lines:
                with self._file(bucket).open("ab") as file:
                    file.write(b"\n".join(lines) + b"\n")
                lines.clear()
        self._held = 0

    def _file(self, bucket: int) -> Path:
        return Path(self._folder.name) / str(bucket)
