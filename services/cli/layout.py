"""How tables look on a terminal and in a pipe: aligned text, colours only on a terminal.

Promises: no column and no character is left out, however narrow the terminal; whatever events say, a cell or
a sentence is one line without control characters.
"""

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from schemas.instants import rfc3339
from services.wording import legible

PIPE_COLUMNS = 10**9
"""Width when nobody looks at a terminal: lines are as long as they need, so that grep finds whole lines."""
NARROW, NARROWEST = 10, 6
"""How narrow a column of text may become if possible, and if it must; below it the terminal breaks lines."""
GAP = 2
"""Blanks between two columns of a table."""


class Legible(Console):
    """Writes the control characters of sentences out."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A sentence as Rich prints it."""
        return super().render_str(legible(text), **options)


def console() -> Console:
    """Standard output."""
    is_terminal = sys.stdout.isatty()
    return Legible(highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else PIPE_COLUMNS)


def section(out: Console, title: str) -> None:
    """A heading."""
    out.print()
    out.print(Text(legible(title), style="bold"))


def table(
    out: Console,
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Collection[str] = (),
    wrapped: Collection[str] = (),
) -> None:
    """An aligned table without frame; None is shown as nothing.

    Columns in `right`, numbers, stand to the right and are never broken. When the terminal is narrow, texts
    are broken into lines: those in `wrapped` if that is enough, else all, within words only if it must be.
    """
    lines = [["" if value is None else legible(str(value)) for value in row] for row in rows]
    columns = list(zip(headings, *lines, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    texts = [heading for heading in headings if heading not in right]
    words = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    narrow, narrowest = ([min(width, most) for width in widths] for most in (NARROW, NARROWEST))
    steps = (wrapped, narrow), (texts, words), (wrapped, narrowest), (texts, narrow), (texts, narrowest)
    for giving, floor in steps:
        least = [
            low if heading in giving else width
            for heading, width, low in zip(headings, widths, floor, strict=True)
        ]
        needed = sum(least) + GAP * len(least)
        if needed <= out.width:
            break
    _widen(least, widths, out.width - needed)
    shown = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim", show_edge=False)
    for heading, width in zip(headings, least, strict=True):
        justify: JustifyMethod = "right" if heading in right else "left"
        shown.add_column(heading, justify=justify, overflow="fold", width=width)
    for line in lines:
        shown.add_row(*map(Text, line))
    terminal = out.width
    out.width = max(terminal, needed)  # else columns are squeezed until they are gone
    with out.capture() as captured:
        out.print(shown)
    out.width = terminal
    out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _widen(given: list[int], wanted: Sequence[int], room: int) -> None:
    """Hands out the room that is left, always to the column that lacks most."""
    lacks = [want - has for want, has in zip(wanted, given, strict=True)]
    for _ in range(min(room, sum(lacks))):
        column = lacks.index(max(lacks))
        given[column] += 1
        lacks[column] -= 1


def plain(name: str, value: Any) -> Any:
    """The value of a column; an instant in microseconds becomes RFC 3339."""
    return rfc3339(value) if value is not None and name.endswith(("_at", "_until", "_from")) else value
