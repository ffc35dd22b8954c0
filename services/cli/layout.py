"""How tables look on a terminal and in a pipe: aligned text, colours only on a terminal.

Promises: whatever events say, a cell or a sentence is one line without control characters.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from schemas.instants import rfc3339
from services.wording import legible

PIPE_COLUMNS = 400
"""Width when nobody looks at a terminal: lines are as long as they need, so that grep finds whole lines."""


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
    right: Iterable[str] = (),
    wrapped: Iterable[str] = (),
) -> None:
    """An aligned table without frame; None is shown as nothing.

    Columns in `right` stand to the right; those in `wrapped` give way first when the terminal is narrow.
    """
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for heading in headings:
        justify: JustifyMethod = "right" if heading in right else "left"
        shown.add_column(heading, justify=justify, overflow="fold", no_wrap=heading not in wrapped)
    for row in rows:
        shown.add_row(*("" if value is None else Text(legible(str(value))) for value in row))
    with out.capture() as lines:
        out.print(shown)
    out.file.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))


def plain(name: str, value: Any) -> Any:
    """The value of a column; an instant in microseconds becomes RFC 3339."""
    return rfc3339(value) if value is not None and name.endswith(("_at", "_until", "_from")) else value
