"""The kinds of events and journeys that can be asked for, their shares, and the count of what came out.

Promises: each kind has one bit; a line carries the bits of its kinds, and of those it is the first of in its
journey, so that events and journeys of every kind are counted in constant memory, and exactly for the lines
written.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Unit = Literal["events", "journeys", "weeks", "found"]


class Kind(NamedTuple):
    """A kind. `unit` says of what its share is a part; `found` kinds follow from others and cannot be set."""

    name: str
    unit: Unit
    every: float
    usual: float
    meaning: str


KINDS = (
    Kind("journey", "found", 0, 0, "first event of a journey"),
    Kind("late", "events", 4.5, 1.5, "recorded, and arriving, after later events of its journey"),
    Kind("out_of_order", "events", 4.5, 1, "recorded in time, arriving after later events of its journey"),
    Kind("duplicate", "events", 4.5, 0.6, "the same id and content again"),
    Kind("restamped", "events", 3.6, 0.2, "a duplicate with another recorded_at"),
    Kind("conflict", "events", 4.5, 0.03, "the same id with other content"),
    Kind("conflict_elsewhere", "events", 3.6, 0.01, "a conflict under another subject"),
    Kind("retracted_after", "events", 4, 0.2, "a retraction after its target arrived"),
    Kind("retracted_before", "events", 4, 0.02, "a retraction before its target arrives"),
    Kind("retracted_elsewhere", "events", 4, 0.02, "a retraction under another subject than its target's"),
    Kind(
        "faulty",
        "events",
        4.5,
        0.2,
        "valid, but the definition gives it a fault (unknown stage, no win to adjust ..)",
    ),
    Kind("refused", "events", 4, 0, "refused at every door (from the future, accepted by a machine ..)"),
    Kind("linked", "journeys", 72, 55, "subjects linked"),
    Kind("linked_across", "found", 0, 0, "subjects linked whose events lie on different partitions"),
    Kind("unlinked", "journeys", 9, 0.5, "a link taken back"),
    Kind("erased", "journeys", 8, 0.3, "a subject erased"),
    Kind("retraction_retracted", "journeys", 5, 0.05, "a retraction retracted"),
    Kind("link_retracted", "journeys", 4.5, 0.05, "a link or unlink retracted"),
    Kind("cycle", "journeys", 4.5, 0, "retractions or unlinks that name each other"),
    Kind("shared_deal", "journeys", 5, 2, "a deal with several contacts, each a journey"),
    Kind("paused", "journeys", 8, 3, "clocks paused"),
    Kind("calendar", "weeks", 4, 0, "the office calendar gets a holiday"),
    Kind("campaign", "found", 0, 0, "a campaign scheduled or replaced"),
    Kind("accepted", "found", 0, 0, "hand-off accepted"),
    Kind("rejected", "found", 0, 0, "hand-off rejected"),
    Kind("recycled", "found", 0, 0, "qualified again after a rejection"),
    Kind("won", "found", 0, 0, "opportunity won"),
    Kind("lost", "found", 0, 0, "opportunity lost"),
    Kind("reopened", "found", 0, 0, "opportunity reopened"),
    Kind("adjusted", "found", 0, 0, "refund, discount or upsell after the win"),
    Kind("renewed", "found", 0, 0, "customer renewed"),
    Kind("churned", "found", 0, 0, "customer churned"),
)
BIT = {kind.name: 1 << number for number, kind in enumerate(KINDS)}
ADDING = (
    "duplicate",
    "restamped",
    "conflict",
    "conflict_elsewhere",
    "retracted_after",
    "retracted_before",
    "faulty",
    "refused",
)
"""Kinds whose events come on top of a journey's own."""
PRESETS = ("every", "usual", "clean")

Shares = Mapping[str, float]


class UnknownKind(ValueError):
    """A `--kinds` item that names nothing that can be set."""


def shares(wanted: str) -> Shares:
    """Kind to share in [0, 1] from e.g. `every`, `usual,late=5` or `clean,refused=10` (percent).

    Raises UnknownKind. The preset comes first and is `every` when left out.
    """
    items = [item.strip() for item in wanted.split(",") if item.strip()]
    preset = items.pop(0) if items and items[0] in PRESETS else "every"
    percents = {kind.name: {"every": kind.every, "usual": kind.usual, "clean": 0.0}[preset] for kind in KINDS}
    for item in items:
        name, _, percent = item.partition("=")
        percents[name] = _percent(name, percent)
    return {name: percent / 100 for name, percent in percents.items()}


def _percent(name: str, percent: str) -> float:
    settable = [kind.name for kind in KINDS if kind.unit != "found"]
    if name not in settable:
        raise UnknownKind(
            f"{name!r} is no kind that can be set; there are {', '.join((*PRESETS, *settable))}"
        )
    try:
        value = float(percent)
    except ValueError:
        raise UnknownKind(f"{name}={percent!r}: expected a percentage, e.g. {name}=4") from None
    if not 0 <= value <= 100:
        raise UnknownKind(f"{name}={percent}: expected 0 to 100 percent")
    return value


class Count(NamedTuple):
    """How often a kind occurred: lines, and journeys with at least one such line."""

    events: int
    journeys: int


class Tally:
    """Counts lines by their bits; most lines share few combinations, so it counts combinations."""

    def __init__(self) -> None:
        self.lines = 0
        self._seen: dict[tuple[int, int], int] = {}

    def add(self, kinds: int, firsts: int) -> None:
        """One line with these kinds, the first of its journey for those in `firsts`."""
        self.lines += 1
        self._seen[kinds, firsts] = self._seen.get((kinds, firsts), 0) + 1

    def counts(self) -> dict[str, Count]:
        """Kind to count, in the order of KINDS."""
        return {name: Count(self._sum(0, bit), self._sum(1, bit)) for name, bit in BIT.items()}

    def _sum(self, part: int, bit: int) -> int:
        return sum(number for seen, number in self._seen.items() if seen[part] & bit)

    def report(self) -> str:
        """A table for people, one line a kind."""
        counts = self.counts()
        journeys = counts["journey"].journeys
        lines = [
            f"{self.lines} events, {journeys} journeys",
            f"{'kind':<21}{'events':>9}{'%':>7}{'journeys':>10}{'%':>7}",
        ]
        for kind in KINDS[1:]:
            count = counts[kind.name]
            of_events, of_journeys = _share(count.events, self.lines), _share(count.journeys, journeys)
            numbers = f"{count.events:>9}{of_events:>7}{count.journeys:>10}{of_journeys:>7}"
            lines.append(f"{kind.name:<21}{numbers}  {kind.meaning}")
        return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"
