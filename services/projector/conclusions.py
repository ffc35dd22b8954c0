"""What a transaction's changes mean for others: obligations that are over, conclusions for `lead.derived`.

Promises: all of it in the transaction that wrote the rows, and for the promoted version only, so a rebuild or
a second version tells nobody. Leaves the rules of ending to `services.store.settling`, and what may have
become due to the clock, which alone opens and raises.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from projections import sla_clock, stage_visit
from projections.journey import Rows
from projections.table import Row
from schemas.derived import ClockBreached, ClockMet, Derived, StageEntered, stage_id
from schemas.records import Micros
from services.store.feeding import Version
from services.store.obligations import TELL_CLOCK, Clock, Key, columns, concluded
from services.store.outbox import conclude
from services.store.pool import Connection
from services.store.settling import settle

CLOCKS, VISITS = sla_clock.TABLE.name, stage_visit.TABLE.name
NEAR_MICROS = 3_600_000_000
"""Clocks changed to an instant before an hour from now are told to the clock process. It finds later ones by
itself, since no transaction is open for an hour."""

FIRE = """
insert into ops.fired (policy_id, started_event_id, threshold)
select policy_id, event_id, 'due' from unnest($1::text[], $2::text[]) late (policy_id, event_id)
on conflict do nothing returning policy_id, started_event_id
"""


class Visit(NamedTuple):
    """A row of `stage_visit`, with its columns in their order."""

    journey_id: str
    visit_no: int
    stage: str
    stage_role: str
    entered_at: Micros
    left_at: Micros | None
    next_stage: str | None
    reason_code: str | None
    is_inferred: bool
    entered_event_id: str
    left_event_id: str | None
    calendar_seconds: float | None
    business_seconds: float | None
    definition_version: str


class Differing(NamedTuple):
    """The rows of a table that only stood before, and those that only stand after: of all journeys at once,
    since a link or unlink takes rows from one to another."""

    before: set[Row]
    after: set[Row]


async def draw(connection: Connection, version: Version, pairs: Sequence[tuple[Rows, Rows]]) -> None:
    """Draws the conclusions of rows that were written: before and after, journey by journey.

    Costs a comparison where no clock and no visit changed.
    """
    if not version.is_promoted:
        return
    visits, clocks = differing(pairs, VISITS), differing(pairs, CLOCKS)
    if not any((*visits, *clocks)):
        return
    now: Micros = await connection.fetchval("select now()")
    told: list[Derived] = list(entries(visits, now))
    if any(clocks):
        told += await conclude_clocks(connection, version, clocks, now)
    await conclude(connection, told)


def differing(pairs: Iterable[tuple[Rows, Rows]], table: str) -> Differing:
    """What differs of a table."""
    found = Differing(set(), set())
    for before, after in pairs:
        old, new = before.get(table, []), after.get(table, [])
        if old != new:
            found.before.update(old)
            found.after.update(new)
    both = found.before & found.after
    return Differing(found.before - both, found.after - both)


def entries(visits: Differing, now: Micros) -> Iterator[StageEntered]:
    """The stages newly entered, in order. Entering event and role are what no other event shifts."""
    before = {(each.entered_event_id, each.stage_role) for each in map(_visit, visits.before)}
    for each in sorted(map(_visit, visits.after), key=lambda each: each[:2]):
        if not each.is_inferred and (each.entered_event_id, each.stage_role) not in before:
            yield StageEntered(
                event_id=stage_id(each.stage_role, each.entered_event_id),
                journey_id=each.journey_id,
                occurred_at=each.entered_at,
                concluded_at=now,
                definition_version=each.definition_version,
                stage=each.stage,
                role=each.stage_role,
                entered_event_id=each.entered_event_id,
            )


def _visit(row: Row) -> Visit:
    return msgspec.convert(row, Visit)


async def conclude_clocks(
    connection: Connection, version: Version, clocks: Differing, now: Micros
) -> list[Derived]:
    """Settles the obligations of changed clocks; tells what ended, and the clock what may be due."""
    before = {each.key: each for each in (msgspec.convert(row, Clock) for row in clocks.before)}
    after = {each.key: each for each in (msgspec.convert(row, Clock) for row in clocks.after)}
    near = {each.journey_id for each in after.values() if _is_near(each, now)}
    if near:
        await connection.execute(TELL_CLOCK, sorted(near))
    journeys = {each.journey_id for each in (*before.values(), *after.values())}
    withdrawn = await settle(connection, version.schema, before.keys() | after.keys(), journeys)
    met = [
        ClockMet(
            **concluded(each, "met", each.stopped_at or 0, now),
            stopped_event_id=each.stopped_event_id or "",
            is_logged_late=each.is_logged_late,
        )
        for key, each in after.items()
        if each.is_met and not (key in before and before[key].is_met)
    ]
    return [*withdrawn, *met, *await _breaches(connection, after, now)]


def _is_near(clock: Clock, now: Micros) -> bool:
    instants = [at for at in (clock.warn_at, clock.due_at) if at is not None]
    return clock.stopped_at is None and bool(instants) and min(instants) <= now + NEAR_MICROS


async def _breaches(connection: Connection, after: dict[Key, Clock], now: Micros) -> list[ClockBreached]:
    """Clocks that were stopped late before the clock process could say that they were due."""
    late = sorted(key for key, each in after.items() if each.is_late)
    if not late:
        return []
    rows = await connection.fetch(FIRE, *columns(late, 2))
    fired = [after[row["policy_id"], row["started_event_id"]] for row in rows]
    return [ClockBreached(**concluded(each, "breached", each.due_at or 0, now)) for each in fired]
