"""What a definition says that another does not, in the language of the trade.

Promises: definitions that mean the same have no difference, whatever their notation; a change names the line
of each file where it stands, and every table of a projection version in which it may change a row. Leaves
which rows do change to whoever folds.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from projections.agreement import reach
from projections.agreement.parts import CONDITIONS, Part, Place, parts_of
from projections.agreement.sentences import (
    FILTER_OF_POLICY,
    NEEDED,
    RULE_OF_STAGE,
    SENTENCES,
    Sentences,
    instead,
)
from projections.agreement.words import name
from projections.definition import Definition
from projections.yaml_tree import Node


class Change(NamedTuple):
    """One thing that is decided otherwise.

    `path` and the lines (from 1) are those of the files; a line is None where nothing is written. `affects`
    holds the tables in which rows may differ.
    """

    path: str
    line_before: int | None
    line_after: int | None
    sentence: str
    affects: frozenset[str]

    @property
    def lines(self) -> str:
        """`26`; `58 gone`; `60 new`; `26, was 24`; `default` where neither file writes it."""
        if self.line_before is None and self.line_after is None:
            return "default"
        if self.line_after is None:
            return f"{self.line_before} gone"
        if self.line_before is None:
            return f"{self.line_after} new"
        moved = "" if self.line_before == self.line_after else f", was {self.line_before}"
        return f"{self.line_after}{moved}"

    @property
    def place(self) -> str:
        """`line 26`, or `default`."""
        return self.lines if self.lines == "default" else f"line {self.lines}"


class Owner(NamedTuple):
    """What a part belongs to: a stage, policy or calendar; within a rule also what encloses the part."""

    kind: str = ""
    key: str = ""
    words: str = ""
    encloses: str = ""
    is_negated: bool = False


class Difference(NamedTuple):
    """A part that is new (no `before`), gone (no `after`), or says something else. `moved` holds the places
    of a part that stands elsewhere in a list."""

    before: Part | None
    after: Part | None
    owner: Owner
    moved: tuple[int, int] | None = None

    @property
    def part(self) -> Part:
        """The part as it is, or was."""
        part = self.after or self.before
        assert part is not None
        return part


def diff(before: Definition, after: Definition) -> list[Change]:
    """The changes from one definition to another, in the order of the later file."""
    found = _differences(parts_of(before), parts_of(after), Owner())
    changes = [_change(each, before, after) for each in found]
    return sorted(changes, key=lambda change: (change.line_after or change.line_before or 0, change.path))


def affected(changes: Iterable[Change]) -> frozenset[str]:
    """The tables in which rows may differ. None: nothing of the past changes, so nothing needs a replay."""
    return frozenset[str]().union(*(change.affects for change in changes))


def _differences(before: Sequence[Part], after: Sequence[Part], owner: Owner) -> Iterator[Difference]:
    pairs = _paired(before, after)
    for old, new in pairs:
        if old is None or new is None:
            yield Difference(old, new, owner)
        elif new.kind in CONDITIONS and old.words == new.words:
            continue  # in another notation, if their kinds or children differ
        elif old.kind == new.kind and new.children:
            if old.key != new.key and new.kind in SENTENCES:
                yield Difference(old, new, owner)
            yield from _differences(old.children, new.children, _owner(new, owner))
        elif old.words != new.words:
            yield Difference(old, new, owner)
    yield from _moves(before, after, pairs, owner)


Pair = tuple[Part | None, Part | None]
NAMED = ("stage", "hours", "policy", "model")
"""Kinds of parts that people know by their names: one of another name is another, unless it says the same."""


def _alike(part: Part) -> Hashable:
    """What a part without its like by name shares with what it may have been before."""
    if part.kind not in NAMED:
        return part.kind
    says = [(each.kind, each.words) for each in part.children]
    return part.kind, tuple(says) or part.words.removeprefix(f"{name(str(part.key))}: ")


LIKENESS: tuple[Callable[[Part], Hashable], ...] = (
    lambda part: part.words if part.kind in CONDITIONS else (part.kind, part.key, part.words),
    lambda part: (part.kind, part.key),
    _alike,
    lambda part: "condition" if part.kind in CONDITIONS else _alike(part),
)
"""What makes two parts a pair, the nearest likeness first."""


def _paired(before: Sequence[Part], after: Sequence[Part]) -> list[Pair]:
    """Each part once, with its like in the other definition if it has one."""
    old, new, pairs = list(before), list(after), list[Pair]()
    for likeness in LIKENESS:
        waiting: dict[Hashable, list[Part]] = defaultdict(list)
        for part in old:
            waiting[likeness(part)].append(part)
        found = [(waiting[likeness(part)].pop(0), part) for part in new if waiting[likeness(part)]]
        pairs += found
        old = [part for part in old if not any(part is one for one, _ in found)]
        new = [part for part in new if not any(part is other for _, other in found)]
    return [*pairs, *((part, None) for part in old), *((None, part) for part in new)]


def _moves(
    before: Sequence[Part], after: Sequence[Part], pairs: list[Pair], owner: Owner
) -> Iterator[Difference]:
    """Parts of lists whose order counts that stand elsewhere among those that stayed."""
    for kind in dict.fromkeys(part.kind for part in after if part.kind in SENTENCES):
        if not SENTENCES[kind].moved:
            continue
        stayed = [(old, new) for old, new in pairs if old and new and new.kind == old.kind == kind]
        was = sorted(range(len(stayed)), key=lambda n: _place_of(stayed[n][0], before))
        now = sorted(range(len(stayed)), key=lambda n: _place_of(stayed[n][1], after))
        blocks = SequenceMatcher(None, was, now, autojunk=False).get_matching_blocks()
        kept = {now[block.b + n] for block in blocks for n in range(block.size)}
        for number in now:
            old, new = stayed[number]
            if number not in kept:
                yield Difference(old, new, owner, (_place_of(old, before), _place_of(new, after)))


def _place_of(part: Part, parts: Sequence[Part]) -> int:
    """The part's place among those of its kind, from 1."""
    return 1 + next(
        n for n, one in enumerate(each for each in parts if each.kind == part.kind) if one is part
    )


