"""Raw records on disk, divided by journey, with where each event id occurs.

Promises: a file is there whole or not at all; memory is bounded by `FLUSH_BYTES` whatever the number of
records. One file holds what one unit of reading found; every part of it can be read alone. Leaves which
bucket a record belongs to, and what its id is, to the caller.
"""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self
from zlib import crc32

import msgspec

FLUSH_BYTES = 16 * 1024 * 1024
"""Bodies kept in memory before they are written."""
OFFSET_BITS = 40
"""A place is the number of the file above so many bits of offset."""

Segments = dict[str, list[tuple[int, int]]]
"""Name of a part to offset and length of its pieces."""


class Entries(NamedTuple):
    """Where copies of event ids lie, column by column; equal ids have equal CRC-32, seldom others too."""

    crcs: "array[int]"
    buckets: "array[int]"
    places: "array[int]"
    lengths: "array[int]"


TYPES = "IHQI"
"""Of these columns, as `array` names them."""


class Spill:
    """A file being written; it appears under its name when the block ends without an error."""

    def __init__(self, path: Path, number: int, buckets: int, id_buckets: int) -> None:
        self._path, self._number, self._id_buckets = path, number, id_buckets
        self._partial = path.with_name(f".{path.name}.{os.getpid()}")
        self._bodies: list[list[bytes]] = [[] for _ in range(buckets)]
        self._ids: list[list[int]] = [[] for _ in range(buckets)]
        self._marks: list[set[int]] = [set() for _ in range(id_buckets)]
        self._bytes = 0
        self._segments: Segments = {}

    def __enter__(self) -> Self:
        self._file = self._partial.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()
        self._file.close()
        if kind is None:
            self._partial.rename(self._path)

    def add(self, bucket: int, event_id: bytes, body: bytes) -> None:
        """Keeps a record."""
        self._bodies[bucket].append(body)
        self._ids[bucket].append(crc32(event_id))
        self._bytes += len(body)
        if self._bytes > FLUSH_BYTES:
            self._flush()

    def mark(self, event_id: str) -> None:
        """Notes an id whose copies must be looked at, wherever they are."""
        crc = crc32(event_id.encode())
        self._marks[crc % self._id_buckets].add(crc)

    def _flush(self) -> None:
        entries = [Entries(*(array(code) for code in TYPES)) for _ in range(self._id_buckets)]
        for bucket, bodies in enumerate(self._bodies):
            if bodies:
                self._write_bucket(bucket, bodies, entries)
        for part, columns in enumerate(entries):
            for name, column in zip(Entries._fields, columns, strict=True):
                self._write(f"{name}{part}", column.tobytes())
        self._bytes = 0

    def _write_bucket(self, bucket: int, bodies: list[bytes], entries: list[Entries]) -> None:
        place = self._number << OFFSET_BITS | self._file.tell()
        lengths = array("I", map(len, bodies))
        self._write(f"bodies{bucket}", b"".join(bodies))
        self._write(f"sizes{bucket}", lengths.tobytes())
        for crc, length in zip(self._ids[bucket], lengths, strict=True):
            crcs, buckets, places, sizes = entries[crc % self._id_buckets]
            crcs.append(crc)
            buckets.append(bucket)
            places.append(place)
            sizes.append(length)
            place += length
        bodies.clear()
        self._ids[bucket].clear()

    def _write(self, name: str, content: bytes) -> None:
        self._segments.setdefault(name, []).append((self._file.tell(), len(content)))
        self._file.write(content)

    def _finish(self) -> None:
        self._flush()
        for part, marks in enumerate(self._marks):
            self._write(f"marks{part}", array("I", sorted(marks)).tobytes())
        index = msgspec.msgpack.encode(self._segments)
        self._file.write(index + len(index).to_bytes(8))
        self._file.flush()
        os.fsync(self._file.fileno())


class Spilled:
    """A file that was written."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        size = os.fstat(self._descriptor).st_size
        length = int.from_bytes(os.pread(self._descriptor, 8, size - 8))
        index = os.pread(self._descriptor, length, size - 8 - length)
        self._segments = msgspec.msgpack.decode(index, type=Segments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def bodies(self, bucket: int) -> Iterator[bytes]:
        """The records of a bucket."""
        lengths = array("I", self._read(f"sizes{bucket}"))
        content = self._read(f"bodies{bucket}")
        place = 0
        for length in lengths:
            yield content[place : (place := place + length)]

    def entries(self, part: int) -> Entries:
        """The entries of one part of the ids."""
        columns = zip(Entries._fields, TYPES, strict=True)
        return Entries(*(array(code, self._read(f"{name}{part}")) for name, code in columns))

    def marks(self, part: int) -> "array[int]":
        """CRCs of the ids of one part that were marked."""
        return array("I", self._read(f"marks{part}"))

    def body(self, place: int, length: int) -> bytes:
        """The record at a place of this file."""
        return os.pread(self._descriptor, length, place & ((1 << OFFSET_BITS) - 1))

    def _read(self, name: str) -> bytes:
        pieces = self._segments.get(name, ())
        return b"".join(os.pread(self._descriptor, length, offset) for offset, length in pieces)
