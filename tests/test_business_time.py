"""Guards business time: the contract's worked examples, exactness, and the nights on which clocks change.

The walk of `walked_open_minutes` is a second way to get the same result: it looks at every UTC minute's wall
clock and knows nothing of offsets, `fold` or cumulative sums.
"""

import json
import random
import struct
import time
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.business_time import (
    DAY,
    EARLIEST,
    LATEST,
    MINUTE,
    ROUND_THE_CLOCK,
    WEEKDAYS,
    Calendar,
    Pause,
    bounded,
    due_with_pauses,
    elapsed_with_pauses,
    paused,
    zone_names,
    zone_rules,
)

HOUR = 60 * MINUTE
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VECTORS = json.loads((Path(__file__).parent / "vectors" / "business_time.json").read_text())
CALENDARS = {name: Calendar(name, **parts) for name, parts in VECTORS["calendars"].items()}
OFFICE = CALENDARS["office_plain"]
WHOLE_WEEK = {day: [["00:00", "24:00"]] for day in WEEKDAYS}


def at(text: str) -> int:
    """Microseconds of an RFC 3339 instant."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def case_id(case: dict[str, Any]) -> str:
    return f"{case['calendar']} {case.get('start', case.get('from'))}"


@pytest.mark.parametrize("case", VECTORS["cases"], ids=case_id)
def test_due_times_of_the_contract(case: dict[str, Any]) -> None:
    """Each worked example is due at its instant, when exactly its target has elapsed."""
    calendar, start, target = CALENDARS[case["calendar"]], at(case["start"]), case["target_minutes"] * MINUTE
    assert calendar.due(start, target) == at(case["due"])
    assert calendar.elapsed(start, at(case["due"])) == target


@pytest.mark.parametrize("case", VECTORS["elapsed"], ids=lambda case: case["why"])
def test_elapsed_times_of_the_contract(case: dict[str, Any]) -> None:
    """A night shift is an hour shorter, or longer, when the clocks change."""
    found = CALENDARS[case["calendar"]].elapsed(at(case["from"]), at(case["to"]))
    assert found == case["minutes"] * MINUTE


@pytest.mark.parametrize("case", VECTORS["paused"], ids=lambda case: case["why"])
def test_paused_clocks_of_the_contract(case: dict[str, Any]) -> None:
    """Business time inside the pauses does not count."""
    pauses: list[Pause] = [(at(begin), at(end)) for begin, end in case["pauses"]]
    calendar, target = CALENDARS[case["calendar"]], case["target_minutes"] * MINUTE
    assert due_with_pauses(calendar, at(case["start"]), target, pauses) == at(case["due"])


instants = st.integers(at("2025-01-01T00:00Z"), at("2028-12-31T00:00Z"))
calendars = st.sampled_from(list(CALENDARS.values()))


@settings(max_examples=300, deadline=None)
@given(calendars, instants, st.integers(0, 60 * DAY))
def test_due_is_the_earliest_instant_with_the_target_elapsed(
    calendar: Calendar, start: int, target: int
) -> None:
    """elapsed(start, due) is the target to the microsecond, and one microsecond less one earlier."""
    due = calendar.due(start, target)
    assert calendar.elapsed(start, due) == target
    assert target == 0 or calendar.elapsed(start, due - 1) == target - 1
    assert target or due == start


@settings(max_examples=300, deadline=None)
@given(calendars, instants, instants, instants)
def test_elapsed_adds_up(calendar: Calendar, a: int, b: int, c: int) -> None:
    """Time between two instants is the sum over any cut between them, and what the windows cover."""
    a, b, c = sorted((a, b, c))
    assert calendar.elapsed(a, c) == calendar.elapsed(a, b) + calendar.elapsed(b, c)
    assert calendar.elapsed(c, a) == 0


@settings(max_examples=40, deadline=None)
@given(calendars, instants, st.integers(0, 500 * DAY))
def test_windows_cover_what_elapses(calendar: Calendar, start: int, length: int) -> None:
    """Windows are apart, in order, inside the interval, and sum to the elapsed time."""
    found = list(calendar.windows(start, start + length))
    assert sum(closes - opens for opens, closes in found) == calendar.elapsed(start, start + length)
    edges = [edge for window in found for edge in window]
    assert all(a < b for a, b in pairwise(edges))
    assert not edges or (start <= edges[0] and edges[-1] <= start + length)


def wall_clock(zone: str, start: datetime, minutes: int) -> dict[datetime, int]:
    """Local wall-clock minute to the first UTC minute (since `start`) that shows it."""
    rules, shown = zone_rules(zone), dict[datetime, int]()
    for minute in range(minutes):
        local = (start + timedelta(minutes=minute)).astimezone(rules).replace(tzinfo=None, fold=0)
        shown.setdefault(local, minute)
    return shown


def first_shown(shown: dict[datetime, int], local: datetime) -> int:
    """When the wall clock first shows a local minute; one that it skips is moved forward by what it skips."""
    if local in shown:
        return shown[local]
    before = max(minute for minute in shown if minute < local)
    after = min(minute for minute in shown if minute > local)
    return shown[local + (after - before - timedelta(minutes=1))]


def walked_open_minutes(
    zone: str, weekly: dict[str, list[list[str]]], start: datetime, days: int
) -> list[int]:
    """The open UTC minutes since `start`, found by looking at the wall clock of each one."""
    shown = wall_clock(zone, start - timedelta(days=4), (days + 8) * 1440)
    offset, open_minutes = 4 * 1440, set[int]()
    for number in range(-2, days + 2):
        day = start.date() + timedelta(days=number)
        for opens, closes in weekly.get(WEEKDAYS[day.weekday()], []):
            first = first_shown(shown, local_minute(day, opens))
            last_day = day if closes > opens else day + timedelta(days=1)
            open_minutes |= set(range(first, first_shown(shown, local_minute(last_day, closes))))
    return sorted(m - offset for m in open_minutes if offset <= m < offset + days * 1440)


def local_minute(day: date, clock: str) -> datetime:
    hours, minutes = map(int, clock.split(":"))
    return datetime(day.year, day.month, day.day) + timedelta(hours=hours, minutes=minutes)


def random_week(rng: random.Random) -> dict[str, list[list[str]]]:
    """Windows around midnight and the hours at which clocks change, overlapping, crossing midnight."""
    times = [
        "00:00",
        "00:30",
        "01:00",
        "01:45",
        "02:00",
        "02:10",
        "02:30",
        "03:00",
        "03:15",
        "09:00",
        "22:00",
        "23:59",
    ]
    week = {
        day: [rng.sample(times, 2) for _ in range(rng.choice([1, 1, 2, 3]))]
        for day in WEEKDAYS
        if rng.random() < 0.8
    }
    return week or {"sun": [["02:10", "24:00"]]}


CHANGES = [
    ("Europe/Berlin", "2026-03-27"),
    ("Europe/Berlin", "2026-10-23"),
    ("America/New_York", "2026-03-06"),
    ("America/St_Johns", "2011-11-04"),  # at one minute past midnight
    ("America/Sao_Paulo", "2018-11-02"),  # midnight does not exist
    ("America/Sao_Paulo", "2018-02-16"),  # midnight comes twice
    ("Australia/Lord_Howe", "2026-04-03"),  # half an hour
    ("Antarctica/Troll", "2026-03-27"),  # two hours
    ("Africa/Casablanca", "2026-02-13"),
    ("Pacific/Apia", "2011-12-28"),  # a whole day does not exist
    ("Asia/Kathmandu", "2026-05-01"),
]


@pytest.mark.parametrize(("zone", "first_day"), CHANGES)
def test_equals_a_walk_over_every_minute(zone: str, first_day: str) -> None:
    """Around a change of clocks any week of windows is open in exactly the minutes that the wall clock
    says."""
    rng, start, days = random.Random(f"{zone} {first_day}"), datetime.fromisoformat(f"{first_day}T00:00Z"), 5
    base = at(f"{first_day}T00:00Z")
    for _ in range(6):
        week = random_week(rng)
        expected = walked_open_minutes(zone, week, start, days)
        windows = Calendar("c", zone, week).windows(base, base + days * DAY)
        found = [m for a, b in windows for m in range((a - base) // MINUTE, (b - base) // MINUTE)]
        assert found == expected, week


def test_overlapping_windows_count_once() -> None:
    """Windows are a union: of one day, over midnight, and over the end of a year."""
    calendar = Calendar(
        "c", "UTC", {"thu": [["20:00", "04:00"], ["21:00", "22:00"]], "fri": [["00:00", "06:00"]]}
    )
    assert calendar.elapsed(at("2026-12-31T00:00Z"), at("2027-01-02T00:00Z")) == 10 * HOUR
    assert list(calendar.windows(at("2026-12-31T00:00Z"), at("2027-01-02T00:00Z"))) == [
        (at("2026-12-31T20:00Z"), at("2027-01-01T06:00Z"))
    ]


def test_a_holiday_removes_the_windows_that_begin_on_it() -> None:
    """The night shift before the holiday still ends in its morning; that of the holiday does not begin."""
    calendar = Calendar("c", "Europe/Berlin", {day: [["22:00", "06:00"]] for day in WEEKDAYS}, ["2026-05-01"])
    assert list(calendar.windows(at("2026-04-30T12:00Z"), at("2026-05-02T22:00Z"))) == [
        (at("2026-04-30T20:00Z"), at("2026-05-01T04:00Z")),
        (at("2026-05-02T20:00Z"), at("2026-05-02T22:00Z")),
    ]


def test_a_far_target_is_fast() -> None:
    """Ten years of business time at an hour a week end in the year 3705, found in well under a second."""
    calendar = Calendar("c", "Europe/Berlin", {"mon": [["09:00", "10:00"]]}, ["2150-01-05"])
    start, target = at("2026-08-03T07:00Z"), 3650 * DAY
    began = time.perf_counter()
    due = calendar.due(start, target)
    assert time.perf_counter() - began < 2
    assert calendar.elapsed(start, due) == target
    closing = (EPOCH + timedelta(microseconds=due)).astimezone(zone_rules("Europe/Berlin"))
    assert closing.date() == date(2026, 8, 3) + timedelta(weeks=87_600)  # 87,600 Mondays and the holiday
    assert (closing.hour, closing.minute) == (10, 0)


def test_a_window_may_begin_two_dates_before_the_year_of_utc() -> None:
    """A day and a night far in the west: the window of 30 December is open until noon of 1 January."""
    west = Calendar("west", "Etc/GMT+12", {day: [["23:59", "23:58"]] for day in WEEKDAYS})
    assert west.elapsed(at("2027-01-01T00:00Z"), at("2027-01-01T12:00Z")) == 12 * HOUR - MINUTE


def test_a_target_beyond_the_year_9999_is_due_at_the_end_of_time() -> None:
    """LATEST is the answer, and instants beyond the calendar's years count as its nearest end."""
    assert at("9999-12-31T23:59:59.999999Z") == LATEST
    calendar = Calendar("c", "Pacific/Auckland", {"mon": [["09:00", "09:01"]]})
    assert calendar.due(at("2026-08-03T07:00Z"), 3650 * DAY) == LATEST
    assert calendar.due(2**80, 1) == LATEST
    assert calendar.elapsed(-(2**80), 2**80) == calendar.elapsed(EARLIEST, LATEST + 1)
    assert calendar.elapsed(LATEST, 2**80) == 0
    assert ROUND_THE_CLOCK.due(2**62, 2**62) == LATEST
    night = Calendar("night", "UTC", {day: [["22:00", "06:00"]] for day in WEEKDAYS})
    assert night.elapsed(at("9999-12-31T12:00Z"), LATEST + 1) == 2 * HOUR


