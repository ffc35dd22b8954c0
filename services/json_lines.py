"""Lines of the contract's JSON, checked and cut into chunks; and how far a file has been acknowledged.

Promises: every line is either a record of a chunk or a refusal with all its faults; memory stays flat
whatever comes. A saved position counts only for the same bytes before it and the same log: a file that was
changed there, or a log that was begun anew, is published from the start. Leaves sending to
`services.publisher`.
"""

import asyncio
import hashlib
import os
import stat
import time
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
from msgspec import Struct

from schemas.contract import MAX_EVENT_BYTES, id_of, parse_line
from schemas.faults import Fault, Refused
from schemas.records import Record
from services import settings
from services.publisher import Chunk

MAX_LINE_BYTES = 4 * MAX_EVENT_BYTES
"""Of a longer line no more is kept in memory; it is refused as too large anyway."""


class Refusal(Struct, frozen=True):
    """A line that is not taken, and why."""

    line: int
    event_id: str | None
    faults: tuple[Fault, ...]


class Position(Struct, frozen=True):
    """How far a source is acknowledged: bytes and lines, and what became of the lines."""

    offset: int = 0
    lines: int = 0
    taken: int = 0
    refused: int = 0
    digest: str = hashlib.sha256().hexdigest()
    """SHA-256, as hex, of all bytes before it."""


class Step(NamedTuple):
    """What one chunk means once it is acknowledged: the position after it, and the lines it refused."""

    position: Position
    refusals: list[Refusal]


class Lines(NamedTuple):
    """Whole lines, without their ends, the bytes of the source that they took, and the hash up to there."""

    lines: list[bytes]
    size: int
    digest: str


async def read(file: BinaryIO, begin: Position) -> AsyncIterator[Chunk[Step]]:
    """Chunks of the lines from a position on. Empty lines are skipped."""
    position = begin
    before = _hash_of(file, begin.offset)
    async for lines, size, digest in _whole_lines(_blocks(file), before):
        records: list[Record] = []
        refusals: list[Refusal] = []
        now = time.time_ns() // 1000
        if not position.lines:
            lines[0] = lines[0].removeprefix(BOM_UTF8)
        for number, line in enumerate(lines, position.lines + 1):
            if line and not line.isspace():
                try:
                    records.append(parse_line(line, now=now, may_import=True))
                except Refused as refused:
                    refusals.append(Refusal(number, id_of(line[:MAX_LINE_BYTES]), refused.faults))
        position = Position(
            offset=position.offset + size,
            lines=position.lines + len(lines),
            taken=position.taken + len(records),
            refused=position.refused + len(refusals),
            digest=digest,
        )
        yield Chunk(records, Step(position, refusals))


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    """What is there, as soon as it is there: a pipe is not waited for until a block is full."""
    if not _comes_bit_by_bit(file):
        while block := file.read(settings.PUBLISH_BLOCK_BYTES):
            yield block
        return
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        while block := await reader.read(settings.PUBLISH_BLOCK_BYTES):
            yield block
        transport.close()
    finally:
        if not file.closed:
            os.set_blocking(file.fileno(), True)


def _comes_bit_by_bit(file: BinaryIO) -> bool:
    """A pipe, a socket or a terminal, which a loop can wait for; a file or a device such as /dev/null never
    keeps it waiting."""
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or file.isatty()


async def _whole_lines(blocks: AsyncIterator[bytes], before: "hashlib._Hash") -> AsyncIterator[Lines]:
    rest, dropped = b"", 0
    async for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        end = block.rfind(b"\n") + 1
        before.update(block[:end])
        if lines:
            yield Lines(lines, sum(map(len, lines)) + len(lines) + dropped, before.hexdigest())
            dropped = 0
        before.update(block[end:])
        if len(rest) > MAX_LINE_BYTES:
            dropped += len(rest) - MAX_LINE_BYTES
            rest = rest[:MAX_LINE_BYTES]
    if rest:
        yield Lines([rest], len(rest) + dropped, before.hexdigest())


def _hash_of(file: BinaryIO, size: int) -> "hashlib._Hash":
    """The SHA-256 of the next bytes of a file, which are read."""
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, settings.PUBLISH_BLOCK_BYTES))):
        digest.update(block)
        size -= len(block)
    return digest


class _Saved(Struct, frozen=True):
    log: str
    """The Kafka cluster's id."""
    position: Position


class Bookmark:
    """The saved position of one file on one log, in the state folder; gone once the file is through."""

    def __init__(self, file: Path, log: str) -> None:
        self.file, self.log = file.resolve(), log
        name = hashlib.sha256(os.fsencode(self.file)).hexdigest()[:32]
        self.place = settings.state_folder() / "publish" / f"{name}.json"

    def load(self) -> Position:
        """Where an interrupted run came to; the beginning if there was none, or file or log are others."""
        try:
            saved = msgspec.json.decode(self.place.read_bytes(), type=_Saved)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Position()
        with self.file.open("rb") as file:
            read = _hash_of(file, saved.position.offset).hexdigest()
        same = saved.log == self.log and saved.position.digest == read
        return saved.position if same else Position()

    def save(self, position: Position) -> None:
        """Everything before the position is acknowledged. A crash leaves this position or the one before."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        draft = self.place.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(_Saved(self.log, position)))
        draft.replace(self.place)

    def forget(self) -> None:
        """The file is through: published again, it starts at the beginning."""
        self.place.unlink(missing_ok=True)
