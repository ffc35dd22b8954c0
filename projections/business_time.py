"""Business time: how much of it lies between two instants, and when a target is used up.

Promises: a calendar's open time is the union of its local windows, each turned into UTC instants by the
zone's rules of its date, exact to the microsecond, and the same on every machine: zone rules come from the
pinned `tzdata` package. Reading that package's data when a calendar is made is the one file access of
`projections`; it is part of the code's version like any constant, and nothing is read while events are
folded. Leaves which calendar is in force to `projections.rules`, and when a clock pauses to
`projections.sla_clock`.

Instants are clamped to the years 1 to 9999; what would be due later is due at LATEST.
"""

import re
from bisect import bisect_left, bisect_right
from calendar import isleap
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from schemas.records import Micros

MINUTE = 60_000_000
DAY = 1440 * MINUTE
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal()
_YEAR_STARTS = [(date(year, 1, 1).toordinal() - _EPOCH_DAY) * DAY for year in range(1, 10_000)]
_END = (_LAST_DAY + 1 - _EPOCH_DAY) * DAY
EARLIEST: Micros = _YEAR_STARTS[0]
LATEST: Micros = _END - 1
"""The last instant of the year 9999: what Python's and most other calendars can show."""

_RULES_FROM, _RULES_UNTIL = 1800, 2100
"""Years in which a zone may have changes of its own. Outside them (tested for every zone of tzdata) a yearly
rule repeats, so all years with the same length and first weekday have the same windows."""
_MARGIN_DAYS = 2
"""A window that touches a year of UTC begins at most so many local dates before or after it."""


class WorkingTime(Protocol):
    """A way to measure time: a `Calendar`, or ROUND_THE_CLOCK for policies in calendar time."""

    def elapsed(self, a: Micros, b: Micros) -> int:
        """Working microseconds in [a, b); 0 if b <= a."""

    def due(self, start: Micros, target: int) -> Micros:
        """The earliest instant at which `target` microseconds have elapsed since `start`."""


class RoundTheClock:
    """Calendar time: every microsecond counts."""

    def elapsed(self, a: Micros, b: Micros) -> int:
        """Microseconds in [a, b); 0 if b <= a."""
        return max(0, b - a)

    def due(self, start: Micros, target: int) -> Micros:
        """`start` + `target`, at most LATEST."""
        return min(start + target, LATEST)


ROUND_THE_CLOCK = RoundTheClock()


class _Year(NamedTuple):
    """Open windows of one UTC year, relative to its start: `before[i]` is the open time before `opens[i]`."""

    opens: list[int]
    closes: list[int]
    before: list[int]
    total: int

    def until(self, moment: int) -> int:
        """Open microseconds of the year before `moment`, which is relative to the year's start."""
        at = bisect_right(self.opens, moment) - 1
        return 0 if at < 0 else self.before[at] + min(moment, self.closes[at]) - self.opens[at]

    def reached(self, need: int) -> int:
        """The earliest moment of the year before which `need` (0 < need <= total) is open."""
        at = bisect_left(self.before, need) - 1
        return self.opens[at] + need - self.before[at]


