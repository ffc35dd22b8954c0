"""Reads `LEADLOG_` variables, and tells which one cannot be used. Which there are is `services.settings`'."""

import os
from collections.abc import Sequence
from pathlib import Path


class WrongSetting(ValueError):
    """A setting has a value that cannot be used."""


def text(name: str, default: str) -> str:
    """The setting `LEADLOG_<name>` or its default."""
    return os.environ.get(f"LEADLOG_{name}", default)


def path(name: str) -> str:
    """The setting `LEADLOG_<name>` as an absolute path, nothing when it is not given."""
    given = text(name, "")
    return given and str(Path(given).absolute())


def number(name: str, default: int) -> int:
    """The setting `LEADLOG_<name>` as a whole number, or its default. Raises WrongSetting."""
    given = text(name, str(default))
    if not given.isdecimal():
        raise WrongSetting(f"LEADLOG_{name} is {given!r}: expected a whole number, for example {default}")
    return int(given)


def word(name: str, default: str, words: Sequence[str]) -> str:
    """The setting `LEADLOG_<name>` as one of some words, or its default. Raises WrongSetting."""
    given = text(name, default)
    if given not in words:
        raise WrongSetting(f"LEADLOG_{name} is {given!r}: expected one of {', '.join(words)}")
    return given
