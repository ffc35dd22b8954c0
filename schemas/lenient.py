"""Well-formed JSON that msgspec does not read: halves of surrogate pairs, numbers that no double holds.

Promises: it is decoded, so that a fault can be told at its place, and cut into events; what is no JSON raises
ValueError or RecursionError. Slower than msgspec: used only once that has refused. Nothing decoded here is
ever taken.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

LONGEST_INTEGER = 1_000
"""Digits; a longer one is far out of every range, and becomes an endless number."""
_BLANKS = re.compile(r"[ \t\n\r]*")


def decode(line: bytes) -> Any:
    """The value of a JSON text in UTF-8."""
    return _DECODER.decode(line.decode())


def pieces(body: bytes) -> Iterator[bytes]:
    """The object of a JSON text, or the elements of its array, each as it was written."""
    text = body.decode().strip(" \t\n\r")
    if not text.startswith("["):
        _DECODER.decode(text)
        yield text.encode()
        return
    end = 0
    while text[end : end + 1] in ("[", ","):
        begin = _after_blanks(text, end + 1)
        _, end = _DECODER.raw_decode(text, begin)
        yield text[begin:end].encode()
        end = _after_blanks(text, end)
    if text[end:] != "]":
        raise ValueError(f"neither a comma nor the end of the array (character {end})")


def _after_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    assert blanks is not None, "it matches nothing too"
    return blanks.end()


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_constant)
