"""The single changes that lead from one definition to another, each as a definition that differs in it alone.

Promises: applied together they give the other definition; a change is the smallest part that is new, gone,
elsewhere or another value, and decides something. Stages, policies and models are the same if their names
are. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from projections import definition
from projections.agreement.diff import diff
from projections.definition import Definition
from projections.yaml_tree import Node

NAMES = ("name", "id")
"""Members that name a part of a list."""
LABELS = ("definition_id", "version", "rationale")
"""Members that decide nothing."""

_encoder = msgspec.json.Encoder(order="sorted")


class Change(NamedTuple):
    """`reason` says the change in the language of the trade, with its line in the later file, or in the
    earlier one, as gone; `definition` is the earlier one with this change only, None where that makes no
    definition."""

    path: str
    reason: str
    definition: Definition | None


class Variant(NamedTuple):
    """A tree with one change, at a path and line (`60`, or `58 gone`)."""

    path: str
    line: str
    tree: Any


def single_changes(before: Definition, after: Definition) -> list[Change]:
    """The changes from one definition to another."""
    labels = {name: value for name, value in _plain(before.root).items() if name in LABELS}
    variants = _variants(_deciding(before.root), _deciding(after.root))
    found = (_change(before, each, _parsed(labels | each.tree)) for each in variants)
    return [change for change in found if change is not None]


def _change(before: Definition, variant: Variant, alone: Definition | None) -> Change | None:
    """None if the change decides nothing."""
    sentences = [each.sentence for each in diff(before, alone)] if alone is not None else [variant.path]
    if not sentences:
        return None
    return Change(variant.path, f"line {variant.line}: {'; '.join(sentences)}", alone)


def _deciding(root: Node) -> Node:
    return replace(root, value={name: node for name, node in _members(root).items() if name not in LABELS})


def _parsed(tree: dict[str, Any]) -> Definition | None:
    text = _encoder.encode(tree).decode()  # JSON is YAML, with every text quoted
    try:
        return definition.parse(text)
    except definition.DefinitionFaults:
        return None


def _plain(node: Node) -> Any:
    match node.value:
        case dict(members):
            return {name: _plain(member) for name, member in members.items()}
        case list(items):
            return [_plain(item) for item in items]
        case Fraction() as number:
            return float(number)
    return node.value


def _members(node: Node) -> dict[str, Node]:
    assert isinstance(node.value, dict)
    return node.value


def _variants(old: Node, new: Node) -> Iterator[Variant]:
    if _written(old) == _written(new):
        return
    match old.value, new.value:
        case dict(), dict():
            yield from _of_members(old, new)
        case list(before), list(after):
            yield from _of_items(before, after)
        case _:
            yield Variant("", str(new.line), _plain(new))


def _written(node: Node) -> str:
    return _encoder.encode(_plain(node)).decode()


def _of_members(old: Node, new: Node) -> Iterator[Variant]:
    before, after, plain = _members(old), _members(new), _plain(old)
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            rest = {key: value for key, value in plain.items() if key != name}
            yield Variant(name, f"{before[name].line} gone", rest)
        elif name not in before:
            yield Variant(name, str(after[name].line), plain | {name: _plain(after[name])})
        else:
            for path, line, part in _variants(before[name], after[name]):
                yield Variant(_joined(name, path), line, plain | {name: part})


def _of_items(old: list[Node], new: list[Node]) -> Iterator[Variant]:
    """By likeness of the items' names, or of the items themselves where they have none."""
    plain = [_plain(item) for item in old]
    matcher = SequenceMatcher(None, [_name(item) for item in old], [_name(item) for item in new], False)
    for tag, begin, end, other_begin, other_end in matcher.get_opcodes():
        if tag == "equal" or (tag == "replace" and end - begin == other_end - other_begin):
            for place, other in zip(range(begin, end), range(other_begin, other_end), strict=True):
                for path, line, part in _variants(old[place], new[other]):
                    name = f"[{_name(old[place], str(place))}]"
                    yield Variant(_joined(name, path), line, [*plain[:place], part, *plain[place + 1 :]])
        else:
            moved = new[other_begin:other_end] or old[begin:end]
            line = f"{moved[0].line}{'' if new[other_begin:other_end] else ' gone'}"
            tree = [*plain[:begin], *map(_plain, new[other_begin:other_end]), *plain[end:]]
            yield Variant(f"[{', '.join(_names(moved))}]", line, tree)


def _names(items: Sequence[Node]) -> list[str]:
    return [_name(item, str(place)) for place, item in enumerate(items)]


def _name(item: Node, unnamed: str | None = None) -> str:
    """The item's name, if it has one; a mapping without is `unnamed`, or as it is written."""
    if isinstance(item.value, dict):
        for name in NAMES:
            if name in item.value:
                return str(_plain(item.value[name]))
        return _written(item) if unnamed is None else unnamed
    return str(_plain(item))


def _joined(name: str, path: str) -> str:
    return name + path if path.startswith("[") or not path else f"{name}.{path}"
