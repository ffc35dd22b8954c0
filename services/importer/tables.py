"""CSV files, and rows of one file looked up by key from another.

Promises: files are read row by row, each row with the line it begins on; a row that does not fit its header
is told and the rest goes on. What is needed of joined files waits in memory if it is little, else in a
temporary SQLite file, so memory stays flat: the limit is the free space for temporary files, a few times what
is needed.
"""

import codecs
import csv
import io
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

from services.importer.mapping import Input, Join
from services.importer.values import Bad, Row

SEPARATOR = "\x1f"
"""Between the cells of a stored row and the parts of a key: the unit separator. Rows that hold it are bad."""
LARGEST_CELL = 1024 * 1024
"""A longer cell is a quote that was never closed."""
ROWS_IN_MEMORY = 10_000
"""A joined file of no more rows, such as a list of stages, stays in memory: a few MB."""
KEYS_REMEMBERED = 10_000
"""Of a larger one the rows of so many keys, since rows of one lead often stand together."""

ESCAPED = "leadlog.escaped"
"""The name of `_escaped` among Python's ways to go on after wrong bytes."""

Cells = list[str]
Key = tuple[str, ...]
Pick = Callable[[Cells], Row]
Find = Callable[[Key], Sequence[Row]]


class Line(NamedTuple):
    """A row of a file: the line it begins on, its cells, and what is wrong with it."""

    number: int
    cells: Cells
    bad: Bad | None


class Table:
    """One CSV file, open for reading. A context manager."""

    def __init__(self, file: Path, how: Input) -> None:
        """Reads the header. Raises csv.Error, OSError."""
        self.file = file
        self._bytes = file.open("rb")
        text = io.TextIOWrapper(self._bytes, how.encoding, errors=ESCAPED, newline="")
        csv.field_size_limit(LARGEST_CELL)
        self._reader = csv.reader(text, delimiter=how.delimiter, strict=True)
        try:
            self.header = [name.strip() for name in next(self._reader, [])]
        except csv.Error:
            self._bytes.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    @property
    def done_bytes(self) -> int:
        """How much of the file was read."""
        return self._bytes.tell()

    def lines(self) -> Iterator[Line]:
        """Every row; empty lines are skipped."""
        while True:
            number = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as fault:
                hint = "check its quotes and the delimiter"
                yield Line(number, [], Bad("bad_csv", str(fault), "a row of CSV", hint))
                continue
            if cells:
                yield Line(number, cells, self._fault(cells))

    def _fault(self, cells: Cells) -> Bad | None:
        if len(cells) != len(self.header):
            return Bad("bad_csv", f"{len(cells)} cells", f"{len(self.header)} cells, as in the first line")
        if SEPARATOR in "".join(cells):
            return Bad("bad_csv", "the character U+001F", "text without control characters")
        return None


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no text in their encoding become lone surrogates: the contract refuses them where they
    are used. Python's `surrogateescape` has none for bytes below 128, which half a character of UTF-16 is."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPED, _escaped)


def picker(header: Sequence[str], columns: Sequence[str]) -> Pick:
    """From the cells of a row to those of some columns by name, blanks around them cut."""
    places = [header.index(column) for column in columns]
    if len(places) < 2:
        return lambda cells: {name: cells[at].strip() for name, at in zip(columns, places, strict=True)}
    cells_of: Callable[[Cells], tuple[str, ...]] = itemgetter(*places)
    return lambda cells: dict(zip(columns, map(str.strip, cells_of(cells)), strict=True))


class Joined(NamedTuple):
    """The rows that one join may add, columns as `input.column`."""

    find: Find
    """Those with a key, in the order of their file."""
    nothing: Row
    """Empty cells, where there are none."""


class Lookup:
    """Rows of joined files by key: few in memory, many in a temporary SQLite file. A context manager."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="leadlog-import-")
        self._store = sqlite3.connect(str(Path(self._folder.name) / "joined.sqlite"), isolation_level=None)
        self._store.execute("pragma journal_mode = off")
        self._store.execute("pragma synchronous = off")
        # One transaction to the end: each look of its own would lock the file, for three times the cost.
        self._store.execute("begin")
        self._tables = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._folder.cleanup()

    def load(self, join: Join, header: Cells, columns: Cells, rows: Iterable[Cells]) -> Joined:
        """Keeps these columns of rows for a join."""
        names = [f"{join.input}.{column}" for column in columns]
        key_of, row_of = picker(header, join.columns), picker(header, columns)
        pairs = ((tuple(key_of(cells).values()), tuple(row_of(cells).values())) for cells in rows)
        few = list(islice(pairs, ROWS_IN_MEMORY + 1))
        find = (
            _in_memory(few, names) if len(few) <= ROWS_IN_MEMORY else self._stored(chain(few, pairs), names)
        )
        return Joined(find, dict.fromkeys(names, ""))

    def _stored(self, pairs: Iterable[tuple[Key, Key]], names: Cells) -> Find:
        self._tables += 1
        table = f"joined_{self._tables}"
        self._store.execute(f"create table {table} (key blob, cells blob)")
        self._store.executemany(
            f"insert into {table} values (?, ?)", ((_packed(key), _packed(cells)) for key, cells in pairs)
        )
        # With the cells in the index one look into it is enough.
        self._store.execute(f"create index {table}_key on {table} (key, cells)")
        query = f"select cells from {table} where key = ? order by rowid"

        def find(key: Key) -> Sequence[Row]:
            found = self._store.execute(query, (_packed(key),))
            return [dict(zip(names, _unpacked(cells), strict=True)) for (cells,) in found]

        return lru_cache(KEYS_REMEMBERED)(find)


def _in_memory(pairs: Iterable[tuple[Key, Key]], names: Cells) -> Find:
    found: dict[Key, list[Row]] = {}
    for key, cells in pairs:
        found.setdefault(key, []).append(dict(zip(names, cells, strict=True)))
    return lambda key: found.get(key, ())


def _packed(cells: Iterable[str]) -> bytes:
    """Cells as SQLite can hold them, whatever their file held: its texts take no surrogates."""
    return SEPARATOR.join(cells).encode("utf-8", "surrogatepass")


def _unpacked(packed: bytes) -> Cells:
    return packed.decode("utf-8", "surrogatepass").split(SEPARATOR)
