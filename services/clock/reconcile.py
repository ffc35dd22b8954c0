"""Obligations when another version takes over: `reconcile` in the transaction of a promote or rollback, and
the lists of what it would open and close, for the diff beforehand.

Promises: an obligation that the new version has too goes on as it is, with its alert; one that it lacks, or
whose clock has ended there, is closed, and opened again by a rollback; a new one that was due longer than
`ALERT_MAX_AGE_SECONDS` ago opens silently, others are told by the clock. Nothing here reads more than the
known obligations.
"""

from typing import NamedTuple

from schemas.records import Micros
from services import settings
from services.store.obligations import CLOCK_COLUMNS, Clock, Key
from services.store.outbox import conclude
from services.store.pool import Connection
from services.store.settling import GONE, current_clocks, settle

KNOWN = """
select policy_id, started_event_id, closed_at is null as is_open from ops.obligation
where closed_at is null or is_closed_by_switch
"""

# `closed_at` is the transaction's time.
MARK = "update ops.obligation set is_closed_by_switch = true where closed_at = now()"

# What was due between the new bound and the cursor is looked at again; what fired stays fired.
REWIND = """
update ops.clock set
  silent_until = least(now() - make_interval(secs => $1), fired_until),
  fired_until = least(now() - make_interval(secs => $1), fired_until)
"""

UNKNOWN_DUE = f"""
select {CLOCK_COLUMNS}, clock.due_at <= now() - make_interval(secs => $1) as is_silent
from {{schema}}.sla_clock clock
where clock.stopped_at is null and clock.due_at <= now()
  and not exists (
    select from ops.obligation
    where obligation.policy_id = clock.policy_id and obligation.started_event_id = clock.started_event_id
      and obligation.closed_at is null
  )
order by clock.due_at
"""


class Opening(NamedTuple):
    """An overdue obligation that a version has and on-call does not know."""

    key: Key
    journey_id: str
    due_at: Micros
    is_silent: bool
    """Due so long ago that nobody would be told."""


class Ending(NamedTuple):
    """An open obligation that a version would close."""

    key: Key
    reason: str
    """`gone`, or how its clock ended there."""


async def reconcile(connection: Connection, schema: str) -> None:
    """Sets obligations right for the version that this transaction promotes, under the exclusive feeding
    lock; before the views are replaced, so that no reader waits for it."""
    keys = [(row["policy_id"], row["started_event_id"]) for row in await connection.fetch(KNOWN)]
    await conclude(connection, await settle(connection, schema, keys))
    await connection.execute(MARK)
    await connection.execute(REWIND, float(settings.ALERT_MAX_AGE_SECONDS))


async def would_open(connection: Connection, schema: str) -> list[Opening]:
    """What is overdue in a version and not known, the longest overdue first. Reads its overdue clocks."""
    rows = await connection.fetch(UNKNOWN_DUE.format(schema=schema), float(settings.ALERT_MAX_AGE_SECONDS))
    clocks = [(Clock(*row[:-1]), bool(row[-1])) for row in rows]
    return [Opening(each.key, each.journey_id, each.due_at or 0, silent) for each, silent in clocks]


async def would_close(connection: Connection, schema: str) -> list[Ending]:
    """Which open obligations a version has no running clock for."""
    rows = await connection.fetch(KNOWN)
    keys = [(row["policy_id"], row["started_event_id"]) for row in rows if row["is_open"]]
    current = await current_clocks(connection, schema, keys)
    found = []
    for key in keys:
        clock = current[key].clock
        if clock is None:
            found.append(Ending(key, GONE))
        elif clock.stopped_at is not None:
            found.append(Ending(key, clock.cancelled_reason or ("met" if clock.is_met else "stopped_late")))
    return found
