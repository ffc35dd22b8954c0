"""Files of definitions, and what one changes as a table."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from projections import definition
from projections.agreement.diff import Change, affected
from projections.definition import Definition, DefinitionFaults
from services.cli.exits import REFUSED, end
from services.cli.files import text_of
from services.cli.layout import table


def read_file(file: Path, code: int = REFUSED) -> Definition:
    """The definition in a file; its faults end the command, with this code."""
    try:
        return definition.parse(text_of(file))
    except DefinitionFaults as found:
        end(code, f"{file} is no definition:\n{found}")


def show_changes(out: Console, found: Sequence[Change]) -> None:
    """A sentence a line, with its line in the files, and what the changes reach."""
    if not found:
        out.print("They mean the same.")
        return
    cells = [(change.sentence, change.lines) for change in found]
    table(out, ("change", "line"), cells, wrapped=["change"])
    reached = ", ".join(sorted(affected(found)))
    out.print(f"Rows may differ in: {reached}." if reached else "No row of the past differs.", markup=False)
