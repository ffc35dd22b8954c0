"""YAML as a tree that knows its lines, and readers that collect every fault instead of stopping at the first.

Promises: one meaning per file. What YAML readers disagree about is a fault with the hint to quote (bare
times, dates, yes/no/on/off, octal, hexadecimal and underscored numbers), and so are repeated keys, tags,
anchors and aliases, more than one document, and files too large or too deep: no input crashes, hangs or grows
in memory. Knows nothing of what a definition is: see `projections.definition`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction
from itertools import islice

import yaml

from schemas.records import Micros

MAX_CHARACTERS = 131_072
"""A definition file is a few kilobytes; this bounds the parse to about a second."""
MAX_DEPTH = 40
"""Nested lists and mappings: deeper than any rule a person can read, shallower than Python's stack."""
MAX_TEXT = 200
"""Characters of a name: fits a column heading, and an index entry of Postgres."""
MAX_DURATION_DAYS = 36_525
"""A hundred years: keeps every due time far inside the calendar."""
MAX_NUMBER = 10**12
"""Largest number in a definition: sums of it over any journey stay inside 64 bits."""
MAX_CHOICES = 200
"""Choices that a fault names and looks for a near one in: a thousand wrong names of a thousand calendars are
told in seconds."""

_UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_QUOTE = "; quote it if it is text"

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})?\.[0-9]{1,18}")
_TIME = r"[-+]?[0-9]+(:[0-9]{1,2})+(\.[0-9]*)?"
_DATE = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?"
_OLD_BOOLEAN = "|".join(f"{word}|{word.title()}|{word.upper()}" for word in ("yes", "no", "on", "off"))
_ODD_NUMBER = (
    r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?0[xXoObB][0-9a-fA-F_]*"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TRAPS = (
    (re.compile(_TIME), 'a quoted time such as "10:00": YAML reads a bare one as a number'),
    (re.compile(_DATE), 'a quoted date such as "2026-12-25": YAML reads a bare one as a type of its own'),
    (re.compile(_OLD_BOOLEAN), f"true or false{_QUOTE}: YAML readers differ about a bare one"),
    (re.compile(_ODD_NUMBER), f"a plain decimal number of at most 18 digits{_QUOTE}"),
)
_REMEDIES = {
    "found character '\\t' that cannot start any token": "blanks: YAML takes no tabs before a value",
    "mapping values are not allowed here": "one key a line, and a text with a colon in quotes",
    "found unexpected end of stream": "the rest of the file: a quote or bracket is open",
}
"""What to do about the commonest problems that PyYAML names."""
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff"
    r"\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters, and those of format that turn or hide what is read; joiners, which scripts need, are
none."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong with a file: where (line from 1, path as in `stages[2].role`), what stood there, and
    what was expected."""

    line: int
    path: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path or 'file'}: {self.value}: expected {self.expected}"


class _Broken:
    """Stands for a value already reported, so that it is not reported twice."""


BROKEN = _Broken()
Value = bool | int | Fraction | str | _Broken | list["Node"] | dict[str, "Node"] | None


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A value with its place: `line` is that of its key, if it has one. Decimal numbers are exact fractions.
    `written` is the source, shortened."""

    line: int
    path: str
    written: str
    value: Value