def test_a_target_that_the_last_window_just_holds_is_due_at_the_last_instant() -> None:
    """Midnight after the year 9999 is no instant that a calendar can show: the one before it is the answer,
    as in calendar time."""
    calendar = Calendar("c", "UTC", WHOLE_WEEK)
    for target in (HOUR - 1, HOUR, HOUR + 1):
        assert calendar.due(LATEST + 1 - HOUR, target) == LATEST
        assert ROUND_THE_CLOCK.due(LATEST + 1 - HOUR, target) == LATEST


def test_a_target_used_up_at_the_last_closing_of_a_year_is_due_then() -> None:
    """New Year's Eve's closing time, not the next year's first opening."""
    calendar = Calendar("c", "UTC", {"thu": [["09:00", "17:00"]]})
    assert calendar.due(at("2026-12-31T16:00Z"), HOUR) == at("2026-12-31T17:00Z")


def test_round_the_clock_in_a_zone_is_calendar_time() -> None:
    """Always open means every microsecond, also in a zone whose clocks change."""
    calendar = Calendar("c", "Europe/Berlin", WHOLE_WEEK)
    start, end = at("2024-12-31T23:00:00.000001Z"), at("2031-07-01T00:00Z")
    assert calendar.elapsed(start, end) == ROUND_THE_CLOCK.elapsed(start, end) == end - start
    assert calendar.due(start, end - start) == ROUND_THE_CLOCK.due(start, end - start) == end