class Calendar:
    """A business calendar; immutable for callers, years are worked out when first asked for.

    `weekly` maps mon..sun to windows ["HH:MM", "HH:MM"] of local time, several a day, ending after midnight
    when the close is not after the open; `holidays` are local dates "YYYY-MM-DD" on which no window begins.
    Raises ValueError that says what was expected, for anything malformed, an unknown zone, and a calendar
    that never opens.

    A call bisects within a year and walks the years between: about 1 us within a year, under a millisecond
    over centuries.
    """

    def __init__(
        self,
        calendar_id: str,
        zone: str,
        weekly: Mapping[str, Sequence[Sequence[str]]],
        holidays: Sequence[str] = (),
    ) -> None:
        unknown = sorted(set(weekly) - set(WEEKDAYS))
        if unknown:
            raise ValueError(f"one of {', '.join(WEEKDAYS)}, not {unknown[0]!r}")
        self.calendar_id = calendar_id
        self.zone = zone
        self._zone = zone_rules(zone)
        self._weekly = [[window_of(window) for window in weekly.get(name, ())] for name in WEEKDAYS]
        self._holidays = frozenset(day_of(text) for text in holidays)
        self._years: dict[int, _Year] = {}
        self._kinds: dict[tuple[bool, bool, int], _Year] = {}
        if not any(self._weekly):
            raise ValueError("at least one window a week: this calendar never opens")

    def elapsed(self, a: Micros, b: Micros) -> int:
        """Open microseconds in [a, b); 0 if b <= a."""
        if b <= a:
            return 0
        first, start = _year_and_moment(a)
        last, end = _year_and_moment(b)
        total = self._year(last).until(end) - self._year(first).until(start)
        for year in range(first, last):
            total += self._year(year).total
        return total

    def due(self, start: Micros, target: int) -> Micros:
        """The earliest instant with elapsed(start, instant) = target: a closing time rather than the next
        opening.

        `start` itself for a target of 0; LATEST if the target is not reached before the year 10000.
        """
        if target <= 0:
            return start
        year, moment = _year_and_moment(start)
        need = self._year(year).until(moment) + target
        while need > self._year(year).total:
            need -= self._year(year).total
            year += 1
            if year > date.max.year:
                return LATEST
        return min(_YEAR_STARTS[year - 1] + self._year(year).reached(need), LATEST)

    def windows(self, start: Micros, end: Micros) -> Iterator[tuple[Micros, Micros]]:
        """The open intervals inside [start, end), overlapping and touching ones merged, in order."""
        years = range(_year_and_moment(start)[0], _year_and_moment(end)[0] + 1) if start < end else ()
        return _clipped(_joined(chain.from_iterable(map(self._instants, years))), start, end)

    def _instants(self, year: int) -> Iterator[tuple[Micros, Micros]]:
        base, known = _YEAR_STARTS[year - 1], self._year(year)
        return (
            (base + opens, base + closes) for opens, closes in zip(known.opens, known.closes, strict=True)
        )

    def _year(self, year: int) -> _Year:
        known = self._years.get(year)
        if known is None:
            known = self._years[year] = self._repeated(year) if self._repeats(year) else self._built(year)
        return known

    def _repeats(self, year: int) -> bool:
        if _RULES_FROM <= year <= _RULES_UNTIL or year in (1, date.max.year):
            return False
        days = _days_around(year)
        return not any(day in days for day in self._holidays)

    def _repeated(self, year: int) -> _Year:
        kind = (year > _RULES_UNTIL, isleap(year), date(year, 1, 1).weekday())
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = self._built(year)
        return known

    def _built(self, year: int) -> _Year:
        base = _YEAR_STARTS[year - 1]
        end = _YEAR_STARTS[year] if year < date.max.year else _END
        opens, closes, before, total = [], [], [], 0
        for start, stop in _clipped(_joined(self._local_windows(_days_around(year))), base, end):
            opens.append(start - base)
            closes.append(stop - base)
            before.append(total)
            total += stop - start
        return _Year(opens, closes, before, total)

    def _local_windows(self, days: range) -> list[tuple[Micros, Micros]]:
        return sorted(
            (self._instant(day, opens), self._instant(day, closes))
            for day in days
            if day not in self._holidays
            for opens, closes in self._weekly[(day - 1) % 7]
        )

    def _instant(self, day: int, minute: int) -> Micros:
        """The instant of a local minute. `fold` stays 0: in a gap that moves forward by the gap (the offset
        before it counts), in an overlap it is the earlier instant (PEP 495)."""
        day, minute = day + minute // 1440, minute % 1440
        if day > _LAST_DAY:
            return _END
        hour, past = divmod(minute, 60)
        offset = datetime.fromordinal(day).replace(hour=hour, minute=past, tzinfo=self._zone).utcoffset()
        assert offset is not None  # a ZoneInfo always knows the offset of a whole datetime
        return (
            (day - _EPOCH_DAY) * DAY + minute * MINUTE - (offset.days * 86_400 + offset.seconds) * 1_000_000
        )


Pause = tuple[Micros, Micros | None]
"""[from, until); None = still open."""


def bounded(pauses: Sequence[Pause], max_pause: int | None) -> list[Pause]:
    """The pauses as far as they count: cut where their sum in calendar time reaches `max_pause` microseconds.

    With a `max_pause` an open pause gets the instant at which it runs out. Pauses are disjoint and in order;
    only the last may be open.
    """
    if max_pause is None:
        return list(pauses)
    left, counted = max_pause, list[Pause]()
    for begin, end in pauses:
        cut = min(begin + left, LATEST if end is None else end)
        counted.append((begin, cut))
        left -= cut - begin
    return counted


