"""Chance: one seeded source of randomness, and times drawn from it.

Promises: only `random.Random.random` is used, whose sequence for a seed is the same in every Python release.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from schemas.records import Micros

SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE
DAY: Micros = 24 * HOUR
WEEK: Micros = 7 * DAY

OFFICE_ZONE: Micros = 1 * HOUR
"""The generator's offices keep Central European winter time all year: near enough for made-up people."""
OPENING_HOUR = 9
CLOSING_HOUR = 17
QUIET_UNTIL_HOUR = 7
THURSDAY = 3
"""Weekday of 1970-01-01, Monday = 0."""

T = TypeVar("T")


class Chance:
    """Draws. One object serves a whole run, so that the run is a function of its seed."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed).random

    def yes(self, share: float) -> bool:
        """True in this share of cases."""
        return self.draw() < share

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each as likely; repeat an item to make it likelier."""
        return items[int(self.draw() * len(items))]

    def between(self, low: int, high: int) -> int:
        """An integer of [low, high)."""
        return low + int(self.draw() * (high - low))

    def soon(self, longest: Micros) -> Micros:
        """A delay below `longest`, mostly much shorter."""
        share = self.draw()
        return 1 + int(share * share * share * longest)

    def token(self) -> str:
        """Eight hexadecimal digits."""
        return f"{int(self.draw() * 4294967296):08x}"


def at_work(moment: Micros, chance: Chance) -> Micros:
    """The moment itself within office hours, else one soon after the next opening."""
    days, of_day = divmod(moment + OFFICE_ZONE, DAY)
    weekday = (days + THURSDAY) % 7
    if weekday < 5 and OPENING_HOUR * HOUR <= of_day < CLOSING_HOUR * HOUR:
        return moment
    if of_day >= OPENING_HOUR * HOUR or weekday >= 5:
        days += 1
        weekday = (weekday + 1) % 7
    days += max(0, 7 - weekday) if weekday >= 5 else 0
    return days * DAY + OPENING_HOUR * HOUR + chance.soon(3 * HOUR) - OFFICE_ZONE


def awake(moment: Micros, chance: Chance) -> Micros:
    """The moment, moved to the morning for most of what would happen at night and much of the weekend."""
    days, of_day = divmod(moment + OFFICE_ZONE, DAY)
    if (days + THURSDAY) % 7 >= 5 and chance.yes(0.6):
        return moment + 2 * DAY
    if of_day < QUIET_UNTIL_HOUR * HOUR and chance.yes(0.85):
        return moment + QUIET_UNTIL_HOUR * HOUR
    return moment
