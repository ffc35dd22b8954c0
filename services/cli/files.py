"""Files that a person names on the command line."""

from pathlib import Path

import click

from services.cli.exits import USAGE, end

TEXT_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def text_of(file: Path) -> str:
    """The text of a file in UTF-8; ends the command if it is none."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        end(USAGE, f"{file} is no text in UTF-8 (byte {error.start} is {error.object[error.start]:#04x})")