@dataclass(slots=True)
class Reading:
    """Reads nodes as what is expected of them. What is not becomes a fault, and an empty value of that type.

    A node of None is an absent one: its reader gives the empty value too, `fields` has reported it if it was
    needed.
    """

    faults: list[Fault] = field(default_factory=list)

    def fault(self, node: Node, expected: str, value: str | None = None) -> None:
        """Notes that the node, or the `value` named, is not what was expected."""
        self.faults.append(Fault(node.line, node.path, node.written if value is None else value, expected))

    def fields(
        self,
        node: Node | None,
        needed: Sequence[str],
        optional: Sequence[str] = (),
        nullable: Sequence[str] = (),
    ) -> dict[str, Node]:
        """The fields of a mapping; unknown and missing ones are faults, and a key without value: it looks as
        if it said something. Of those that are nullable null is a value."""
        present = self.sections(node, needed, (*optional, *nullable))
        given = node.value if node is not None and isinstance(node.value, dict) else {}
        for key in optional:
            if key in given and given[key].value is None:
                self.fault(given[key], "a value, or no such key")
                present[key] = replace(given[key], value=BROKEN)
        return present | {key: given[key] for key in nullable if key in given}

    def sections(
        self, node: Node | None, needed: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, Node]:
        """As `fields`, but an optional one without value counts as absent: its lines may be commented out."""
        given = self.mapping(node)
        known = (*needed, *optional)
        for key, value in given.items():
            if key not in known:
                self.fault(value, one_of(known, key), f"unknown key {_shown(key)}")
        present = {key: value for key, value in given.items() if key in known and value.value is not None}
        if node is not None and isinstance(node.value, dict):
            for key in needed:
                if key not in present:
                    place = Node(
                        given[key].line if key in given else node.line, _join(node.path, key), "nothing", None
                    )
                    self.fault(place, "a value, this key is needed")
        return present

    def mapping(self, node: Node | None) -> Mapping[str, Node]:
        """Any keys to nodes."""
        if node is not None and isinstance(node.value, dict):
            return node.value
        self._wrong(node, "a mapping of keys to values")
        return {}

    def items(self, node: Node | None) -> list[Node]:
        """A list, also an empty one."""
        if node is not None and isinstance(node.value, list):
            return node.value
        self._wrong(node, "a list")
        return []

    def some(self, node: Node | None) -> list[Node]:
        """A list with at least one item."""
        found = self.items(node)
        if node is not None and node.value == []:
            self.fault(node, "at least one item", "an empty list")
        return found

    def one_or_more(self, node: Node | None) -> list[Node]:
        """One value, or a list of at least one."""
        if node is None or isinstance(node.value, list):
            return self.some(node)
        return [node]

    def text(self, node: Node | None) -> str:
        """Any text that a database can hold."""
        if node is None or not isinstance(node.value, str):
            self._wrong(node, f"text{'' if node is None or isinstance(node.value, dict | list) else _QUOTE}")
            return ""
        if _UNPRINTABLE.search(node.value.replace("\n", "").replace("\t", "")):
            self.fault(node, "text without control or format characters")
        return node.value

    def name(self, node: Node | None) -> str:
        """One line of text, not empty, without blanks at its ends, of at most MAX_TEXT characters."""
        if node is None or not isinstance(node.value, str):
            return self.text(node)
        self.check_name(node, node.value)
        return node.value

    def check_name(self, node: Node, name: str) -> None:
        """Reports a name, also a key of a mapping, that cannot be used as one."""
        if not name or name != name.strip() or len(name) > MAX_TEXT or _UNPRINTABLE.search(name):
            expected = f"a name: one line of 1 to {MAX_TEXT} characters, none of control or format"
            self.fault(node, f"{expected}, no blanks at its ends", _shown(name))

    def names(self, node: Node | None) -> frozenset[str]:
        """One name, or a list of at least one."""
        return frozenset(self.name(item) for item in self.one_or_more(node))

    def choice(self, node: Node | None, choices: Collection[str]) -> str:
        """One of the choices; the empty text if it is not."""
        found = self.text(node)
        if node is None or not isinstance(node.value, str) or found in choices:
            return found
        self.fault(node, one_of(choices, found))
        return ""

    def choices(self, node: Node | None, choices: Collection[str]) -> frozenset[str]:
        """One of the choices, or a list of at least one."""
        return frozenset(self.choice(item, choices) for item in self.one_or_more(node))

    def boolean(self, node: Node | None) -> bool:
        """True or false."""
        if node is not None and isinstance(node.value, bool):
            return node.value
        self._wrong(node, "true or false")
        return False

    def integer(self, node: Node | None, at_least: int = -MAX_NUMBER, at_most: int = MAX_NUMBER) -> int:
        """A whole number between the bounds, both included."""
        expected = f"a whole number from {at_least:,} to {at_most:,}"
        if node is None or not isinstance(node.value, int) or isinstance(node.value, bool):
            self._wrong(node, expected)
            return at_least
        if not at_least <= node.value <= at_most:
            self.fault(node, expected)
        return node.value

    def number(self, node: Node | None) -> int | Fraction:
        """A number, exactly as written."""
        if node is None or not isinstance(node.value, int | Fraction) or isinstance(node.value, bool):
            self._wrong(node, "a number")
            return 0
        if not -MAX_NUMBER <= node.value <= MAX_NUMBER:
            self.fault(node, f"a number from {-MAX_NUMBER:,} to {MAX_NUMBER:,}")
        return node.value

    def duration(self, node: Node | None) -> Micros:
        """Microseconds of an integer and one of s m h d w."""
        written = node.value if node is not None else None
        match = re.fullmatch(r"([0-9]{1,12})([smhdw])", written) if isinstance(written, str) else None
        if node is None or match is None:
            self._wrong(node, "a duration: a whole number and one of s m h d w, such as 90d")
            return 0
        found = int(match[1]) * _UNITS[match[2]]
        if found > MAX_DURATION_DAYS * _UNITS["d"]:
            self.fault(node, f"a duration of at most {MAX_DURATION_DAYS}d")
        return found

    def checked(self, node: Node | None, check: Callable[[str], object]) -> str:
        """Text that `check` takes; what it says in a ValueError is the fault."""
        found = self.text(node)
        if node is not None and isinstance(node.value, str):
            try:
                check(found)
            except ValueError as error:
                self.fault(node, str(error))
        return found

    def unique(self, nodes: Iterable[tuple[Node | None, str]], what: str) -> None:
        """Reports each (node, value) whose value another one before it has."""
        seen: dict[str, int] = {}
        for node, value in nodes:
            if node is None or not value:
                continue
            if value in seen:
                self.fault(node, f"{what} of its own, line {seen[value]} has this one")
            seen.setdefault(value, node.line)

    def _wrong(self, node: Node | None, expected: str) -> None:
        if node is not None and node.value is not BROKEN:
            self.fault(node, expected)


