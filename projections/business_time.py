"""Business time: how much of it lies between two instants, and when a target is used up."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from schemas.records import Micros


class WorkingTime(Protocol):
    """A way to measure time: a Calendar, or ROUND_THE_CLOCK for policies in calendar time."""

    def elapsed(self, a: Micros, b: Micros) -> int:
        """Working microseconds in [a, b); 0 if b <= a."""

    def due(self, start: Micros, target: int) -> Micros:
        """The earliest instant at which `target` microseconds have elapsed since `start`."""


class Calendar:
    """A business calendar: immutable for callers. Raises ValueError for a calendar that is malformed or never opens."""

    def __init__(self, calendar_id: str, zone: str, weekly: Mapping[str, Sequence[Sequence[str]]], holidays: Sequence[str] = ()) -> None:
        raise NotImplementedError

    def elapsed(self, a: Micros, b: Micros) -> int:
        """Open microseconds in [a, b); 0 if b <= a."""
        raise NotImplementedError

    def due(self, start: Micros, target: int) -> Micros:
        """The earliest instant with elapsed(start, instant) = target: a closing time rather than the next opening."""
        raise NotImplementedError

    def windows(self, start: Micros, end: Micros) -> Iterator[tuple[Micros, Micros]]:
        """The open intervals inside [start, end), merged, in order."""
        raise NotImplementedError


Pause = tuple[Micros, Micros | None]
"""[from, until); None = still open."""


def bounded(pauses: Sequence[Pause], max_pause: int | None) -> list[Pause]:
    """The pauses as far as they count: cut where their sum in calendar time reaches `max_pause` microseconds.

    With a `max_pause` an open pause gets the instant at which it runs out. Pauses are disjoint and in order.
    """
    raise NotImplementedError


def due_with_pauses(time: WorkingTime, start: Micros, target: int, pauses: Sequence[Pause]) -> Micros | None:
    """When `target` is used up if time inside the (bounded) pauses does not count; None if an open pause comes first.

    Gives warn instants too (target = the warning's share). A pause at or after that instant has no effect.
    """
    raise NotImplementedError


def elapsed_with_pauses(time: WorkingTime, start: Micros, end: Micros, pauses: Sequence[Pause]) -> int:
    """Working microseconds in [start, end) outside the (bounded) pauses."""
    raise NotImplementedError


def paused(pauses: Sequence[Pause], end: Micros) -> int:
    """Calendar microseconds inside the (bounded) pauses up to `end`."""
    raise NotImplementedError
