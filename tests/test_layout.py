"""Tables of commands: nothing is cut, whatever the width, and numbers stay whole."""

import re
from io import StringIO

import pytest
from rich.console import Console

from services.cli import layout

HEADINGS = ("version", "definition", "status", "made from", "stale", "rows")
ROWS = [
    (12, "house@1+house@2", "building: read 3/10, 1,234/s, 3 min left", "a file (trial)", 7, "1,234,567"),
    (13, "other@3", "fed", "agreed definition, as known at 2026-03-01T09:30:00Z", None, "9,876,543,210"),
]


def shown(columns: int, wrapped: list[str]) -> list[str]:
    """The lines of the table on a terminal of so many columns."""
    out = Console(file=StringIO(), width=columns)
    layout.table(out, HEADINGS, ROWS, right=("version", "stale", "rows"), wrapped=wrapped)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 200, layout.PIPE_COLUMNS])
@pytest.mark.parametrize("wrapped", [[], ["made from"]])
def test_no_column_and_no_digit_is_lost(columns: int, wrapped: list[str]) -> None:
    """On a narrow terminal, and in a pipe, where rows are one line each however long."""
    text = "\n".join(lines := shown(columns, wrapped))
    cells = [str(cell) for row in (HEADINGS, *ROWS) for cell in row if cell is not None]
    assert sorted(re.sub(r"\s", "", text)) == sorted(re.sub(r"\s", "", "".join(cells)))
    for number in ("12", "13", "7", "1,234,567", "9,876,543,210"):
        assert re.search(rf"(^|\s){number}($|\s)", text, re.MULTILINE)
    assert columns < 80 or max(map(len, lines)) <= columns
    assert (len(lines) == 1 + len(ROWS)) == (columns >= 200)


def test_words_stay_whole_while_there_is_room_for_them() -> None:
    """On 80 columns `definition list` broke headings and dates within words."""
    out = Console(file=StringIO(), width=80)
    rows = [("default@1", "was in force", *("2026-11-26 19:49:27",) * 2, *("leadlog up",) * 3)]
    headings = ("definition", "status", "since", "proposed", "by", "marketing", "sales")
    layout.table(out, headings, rows)
    assert isinstance(out.file, StringIO)
    cells = " ".join(str(cell) for row in (headings, *rows) for cell in row)
    assert sorted(out.file.getvalue().split()) == sorted(cells.split())
    assert all(len(line) <= 80 for line in out.file.getvalue().splitlines())


def test_a_row_longer_than_any_terminal_stays_one_line_in_a_pipe() -> None:
    """So that grep finds whole lines."""
    out = Console(file=StringIO(), width=layout.PIPE_COLUMNS, soft_wrap=True)
    layout.table(out, ("reason", "rows"), [("because " * 200, 3)], right=("rows",))
    assert isinstance(out.file, StringIO)
    assert out.file.getvalue().splitlines()[1].split() == [*["because"] * 200, "3"]
