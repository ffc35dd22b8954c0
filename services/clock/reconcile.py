"""Obligations when another version takes over: `reconcile` in the transaction of a promote or rollback, and
the lists of what it would open and close, for the diff beforehand.

Promises: an obligation that the new version has too goes on as it is, with its alert; one that it lacks, or
whose clock has ended there, is closed, and opened again by a rollback; a new one that was due longer than
`ALERT_MAX_AGE_SECONDS` ago is silent, others are told by the clock. What is said beforehand is decided by
the functions that do it, `settling.outlook` and the clock's. Leaves out what only raises or lowers an alert.
"""

from collections.abc import Sequence
from typing import NamedTuple

from services import settings
from services.clock.look import would_reach
from services.clock.opening import silent_of
from services.store.obligations import Key, known
from services.store.outbox import conclude
from services.store.pool import Connection
from services.store.settling import Running, outlook, settle
from services.store.versions import promoted_version

KNOWN = """
select policy_id, started_event_id from ops.obligation where closed_at is null or is_closed_by_switch
"""

# `closed_at` is the transaction's time.
MARK = "update ops.obligation set is_closed_by_switch = true where closed_at = now()"

REWOUND = "least(now() - make_interval(secs => $1), fired_until)"
"""Where the cursor is after a switch: what was due between it and now is looked at again; what fired stays
fired, and what was due before is silent."""

REWIND = f"update ops.clock set silent_until = {REWOUND}, fired_until = {REWOUND}"
CURSOR = f"select {REWOUND} as begin, now() as now from ops.clock"

OVERDUE = """
select clock.policy_id, clock.started_event_id from {schema}.sla_clock clock
where clock.stopped_at is null and clock.due_at <= now()
  and not exists (
    select from ops.obligation
    where obligation.policy_id = clock.policy_id and obligation.started_event_id = clock.started_event_id
      and obligation.closed_at is null
  )
  and not exists (
    select from {promoted}.sla_clock present
    where present.policy_id = clock.policy_id and present.started_event_id = clock.started_event_id
      and present.journey_id = clock.journey_id
      and present.stopped_at is null and present.due_at <= now()
  )
"""


class Opening(NamedTuple):
    """An obligation that on-call does not have now."""

    key: Key
    is_silent: bool
    """Nobody would be told."""


class Ending(NamedTuple):
    """An open obligation that a version would close."""

    key: Key
    reason: str
    """As in `ops.obligation`: `gone`, `not_due`, or how its clock ended there."""
    is_silent: bool
    """Nobody was told of it."""


async def reconcile(connection: Connection, schema: str) -> None:
    """Sets obligations right for the version that this transaction promotes, under the exclusive feeding
    lock; before the views are replaced, so that no reader waits for it."""
    keys = await _keys(connection)
    await conclude(connection, await settle(connection, schema, keys))
    await connection.execute(MARK)
    await connection.execute(REWIND, float(settings.ALERT_MAX_AGE_SECONDS))


async def would_open(connection: Connection, schema: str) -> list[Opening]:
    """What a version would open if it took over now, overdue clocks that would stay silent too.

    Outside a transaction: obligations are locked while they are read. Raises NothingPromoted.
    """
    running = (await outlook(connection, schema, await known(connection, await _keys(connection)))).running
    going_on = {each.clock.key for each in running if each.obligation.closed_at is None and not each.is_early}
    told = await _told(connection, schema, running) - going_on
    promoted = (await promoted_version(connection)).schema_name
    overdue = await connection.fetch(OVERDUE.format(schema=schema, promoted=promoted))
    silent = {(row["policy_id"], row["started_event_id"]) for row in overdue} - told - going_on
    return [Opening(key, key in silent) for key in sorted(told | silent)]


async def _told(connection: Connection, schema: str, running: Sequence[Running]) -> set[Key]:
    """Of what the clock finds at its first looks after the switch: that which is not silent."""
    cursor = await connection.fetchrow(CURSOR, float(settings.ALERT_MAX_AGE_SECONDS))
    assert cursor is not None
    changed = {each.clock.journey_id for each in running}
    reached = await would_reach(connection, schema, cursor["begin"], cursor["now"], changed)
    again = [each.clock for each in running if each.obligation.closed_at is not None and each.is_reached]
    clocks = {clock.key: clock for clock in [*(each.clock for each in reached), *again]}
    same = {key for key, each in (await known(connection, clocks)).items() if each.alert_id is not None}
    silent = await silent_of(connection, clocks, cursor["begin"])
    return same | (clocks.keys() - silent)


async def would_close(connection: Connection, schema: str) -> list[Ending]:
    """Which open obligations a version would close if it took over now. As `would_open`."""
    obligations = await known(connection, await _keys(connection))
    found = await outlook(connection, schema, obligations)
    told = [each for each in obligations.values() if each.alert_id is not None]
    told += [heir.obligation for heir in found.heirs if heir.obligation.alert_id is not None]
    keys = {each.key for each in told}
    return [Ending(each.key, each.reason, each.key not in keys) for each in found.closings]


async def _keys(connection: Connection) -> list[Key]:
    return [(row["policy_id"], row["started_event_id"]) for row in await connection.fetch(KNOWN)]