def one_of(choices: Collection[str], found: str) -> str:
    """The words for what was expected, with the nearest choice if one is near, whatever its case."""
    if not choices:
        return "nothing here: there is none to choose from"
    told = tuple(islice(choices, MAX_CHOICES))
    folded = {choice.casefold(): choice for choice in told}
    near = get_close_matches(found.casefold(), folded, 1)
    more = " and others" if len(choices) > MAX_CHOICES else ""
    hint = f"; did you mean {_shown(folded[near[0]])}?" if near else ""
    return f"one of {', '.join(map(_shown, told))}{more}{hint}"


def read(text: str, reading: Reading) -> Node | None:
    """The tree of a YAML text; None, and a fault in `reading`, where it cannot be one."""
    if len(text) > MAX_CHARACTERS:
        reading.faults.append(Fault(1, "", f"{len(text):,} characters", f"at most {MAX_CHARACTERS:,}"))
        return None
    try:
        return _document(yaml.parse(text, Loader=yaml.SafeLoader), reading)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        problem = error.problem or "not YAML"
        reading.faults.append(Fault(line, "", problem, _REMEDIES.get(problem, "valid YAML")))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reading.faults.append(
            Fault(line, "", f"character {_shown(chr(error.character))}", "printable characters")
        )
    except _Hopeless as error:
        reading.faults.append(error.fault)
    return None


class _Hopeless(Exception):
    """The rest of the file cannot be read."""

    def __init__(self, event: yaml.Event, path: str, value: str, expected: str) -> None:
        super().__init__(value)
        self.fault = Fault(_line(event), path, value, expected)


