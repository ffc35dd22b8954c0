"""A version's calendars as tables, so that SQL measures business time by subtracting two look-ups.

Promises: `calendar` lists the calendars of every definition of the timeline, as the latest calendar facts
have them; `calendar_window` holds their open windows with the open time before each. Both are made by the one
calendar of `projections.business_time`. Open time up to an instant t = that before the last window with
`opens_at <= t`, plus the part of this window before t. Leaves closed intervals to the fold, which has
measured them already.
"""

from collections.abc import Iterator
from typing import NamedTuple

from projections.business_time import DAY, Calendar
from projections.rules import Rules
from schemas.records import Micros
from services import settings
from services.store.pool import Connection

TABLES = """
create table if not exists {schema}.calendar (
  calendar_no     integer primary key,
  calendar_id     text collate "C" not null,
  zone            text not null,
  valid_from      timestamptz,
  measures_visits boolean not null,
  covers_from     timestamptz not null,
  covers_until    timestamptz not null
);
create table if not exists {schema}.calendar_window (
  calendar_no        integer not null,
  opens_at           timestamptz not null,
  closes_at          timestamptz not null,
  open_micros_before bigint not null,
  primary key (calendar_no, opens_at)
);
comment on table {schema}.calendar is 'The calendars of each definition, laid out for some years.';
comment on column {schema}.calendar.zone is 'In the zone of the calendar of visits, months begin.';
comment on column {schema}.calendar.valid_from is 'When its definition takes effect; null = at first.';
comment on column {schema}.calendar.measures_visits is 'It is the calendar of business seconds in stages.';
comment on table {schema}.calendar_window is 'When a calendar is open.';
comment on column {schema}.calendar_window.open_micros_before is
  'Open microseconds from the first window up to opens_at.';
"""

LAID_OUT = ("calendar", "calendar_window")
"""Their names."""

YEAR = 365 * DAY


class Laid(NamedTuple):
    """A row of `calendar`."""

    calendar_no: int
    calendar_id: str
    zone: str
    valid_from: Micros | None
    measures_visits: bool
    covers_from: Micros
    covers_until: Micros


Window = tuple[int, Micros, Micros, int]
"""A row of `calendar_window`: number of the calendar, opening, closing, open microseconds before."""


async def write_calendars(connection: Connection, schema: str, rules: Rules) -> None:
    """Lays out the calendars of a version anew, some years around now; makes the tables if missing.

    To be called when the version is made, when a calendar fact has changed `rules`, and when the years that
    are laid out come to their end.
    """
    now: Micros = await connection.fetchval("select now()")
    calendars, windows = calendar_rows(rules, now)
    async with connection.transaction():
        await connection.execute(TABLES.format(schema=schema))
        await connection.execute(f"delete from {schema}.calendar; delete from {schema}.calendar_window")
        await connection.copy_records_to_table("calendar", schema_name=schema, records=calendars)
        await connection.copy_records_to_table("calendar_window", schema_name=schema, records=windows)


def calendar_rows(rules: Rules, now: Micros) -> tuple[list[Laid], list[Window]]:
    """The rows of both tables, covering the years set before and after `now`."""
    begin = now - settings.CALENDAR_YEARS_BACK * YEAR
    end = now + settings.CALENDAR_YEARS_AHEAD * YEAR
    laid: list[Laid] = []
    windows: list[Window] = []
    for number, (start, definition) in enumerate(zip(rules.starts, rules.definitions, strict=True)):
        for calendar_id in sorted(definition.calendars):
            calendar = rules.calendar(calendar_id, number, None)
            assert isinstance(calendar, Calendar)
            is_of_visits = calendar_id == definition.calendar
            valid_from = start if number else None
            laid.append(Laid(len(laid), calendar_id, calendar.zone, valid_from, is_of_visits, begin, end))
            windows += _windows(len(laid) - 1, calendar, begin, end)
    return laid, windows


def _windows(calendar_no: int, calendar: Calendar, begin: Micros, end: Micros) -> Iterator[Window]:
    before = 0
    for opens_at, closes_at in calendar.windows(begin, end):
        yield calendar_no, opens_at, closes_at, before
        before += closes_at - opens_at
