"""CSV files, and rows of one file looked up by key from another.

Promises: files are read row by row, each row with the line it begins on; a row that does not fit its header
is told and the rest goes on. Joined files wait in a temporary SQLite file, so memory stays flat: the limit is
the free space for temporary files, about one and a half times the joined CSV files.
"""

import csv
import io
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import NamedTuple, Self

from services.importer.mapping import Input
from services.importer.values import Bad

SEPARATOR = "\x1f"
"""Between the cells of a stored row and the parts of a key: the unit separator, which no export contains."""
LARGEST_CELL = 1024 * 1024
"""A longer cell is a quote that was never closed."""


class Place(NamedTuple):
    """Where a row begins."""

    file: Path
    line: int


Report = Callable[[Place, Bad], None]


class Table:
    """One CSV file, open for reading. A context manager."""

    def __init__(self, file: Path, how: Input) -> None:
        self.file = file
        self._bytes = file.open("rb")
        # Bytes of another encoding become lone surrogates: the contract refuses them where they are used.
        text = io.TextIOWrapper(self._bytes, how.encoding, errors="surrogateescape", newline="")
        csv.field_size_limit(LARGEST_CELL)
        self._reader = csv.reader(text, delimiter=how.delimiter, strict=True)
        self.header = [name.strip() for name in next(self._reader, [])]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bytes.close()

    @property
    def done_bytes(self) -> int:
        """How much of the file was read."""
        return self._bytes.tell()

    def rows(self) -> Iterator[tuple[int, list[str] | Bad]]:
        """Line and cells of each row, or what is wrong with it; empty lines are skipped."""
        width = len(self.header)
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as fault:
                yield line, Bad("bad_csv", str(fault), "a row of CSV", "check its quotes and the delimiter")
                continue
            if len(cells) == width:
                yield line, cells
            elif cells:
                yield line, Bad("bad_csv", f"{len(cells)} cells", f"{width} cells, as in the first line")


class Lookup:
    """Rows of joined files by key, in a temporary SQLite file. A context manager."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="leadlog-import-")
        self._store = sqlite3.connect(str(Path(self._folder.name) / "joined.sqlite"), isolation_level=None)
        self._store.execute("pragma journal_mode = off")
        self._store.execute("pragma synchronous = off")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._store.close()
        self._folder.cleanup()

    def load(self, number: int, table: Table, columns: tuple[str, ...], report: Report) -> None:
        """Keep a file's rows under a number, by these columns."""
        places = [table.header.index(column) for column in columns]
        self._store.execute(f"create table joined_{number} (key text, cells text)")
        self._store.execute("begin")
        self._store.executemany(
            f"insert into joined_{number} values (?, ?)",
            (
                (_stored([cells[place].strip() for place in places]), _stored(cells))
                for cells in _good_rows(table, report)
            ),
        )
        self._store.execute("commit")
        self._store.execute(f"create index joined_{number}_key on joined_{number} (key)")

    def find(self, number: int, key: list[str]) -> list[list[str]]:
        """The rows with this key, in the order of their file."""
        found = self._store.execute(
            f"select cells from joined_{number} where key = ? order by rowid", (_stored(key),)
        )
        return [cells.split(SEPARATOR) for (cells,) in found]


def _good_rows(table: Table, report: Report) -> Iterator[list[str]]:
    for line, cells in table.rows():
        if isinstance(cells, Bad):
            report(Place(table.file, line), cells)
        else:
            yield cells


def _stored(cells: list[str]) -> str:
    """Cells as one text that SQLite can hold: bytes of a wrong encoding become question marks."""
    return SEPARATOR.join(cells).encode("utf-8", "replace").decode()