def _document(events: Iterator[yaml.Event], reading: Reading) -> Node:
    root = Node(1, "", "nothing", None)
    documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                reading.faults.append(Fault(_line(event), "", "a second document", "one document"))
                break
            root = _node(next(events), "", events, reading, 0)
    return root


def _node(event: yaml.Event, path: str, events: Iterator[yaml.Event], reading: Reading, depth: int) -> Node:
    line = _line(event)
    _refuse_anchor(event, path, reading)
    if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
        return Node(line, path, "an alias", BROKEN)
    if event.tag is not None:
        reading.faults.append(Fault(line, path, _shown(event.tag), "a value without a tag"))
    if depth > MAX_DEPTH:
        raise _Hopeless(event, path, f"more than {MAX_DEPTH} levels", "less nesting")
    if isinstance(event, yaml.ScalarEvent):
        return Node(line, path, _written(event), _scalar(event, path, reading))
    if isinstance(event, yaml.SequenceStartEvent):
        return Node(line, path, "a list", _sequence(path, events, reading, depth))
    return Node(line, path, "a mapping", _mapping(path, events, reading, depth))


def _refuse_anchor(event: yaml.Event, path: str, reading: Reading) -> None:
    if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
        reading.faults.append(
            Fault(_line(event), path, "an anchor or alias", "the value itself, written out")
        )


def _sequence(path: str, events: Iterator[yaml.Event], reading: Reading, depth: int) -> list[Node]:
    found: list[Node] = []
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        found.append(_node(event, f"{path}[{len(found)}]", events, reading, depth + 1))
    return found


def _mapping(path: str, events: Iterator[yaml.Event], reading: Reading, depth: int) -> dict[str, Node]:
    found: dict[str, Node] = {}
    lines: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        if not isinstance(event, yaml.ScalarEvent):
            reading.faults.append(
                Fault(_line(event), path, "a key that is not plain text", "a name as the key")
            )
            _node(event, path, events, reading, depth + 1)
            _node(next(events), path, events, reading, depth + 1)
            continue
        line, place = _line(event), _join(path, _shown(event.value))
        _refuse_anchor(event, place, reading)
        lines.setdefault(event.value, []).append(line)
        found[event.value] = replace(_node(next(events), place, events, reading, depth + 1), line=line)
    for key, written in lines.items():
        _refuse_repeated(_join(path, _shown(key)), written, reading)
    return found


def _refuse_repeated(path: str, lines: Sequence[int], reading: Reading) -> None:
    """Every place of a key that stands more than once: any of them may be the one that is meant."""
    if len(lines) > 1:
        for line in set(lines):
            others = ", ".join(str(other) for other in lines if other != line) or str(line)
            reading.faults.append(Fault(line, path, f"the same key as in line {others}", "each key once"))


def _scalar(
    event: yaml.ScalarEvent, path: str, reading: Reading
) -> bool | int | Fraction | str | _Broken | None:
    written: str = event.value
    if event.style is not None:
        return written
    if _NULL.fullmatch(written):
        return None
    if _TRUE.fullmatch(written) or _FALSE.fullmatch(written):
        return written.lower() == "true"
    if _INTEGER.fullmatch(written):
        return int(written)
    if _DECIMAL.fullmatch(written):
        return Fraction(written)
    for trap, expected in _TRAPS:
        if trap.fullmatch(written):
            reading.faults.append(Fault(_line(event), path, _shown(written), expected))
            return BROKEN
    return written


def _written(event: yaml.ScalarEvent) -> str:
    """As it stands in the file, in its quotes: they may be what is wrong."""
    quote = event.style if event.style in ("'", '"') else ""
    return f"{quote}{_shown(event.value)}{quote}" or "nothing"


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(text: str) -> str:
    """At most 60 characters on one line that every terminal can print."""
    printable = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text[:61])
    return printable if len(text) <= 60 else printable[:57] + "..."
