"""The timeline of a version: its definitions by date, as stored, and the rules that they come to.

Leaves which versions there are to `versions`, and what a definition says to `projections.definition`.
"""

from collections.abc import Iterable, Sequence
from functools import reduce

import msgspec

from projections import definition
from projections.business_time import Calendar
from projections.rules import BEGINNING, Entry, Rules
from schemas.records import CalendarChanged, Micros
from services.store.pool import Connection


class TimelineEntry(msgspec.Struct, frozen=True):
    """One definition of a version's timeline, as stored."""

    valid_from: Micros | None
    body: str


def parse_timeline(text: str) -> list[TimelineEntry]:
    """The timeline in the JSON of `ops.version`."""
    return msgspec.json.decode(text, type=list[TimelineEntry])


def timeline_json(timeline: Sequence[TimelineEntry]) -> str:
    """A timeline as that JSON."""
    return msgspec.json.encode(timeline).decode()


def rules_of(timeline: Iterable[TimelineEntry], calendars: Iterable[CalendarChanged]) -> Rules:
    """The compiled rules of a timeline and the calendar facts known."""
    return Rules(entries_of(timeline), calendars)


def entries_of(timeline: Iterable[TimelineEntry]) -> list[Entry]:
    """The definitions of a timeline, parsed."""
    return [Entry(entry.valid_from, definition.parse(entry.body)) for entry in timeline]


async def calendar_facts(connection: Connection) -> list[CalendarChanged]:
    """The calendar facts that count. One that describes no calendar has no effect."""
    rows = await connection.fetch("select fact from log.reference where record_name = 'CalendarChanged'")
    facts = [msgspec.json.decode(row["fact"], type=CalendarChanged) for row in rows]
    return [fact for fact in facts if is_calendar(fact)]


def is_calendar(fact: CalendarChanged) -> bool:
    """Whether zone, windows and holidays make a calendar."""
    try:
        Calendar(fact.calendar_id, fact.zone, fact.weekly, fact.holidays)
    except ValueError:
        return False
    return True


def with_entries(timeline: Sequence[TimelineEntry], entries: Iterable[TimelineEntry]) -> list[TimelineEntry]:
    """The timeline with more entries, the later of one date in place of the earlier."""
    return reduce(with_entry, entries, list(timeline))


def with_entry(timeline: Iterable[TimelineEntry], entry: TimelineEntry) -> list[TimelineEntry]:
    """The timeline with one more entry, which replaces one of the same date; earliest first."""
    others = [each for each in timeline if each.valid_from != entry.valid_from]
    return sorted(
        [*others, entry], key=lambda each: BEGINNING if each.valid_from is None else each.valid_from
    )