def last_own_changes(zone: str) -> tuple[int, int]:
    """The first and the last change that a zone's data lists, as POSIX seconds (TZif, RFC 8536, second
    block)."""
    data = files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()
    isutc, isstd, leap, times, types, chars = struct.unpack(">6l", data[20:44])
    second = 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isutc
    count = struct.unpack(">l", data[second + 32 : second + 36])[0]
    changes = struct.unpack(f">{count}q", data[second + 44 : second + 44 + 8 * count])
    own = [change for change in changes if change > EARLIEST // 1_000_000]
    return (own[0], own[-1]) if own else (0, 0)


def test_no_zone_changes_its_rules_outside_the_years_that_are_worked_out() -> None:
    """Years before 1800 and after 2100 repeat by rule in every zone, as sharing their windows takes for
    granted."""
    changes = [last_own_changes(zone) for zone in zone_names()]
    assert min(first for first, _ in changes) > at("1800-01-03T00:00Z") // 1_000_000
    assert max(last for _, last in changes) < at("2100-12-29T00:00Z") // 1_000_000


def test_zone_rules_come_from_the_pinned_package(tmp_path: Path) -> None:
    """A machine whose zone data is wrong, here UTC for Kolkata, gives the same business time."""
    (tmp_path / "Asia").mkdir()
    wrong = files("tzdata").joinpath("zoneinfo", "UTC").read_bytes()
    (tmp_path / "Asia" / "Kolkata").write_bytes(wrong)
    zone_rules.cache_clear()
    try:
        zoneinfo.reset_tzpath([str(tmp_path)])
        calendar = Calendar("c", "Asia/Kolkata", {"mon": [["09:00", "10:00"]]})
        assert calendar.due(at("2026-08-03T00:00Z"), HOUR) == at("2026-08-03T04:30Z")
    finally:
        zoneinfo.reset_tzpath()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"weekly": {}}, "never opens"),
        ({"weekly": {"mon": []}}, "never opens"),
        ({"weekly": {"monday": [["09:00", "10:00"]]}}, "one of mon, tue"),
        ({"weekly": {"mon": [["09:00", "09:00"]]}}, "two different times"),
        ({"weekly": {"mon": [["24:00", "01:00"]]}}, 'an opening before "24:00"'),
        ({"weekly": {"mon": [["9:00", "10:00"]]}}, '"HH:MM"'),
        ({"weekly": {"mon": [["09:00", "25:00"]]}}, '"HH:MM"'),
        ({"weekly": {"mon": [["09:00"]]}}, "two times"),
        ({"holidays": ["2026-02-30"]}, "an existing date"),
        ({"holidays": ["20260101"]}, "an existing date"),
        ({"zone": "Europe/Berlln"}, "did you mean Europe/Berlin"),
        ({"zone": "../../etc/passwd"}, "an IANA zone"),
    ],
)
def test_a_malformed_calendar_is_refused(parts: dict[str, Any], expected: str) -> None:
    """Each says what was expected."""
    whole: dict[str, Any] = {"zone": "UTC", "weekly": WHOLE_WEEK, "holidays": []}
    with pytest.raises(ValueError, match=expected):
        Calendar("c", **(whole | parts))


