"""The oracle's business time: a calendar is a string of open and closed minutes, counted one by one."""

import functools
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]
MINUTE = 60_000_000
FAR = 10_000_000 * MINUTE
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def boundary(day: date, clock: str, zone: ZoneInfo) -> int:
    """The instant of a local time: past a gap by the gap, the earlier one of an overlap (both are fold=0)."""
    hours, minutes = clock.split(":")
    local = datetime(day.year, day.month, day.day) + timedelta(hours=int(hours), minutes=int(minutes))
    return micros(local.replace(tzinfo=zone, fold=0).astimezone(UTC))


def windows_of(day: date, calendar: Row) -> Iterator[tuple[int, int]]:
    """The open windows that begin on one local date, as instants."""
    if day.isoformat() in [str(holiday) for holiday in calendar.get("holidays") or []]:
        return
    zone = ZoneInfo(calendar["zone"])
    for opens, closes in calendar["weekly"].get(DAYS[day.weekday()]) or []:
        last_day = day if closes > opens else day + timedelta(days=1)
        yield boundary(day, opens, zone), boundary(last_day, closes, zone)


@functools.lru_cache(maxsize=2000)
def open_minutes(calendar_json: str, year: int) -> bytes:
    """One byte per minute of a UTC year: 1 where the calendar is open."""
    first = micros(datetime(year, 1, 1, tzinfo=UTC)) // MINUTE
    past = micros(datetime(year + 1, 1, 1, tzinfo=UTC)) // MINUTE
    marks = bytearray(past - first)
    for offset in range(-3, 369):
        for opens, closes in windows_of(date(year, 1, 1) + timedelta(days=offset), json.loads(calendar_json)):
            begin, end = max(opens // MINUTE, first), min(closes // MINUTE, past)
            if begin < end:
                marks[begin - first : end - first] = b"\1" * (end - begin)
    return bytes(marks)


def year_of(at: int) -> tuple[int, int]:
    """The UTC year of an instant and the instant at which that year begins."""
    year = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).year
    return year, micros(datetime(year, 1, 1, tzinfo=UTC))


def is_open(calendar: Row, at: int) -> bool:
    """Whether the calendar is open in the minute of an instant."""
    year, began = year_of(at)
    return open_minutes(json.dumps(calendar, sort_keys=True), year)[(at - began) // MINUTE] == 1


def next_minute(at: int) -> int:
    return (at // MINUTE + 1) * MINUTE


def elapsed(calendar: Row | None, start: int, end: int) -> int:
    """Microseconds of open time between two instants."""
    if calendar is None or end <= start:
        return max(end - start, 0)
    if next_minute(start) >= end:
        return end - start if is_open(calendar, start) else 0
    head = next_minute(start) - start if is_open(calendar, start) else 0
    last = end // MINUTE * MINUTE
    tail = end - last if is_open(calendar, last) else 0
    return head + whole_minutes(calendar, next_minute(start), last) * MINUTE + tail


def whole_minutes(calendar: Row, start: int, end: int) -> int:
    total = 0
    while start < end:
        year, began = year_of(start)
        marks = open_minutes(json.dumps(calendar, sort_keys=True), year)
        stop = min(end, began + len(marks) * MINUTE)
        total += sum(marks[(start - began) // MINUTE : (stop - began) // MINUTE])
        start = stop
    return total


Pause = tuple[int, int | None]
"""From and to; None = it never ends."""


def due(calendar: Row | None, start: int, target: int, pauses: list[Pause]) -> int | None:
    """The earliest instant with `target` elapsed outside the pauses; None = an endless pause comes before."""
    calendar_json = None if calendar is None else json.dumps(calendar, sort_keys=True)
    return due_of(calendar_json, start, target, tuple(pauses))


@functools.lru_cache(maxsize=200)
def due_of(calendar_json: str | None, start: int, target: int, pauses: tuple[Pause, ...]) -> int | None:
    """The walk of `due`: from minute to minute, and from edge to edge of the pauses."""
    at, left = start, target
    while left > 0:
        inside = [pause for pause in pauses if pause[0] <= at and (pause[1] is None or at < pause[1])]
        if any(until is None for _, until in inside):
            return None
        counts, after = stretch(calendar_json, at)
        after = min([after, *(edge for pause in pauses for edge in pause if edge is not None and edge > at)])
        if counts and not inside:
            if after - at >= left:
                return at + left
            left -= after - at
        at = after
    return at


def stretch(calendar_json: str | None, at: int) -> tuple[bool, int]:
    """Whether time counts at an instant, and until when that holds: a minute, or to the next opening."""
    if calendar_json is None:
        return True, at + FAR
    year, began = year_of(at)
    marks, place = open_minutes(calendar_json, year), (at - began) // MINUTE
    if marks[place]:
        return True, next_minute(at)
    opens = marks.find(b"\1", place)
    return False, began + (opens if opens >= 0 else len(marks)) * MINUTE
