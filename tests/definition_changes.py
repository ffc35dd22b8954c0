"""The single-line changes of a definition file, found in its text alone.

Promises: every value is changed, one at a time, and every line that can go is left out, whatever the file
says: one that is new there is changed too. Leaves to its user whether a change moves a row.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import yaml

from projections.definition import EXPOSURE_TYPES, Definition, DefinitionFaults, parse
from projections.predicate import DIRECTIONS, TOUCH_TYPES
from projections.roles import ROLES
from projections.sla_policy import ACTOR_KINDS, CLOCK_RECORDS

DURATION = re.compile(r"(\d+)([smhdw])")
TIME = re.compile(r"(\d\d):(\d\d)")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
CHOICES: dict[str, Sequence[str]] = {
    "touch_type": TOUCH_TYPES,
    "direction": DIRECTIONS,
    "role": ROLES,
    "entered": ROLES,
    "record": CLOCK_RECORDS,
    "actor": ACTOR_KINDS,
    "time": ("business", "calendar"),
    "zone": ("UTC", "America/New_York"),
    "exposures": EXPOSURE_TYPES,
}
"""What a key may say where it may not say just anything."""


class Edit(NamedTuple):
    """Other text from one character of a file to another."""

    begin: int
    end: int
    written: str


class SingleChange(NamedTuple):
    """One line changed, in one or several ways, each alone."""

    path: str
    """Of the value; of a line that is left out, `without` and what it says."""
    line: int
    """From 1, in both files for a value, in the earlier one for a line that is left out."""
    edits: list[Edit]


def changed_values(text: str) -> Iterator[SingleChange]:
    """Every value in the order of the file. An edit may make no definition."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None
    for path, key, node in _values(root, "", ""):
        begin, end = node.start_mark.index, node.end_mark.index
        edits = [Edit(begin, end, other) for other in _others(key, text[begin:end])]
        yield SingleChange(path, node.start_mark.line + 1, edits)


def lines_left_out(text: str) -> Iterator[SingleChange]:
    """Every line without which the file is still a definition."""
    end = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        begin, end, said = end, end + len(line), line.partition("#")[0].strip()
        edit = Edit(begin, end, "")
        if said and edited(text, edit) is not None:
            yield SingleChange(f"without {said}", number, [edit])


def edited(text: str, *edits: Edit) -> Definition | None:
    """The definition with these edits; None if it is none."""
    for begin, end, written in sorted(edits, reverse=True):
        text = text[:begin] + written + text[end:]
    try:
        return parse(text)
    except DefinitionFaults:
        return None


def _values(node: yaml.Node, path: str, key: str) -> Iterator[tuple[str, str, yaml.ScalarNode]]:
    match node:
        case yaml.ScalarNode():
            yield path, key, node
        case yaml.SequenceNode():
            for number, item in enumerate(node.value):
                yield from _values(item, f"{path}[{number}]", key)
        case yaml.MappingNode():
            for name, value in node.value:
                yield from _values(value, f"{path}.{name.value}".lstrip("."), name.value)


def _others(key: str, written: str) -> list[str]:
    """Other values of the kind."""
    bare = written.strip("\"'")
    if key in CHOICES:
        return [each for each in CHOICES[key] if each != bare]
    if match := DURATION.fullmatch(bare):
        number, unit = int(match[1]), match[2]
        return [f"{other}{unit}" for other in (number * 2, number // 2, 1)]
    if match := TIME.fullmatch(bare):
        hour = int(match[1])
        return [f'"{other:02}:{match[2]}"' for other in (hour + 1, hour - 1) if 0 <= other < 24]
    if DATE.fullmatch(bare):
        day = date.fromisoformat(bare)
        return [f'"{day + timedelta(days=days)}"' for days in (1, -1)]
    if bare in ("true", "false"):
        return ["false" if bare == "true" else "true"]
    if re.fullmatch(r"\d+", bare):
        return [str(other) for other in (int(bare) + 1, int(bare) * 2, int(bare) // 2)]
    if re.fullmatch(r"0?\.\d+", bare):
        return [f"{float(bare) / 2:g}", "0.95"]
    return [f"{bare}_other" if bare == written else f'"{bare}_other"']