def test_an_open_pause_stops_everything_not_reached_before_it() -> None:
    """Paused after 2 of 4 hours: the warning at 1 h keeps its instant, that at 3 h and the due time are
    unknown."""
    start = at("2026-08-10T07:00Z")
    pauses: list[Pause] = [(start + 2 * HOUR, None)]
    assert due_with_pauses(OFFICE, start, HOUR, pauses) == start + HOUR
    assert due_with_pauses(OFFICE, start, 2 * HOUR, pauses) == start + 2 * HOUR
    assert due_with_pauses(OFFICE, start, 3 * HOUR, pauses) is None


def test_max_pause_bounds_the_sum_of_the_pauses() -> None:
    """3 h allowed: a closed pause of 2 h leaves 1 h to the open one, after which the clock runs on."""
    start = at("2026-08-10T07:00Z")
    pauses = bounded([(start + HOUR, start + 3 * HOUR), (start + 4 * HOUR, None)], 3 * HOUR)
    assert pauses == [(start + HOUR, start + 3 * HOUR), (start + 4 * HOUR, start + 5 * HOUR)]
    assert due_with_pauses(ROUND_THE_CLOCK, start, 4 * HOUR, pauses) == start + 7 * HOUR
    assert paused(pauses, start + 10 * HOUR) == 3 * HOUR
    assert elapsed_with_pauses(ROUND_THE_CLOCK, start, start + 7 * HOUR, pauses) == 4 * HOUR


