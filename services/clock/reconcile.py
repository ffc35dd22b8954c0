"""Obligations when another version takes over: `reconcile` in the transaction of a promote or rollback, and
what that would come to, for the diff beforehand.

Promises: an obligation that the new version has too goes on as it is, with its alert; one that it lacks, or
whose clock has ended there, is closed, and opened again by a rollback; a new one that was due longer than
`ALERT_MAX_AGE_SECONDS` ago is silent, others are told by the clock. What is said beforehand is decided by
the functions that do it, those of `settling` and of the clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from services import settings
from services.clock.look import would_reach
from services.clock.opening import silent_of
from services.store.obligations import DUE, Key, Obligation, known
from services.store.outbox import conclude
from services.store.pool import Connection
from services.store.settling import Outlook, Running, outlook, settle
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


class Foreseen(NamedTuple):
    """What a switch would do to an obligation."""

    key: Key
    change: Literal["opens", "raises", "lowers", "closes"]
    """From a warning to a breach it raises, back it lowers."""
    reason: str
    """Why it closes, as in `ops.obligation`: `gone`, `not_due`, or how its clock ended; else empty."""
    is_silent: bool
    """Nobody would be told: overdue for too long already when it came."""


async def reconcile(connection: Connection, schema: str) -> None:
    """Sets obligations right for the version that this transaction promotes, under the exclusive feeding
    lock; before the views are replaced, so that no reader waits for it."""
    keys = await _keys(connection)
    await conclude(connection, await settle(connection, schema, keys))
    await connection.execute(MARK)
    await connection.execute(REWIND, float(settings.ALERT_MAX_AGE_SECONDS))


async def would_change(connection: Connection, schema: str) -> list[Foreseen]:
    """What would come of obligations if a version took over now. What is not listed stays as it is.

    Outside a transaction: obligations are locked while they are read. Raises NothingPromoted.
    """
    obligations = await known(connection, await _keys(connection))
    found = await outlook(connection, schema, obligations)
    return [
        *await _openings(connection, schema, found.running),
        *_shifts(found.running),
        *_closings(found, obligations.values()),
    ]


async def _openings(connection: Connection, schema: str, running: Sequence[Running]) -> list[Foreseen]:
    going_on = [each for each in running if each.is_open and not each.is_early]
    told = await _told(connection, schema, running)
    told -= {each.clock.key for each in going_on if each.obligation.alert_id is not None}
    promoted = (await promoted_version(connection)).schema_name
    overdue = await connection.fetch(OVERDUE.format(schema=schema, promoted=promoted))
    silent = {(row["policy_id"], row["started_event_id"]) for row in overdue} - told
    silent -= {each.clock.key for each in going_on}
    return [Foreseen(key, "opens", "", key in silent) for key in told | silent]


def _shifts(running: Iterable[Running]) -> Iterator[Foreseen]:
    for each in running:
        if not each.is_open or each.is_early:
            continue
        if each.obligation.severity == "warning" and DUE in each.firing:
            yield Foreseen(each.clock.key, "raises", "", is_silent=False)
        elif each.obligation.severity == "critical" and DUE in each.unreached:
            yield Foreseen(each.clock.key, "lowers", "", is_silent=False)


def _closings(found: Outlook, obligations: Iterable[Obligation]) -> list[Foreseen]:
    all_of_them = [*obligations, *(heir.obligation for heir in found.heirs)]
    told = {each.key for each in all_of_them if each.alert_id is not None}
    return [Foreseen(each.key, "closes", each.reason, each.key not in told) for each in found.closings]


async def _told(connection: Connection, schema: str, running: Sequence[Running]) -> set[Key]:
    """Of what the clock finds at its first looks after the switch: that which is not silent."""
    cursor = await connection.fetchrow(CURSOR, float(settings.ALERT_MAX_AGE_SECONDS))
    assert cursor is not None
    changed = {each.clock.journey_id for each in running}
    reached = await would_reach(connection, schema, cursor["begin"], cursor["now"], changed)
    known_ones = {each.clock.key for each in running}
    clocks = {each.clock.key: each.clock for each in reached if each.clock.key not in known_ones}
    clocks |= {each.clock.key: each.clock for each in running if each.firing}
    obligations = [*(await known(connection, clocks)).values(), *(each.obligation for each in running)]
    told_before = {each.key for each in obligations if each.alert_id is not None}
    silent = await silent_of(connection, clocks, cursor["begin"])
    return clocks.keys() - (silent - told_before)


async def _keys(connection: Connection) -> list[Key]:
    return [(row["policy_id"], row["started_event_id"]) for row in await connection.fetch(KNOWN)]
