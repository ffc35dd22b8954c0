"""The single changes that lead from one definition to another, each as a definition that differs in it alone.

Promises: applied together they give the other definition; a change is the smallest part that is new, gone,
elsewhere or another value. Stages, policies and models are the same if their names are. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import msgspec
import yaml

from projections import definition
from projections.agreement import diff as agreement

NAMES = ("name", "id")
"""Members that name a part of a list."""
LABELS = ("definition_id", "version", "rationale")
"""Members that decide nothing."""


class Change(NamedTuple):
    """`reason` says the change in the language of the trade, with the line where it stands; `body` is the
    earlier definition with this change only, None where that makes no definition."""

    path: str
    reason: str
    body: str | None


def single_changes(before: str, after: str) -> list[Change]:
    """The changes from one definition's text to another's that decide something otherwise."""
    old, new = (_deciding(yaml.safe_load(text)) for text in (before, after))
    labels = {name: yaml.safe_load(before)[name] for name in LABELS if name in yaml.safe_load(before)}
    bodies = [(path, _body(labels | tree)) for path, tree in _variants(old, new)]
    lines = {each.sentence: each.line_after or each.line_before for each in _told(before, after)}
    return [Change(path, _reason(path, before, body, lines), body) for path, body in bodies]


def _reason(path: str, before: str, body: str | None, lines: Mapping[str, int | None]) -> str:
    told = [each.sentence for each in _told(before, body)] if body else []
    at = [line for sentence in told if (line := lines.get(sentence))]
    return f"line {at[0]}: {'; '.join(told)}" if at else "; ".join(told) or path


def _told(before: str, after: str) -> list[agreement.Change]:
    try:
        return agreement.diff(definition.parse(before), definition.parse(after))
    except definition.DefinitionFaults:
        return []


def _deciding(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name not in LABELS}


def _body(tree: dict[str, Any]) -> str | None:
    text = msgspec.json.encode(tree).decode()  # JSON is YAML, with every text quoted
    try:
        definition.parse(text)
    except definition.DefinitionFaults:
        return None
    return text


def _variants(old: Any, new: Any) -> Iterator[tuple[str, Any]]:
    """Path of a change and the old tree with it."""
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _of_members(old, new)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_items(old, new)
    else:
        yield "", new


def _of_members(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            yield name, {key: value for key, value in old.items() if key != name}
        elif name not in old:
            yield name, old | {name: new[name]}
        else:
            for path, part in _variants(old[name], new[name]):
                yield _joined(name, path), old | {name: part}


def _of_items(old: list[Any], new: list[Any]) -> Iterator[tuple[str, Any]]:
    """By likeness of the items' names, or of the items themselves where they have none."""
    matcher = SequenceMatcher(None, _names(old), _names(new), autojunk=False)
    for tag, begin, end, other_begin, other_end in matcher.get_opcodes():
        if tag == "equal" or (tag == "replace" and end - begin == other_end - other_begin):
            for place, other in zip(range(begin, end), range(other_begin, other_end), strict=True):
                for path, part in _variants(old[place], new[other]):
                    yield (
                        _joined(f"[{_name(old[place], place)}]", path),
                        [*old[:place], part, *old[place + 1 :]],
                    )
        else:
            yield from _moved(old, new, (begin, end, other_begin, other_end))


def _moved(old: list[Any], new: list[Any], places: tuple[int, int, int, int]) -> Iterator[tuple[str, Any]]:
    begin, end, other_begin, other_end = places
    named = [_name(item, place) for place, item in enumerate(new[other_begin:other_end] or old[begin:end])]
    yield f"[{', '.join(named)}]", [*old[:begin], *new[other_begin:other_end], *old[end:]]


def _names(items: Sequence[Any]) -> list[str]:
    return [_name(item, None) for item in items]


def _name(item: Any, place: int | None) -> str:
    if isinstance(item, dict):
        for name in NAMES:
            if name in item:
                return str(item[name])
        return msgspec.json.encode(item).decode() if place is None else str(place)
    return str(item)


def _joined(name: str, path: str) -> str:
    return name + path if path.startswith("[") or not path else f"{name}.{path}"