def test_a_pause_beyond_max_pause_does_not_count() -> None:
    """Nothing left of it: zero length, at any later pause too."""
    pauses = bounded([(0, 10), (20, 30), (40, None)], 10)
    assert pauses == [(0, 10), (20, 20), (40, 40)]
    assert bounded([(5, None)], 0) == [(5, 5)]
    assert bounded([(5, None)], None) == [(5, None)]


def test_time_used_ends_with_an_open_pause() -> None:
    """A stop during a pause: only the time before the pause was used."""
    start = at("2026-08-10T07:00Z")
    pauses: list[Pause] = [(start + HOUR, None)]
    assert elapsed_with_pauses(OFFICE, start, start + 3 * HOUR, pauses) == HOUR
    assert paused(pauses, start + 3 * HOUR) == 2 * HOUR


def test_what_of_a_pause_lies_after_the_end_does_not_count() -> None:
    """Neither as paused nor against the time used: one begins after the end, one goes on over it."""
    assert elapsed_with_pauses(ROUND_THE_CLOCK, 0, 10, [(20, 30)]) == 10
    assert paused([(20, 30)], 10) == 0
    assert elapsed_with_pauses(ROUND_THE_CLOCK, 0, 10, [(4, 30)]) == 4
    assert paused([(4, 30)], 10) == 6


@settings(max_examples=200, deadline=None)
@given(
    calendars,
    instants,
    st.integers(1, 30 * DAY),
    st.lists(st.integers(0, 5 * DAY), max_size=8),
    st.none() | st.integers(0, 9 * DAY),
)
def test_a_paused_clock_has_used_its_target_when_it_is_due(
    calendar: Calendar, start: int, target: int, steps: list[int], max_pause: int | None
) -> None:
    """Whatever was paused, the time used at the due instant is the target."""
    edges, pauses = start, list[Pause]()
    for step, length in zip(steps[::2], steps[1::2], strict=False):
        pauses.append((edges + step, edges + step + length))
        edges += step + length
    pauses = bounded(pauses, max_pause)
    due = due_with_pauses(calendar, start, target, pauses)
    assert due is not None
    before_due = [(begin, end) for begin, end in pauses if begin < due]
    assert elapsed_with_pauses(calendar, start, due, before_due) == target