def due_with_pauses(time: WorkingTime, start: Micros, target: int, pauses: Sequence[Pause]) -> Micros | None:
    """When `target` is used up if time inside the (bounded) pauses does not count; None if an open pause
    comes first.

    Gives warn instants too (target = the warning's `after`). A pause at or after that instant has no effect.
    """
    for begin, end in pauses:
        used = time.elapsed(start, begin)
        if used >= target:
            break
        if end is None:
            return None
        start, target = end, target - used
    return time.due(start, target)


def elapsed_with_pauses(time: WorkingTime, start: Micros, end: Micros, pauses: Sequence[Pause]) -> int:
    """Working microseconds in [start, end) outside the (bounded) pauses."""
    total = 0
    for begin, resumed in pauses:
        total += time.elapsed(start, min(begin, end))
        start = end if resumed is None else resumed
    return total + time.elapsed(start, end)


def paused(pauses: Sequence[Pause], end: Micros) -> int:
    """Calendar microseconds inside the (bounded) pauses before `end`."""
    return sum(max(0, (end if resumed is None else min(resumed, end)) - begin) for begin, resumed in pauses)


@cache
def zone_names() -> frozenset[str]:
    """The names of all IANA zones in the pinned tzdata package."""
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split())


@cache
def zone_rules(name: str) -> ZoneInfo:
    """The rules of an IANA zone from the pinned tzdata package, not the machine's. Raises ValueError."""
    if name not in zone_names():
        close = get_close_matches(name, zone_names(), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"an IANA zone such as Europe/Berlin, not {name!r}{hint}")
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as data:
        return ZoneInfo.from_file(data, name)


def window_of(window: Sequence[str]) -> tuple[int, int]:
    """Minutes after local midnight at which a window opens and closes, the close up to 48 h. Raises
    ValueError."""
    if len(window) != 2:
        raise ValueError('two times such as ["09:00", "17:00"]')
    opens, closes = minute_of(window[0]), minute_of(window[1])
    if opens == 1440:
        raise ValueError('an opening before "24:00"')
    if opens == closes:
        raise ValueError('two different times; the whole day is ["00:00", "24:00"]')
    return opens, closes if closes > opens else closes + 1440


def minute_of(text: str) -> int:
    """Minutes after midnight of "HH:MM", "00:00" to "24:00". Raises ValueError."""
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00", text, re.ASCII):
        raise ValueError(f'a time "HH:MM" from "00:00" to "24:00", not {text!r}')
    return int(text[:2]) * 60 + int(text[3:])


def day_of(text: str) -> int:
    """The proleptic Gregorian ordinal of "YYYY-MM-DD". Raises ValueError."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return date.fromisoformat(text).toordinal()
        except ValueError:
            pass
    raise ValueError(f'an existing date "YYYY-MM-DD", not {text!r}')


def _days_around(year: int) -> range:
    first = date(year, 1, 1).toordinal() - _MARGIN_DAYS
    last = date(year, 12, 31).toordinal() + _MARGIN_DAYS
    return range(max(first, 1), min(last, _LAST_DAY) + 1)


def _year_and_moment(instant: Micros) -> tuple[int, int]:
    """The UTC year of an instant, and the microseconds since the year's start."""
    clamped = min(max(instant, EARLIEST), _END)
    year = bisect_right(_YEAR_STARTS, clamped)
    return year, clamped - _YEAR_STARTS[year - 1]


def _joined(
    windows: Iterator[tuple[Micros, Micros]] | list[tuple[Micros, Micros]],
) -> Iterator[tuple[Micros, Micros]]:
    """Ascending windows with overlapping and touching ones merged, and empty ones (lost in a gap) left
    out."""
    current: tuple[Micros, Micros] | None = None
    for opens, closes in windows:
        if closes <= opens:
            continue
        if current is None:
            current = (opens, closes)
        elif opens <= current[1]:
            current = (current[0], max(current[1], closes))
        else:
            yield current
            current = (opens, closes)
    if current is not None:
        yield current


def _clipped(
    windows: Iterator[tuple[Micros, Micros]], start: Micros, end: Micros
) -> Iterator[tuple[Micros, Micros]]:
    for opens, closes in windows:
        if opens < end and closes > start:
            yield max(opens, start), min(closes, end)