def _owner(part: Part, owner: Owner) -> Owner:
    """The owner of the children of a part."""
    if part.kind not in CONDITIONS:
        return Owner(part.kind, str(part.key), part.words)
    return owner._replace(encloses=part.kind, is_negated=owner.is_negated ^ (part.kind == "not"))


def _change(found: Difference, before: Definition, after: Definition) -> Change:
    old, new = found.before, found.after
    was, now = _narrowed(old.place if old else None, new.place if new else None)
    place = now or was
    assert place is not None
    return Change(
        path=place.path,
        line_before=was.line if was else None,
        line_after=now.line if now else None,
        sentence=_sentence(found),
        affects=_reach(found, before) | _reach(found, after),
    )


def _narrowed(before: Place | None, after: Place | None) -> tuple[Place | None, Place | None]:
    """The one place inside both at which they differ; themselves if there are several."""
    if before is None or after is None or before.node is None or after.node is None:
        return before, after
    pairs = _inner(before.node, after.node)
    differing = [(one, other) for one, other in pairs if not _is_alike(one, other)]
    if len(differing) != 1:
        return before, after
    [(one, other)] = differing
    return _narrowed(Place(one.path, one), Place(other.path, other))


def _inner(before: Node, after: Node) -> list[tuple[Node, Node]]:
    """The values inside two nodes, if they are of one shape."""
    match before.value, after.value:
        case dict(old), dict(new) if old.keys() == new.keys():
            return [(old[key], new[key]) for key in old]
        case list(old), list(new) if len(old) == len(new):
            return list(zip(old, new, strict=True))
    return []


def _is_alike(before: Node, after: Node) -> bool:
    if isinstance(before.value, dict | list) and isinstance(after.value, dict | list):
        pairs = _inner(before, after)
        return bool(pairs or not (before.value or after.value)) and all(_is_alike(*pair) for pair in pairs)
    return before.value == after.value


def _sentence(found: Difference) -> str:
    old, new, told = found.before, found.after, _told(found)
    owner = found.owner
    values = {
        "owner": owner.words
        if owner.kind != "policy" or not owner.encloses
        else f"The filter of {owner.words}",
        "key": found.part.key,
        "words": found.part.words,
    }
    if old is None or new is None:
        return (told.gone if new is None else told.new).format(**values)
    values |= {
        "after": new.words,
        "before": old.words,
        "key_before": old.key,
        "now": instead(new.words, old.words),
    }
    if found.moved:
        return told.moved.format(**values, place_before=found.moved[0], place=found.moved[1])
    return told.changed.format(**values)


def _told(found: Difference) -> Sentences:
    owner = found.owner
    if found.part.kind not in CONDITIONS:
        return SENTENCES[found.part.kind]
    if not owner.encloses:
        return RULE_OF_STAGE if owner.kind == "stage" else FILTER_OF_POLICY
    return NEEDED[owner.encloses, owner.is_negated]


def _reach(found: Difference, definition: Definition) -> frozenset[str]:
    kind = found.part.kind
    if kind in CONDITIONS:
        return reach.of_condition(found.owner.kind)
    match kind:
        case "stage" if found.moved:
            return reach.NOTHING
        case "scoring":
            return reach.of_scoring(definition)
        case "channel":
            return reach.of_channels(definition)
        case "hours":
            return reach.of_calendar(definition, str(found.part.key))
        case "zone" | "opening" | "holiday":
            return reach.of_calendar(definition, found.owner.key)
    return reach.REACH[kind]
