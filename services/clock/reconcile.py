"""Obligations when another version takes over: `reconcile` in the transaction of a promote or rollback, and
what that would come to, for the diff beforehand.

Promises: an obligation that the new version has too goes on as it is, with its alert; one that it lacks, or
whose clock has ended there, is closed, and opened again by a rollback; a new one that was due longer than
`ALERT_MAX_AGE_SECONDS` ago is silent, others are told by the clock. What is said beforehand is what was done
in a transaction that was rolled back.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from schemas.derived import ClockWithdrawn
from services import settings
from services.clock.look import Reached, would_reach
from services.clock.opening import silent_of
from services.store.obligations import DUE, Key, Obligation, known
from services.store.outbox import conclude
from services.store.pool import Connection
from services.store.settling import settle
from services.store.versions import promoted_version

# Nearly all go on as they are: the clock runs in the new version too, what it has reached by now is what was
# told, and nobody waits to hear of another due date. There may be tens of thousands, so they are brought up
# to date here, and only what is left is for `settle`.
GO_ON = """
with considered as materialized (
  select obligation.ctid as place, policy_id, started_event_id, clock.clock_no, clock.started_at,
    clock.due_at, clock.owner_id, clock.team_id, clock.definition_version,
    closed_at is null and stopped_at is null
      and (alert_id is null or obligation.due_at is not distinct from clock.due_at)
      and coalesce(told.thresholds = nullif(reached.thresholds, '{{}}'), false) as goes_on
  from ops.obligation left join {schema}.sla_clock clock using (journey_id, policy_id, started_event_id)
  cross join lateral (
    select array(
      select threshold from ops.fired
      where fired.policy_id = obligation.policy_id and fired.started_event_id = obligation.started_event_id
      order by threshold
    ) as thresholds
  ) told
  cross join lateral (
    select array(
      select share::text collate "C" from {schema}.sla_warning warning
      where warning.journey_id = clock.journey_id and warning.policy_id = clock.policy_id
        and warning.clock_no = clock.clock_no and warn_at <= now()
      union all
      select 'due' where clock.due_at <= now()
      order by 1
    ) as thresholds
  ) reached
  where closed_at is null or is_closed_by_switch
),
shown as (
  update ops.obligation set clock_no = clock.clock_no, started_at = clock.started_at, due_at = clock.due_at,
    owner_id = clock.owner_id, team_id = clock.team_id, definition_version = clock.definition_version
  from considered clock where obligation.ctid = place and goes_on
)
select policy_id, started_event_id from considered where not goes_on
"""

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

CHANGED = "select journey_id from ops.changed_clock"

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


Obligations = Mapping[Key, Obligation]


async def reconcile(connection: Connection, schema: str) -> None:
    """Sets obligations right for the version that this transaction promotes, under the exclusive feeding
    lock; before the views are replaced, so that no reader waits for it."""
    await conclude(connection, await _settle(connection, schema))
    await connection.execute(REWIND, float(settings.ALERT_MAX_AGE_SECONDS))


async def _settle(connection: Connection, schema: str) -> list[ClockWithdrawn]:
    left = await _keys(connection, GO_ON.format(schema=schema))
    withdrawn = await settle(connection, schema, left)
    await connection.execute(MARK)
    return withdrawn


async def would_change(connection: Connection, schema: str) -> list[Foreseen]:
    """What would come of obligations if a version took over now. What is not listed stays as it is.

    Outside a transaction. Raises NothingPromoted.
    """
    promoted = (await promoted_version(connection)).schema_name
    transaction = connection.transaction()
    await transaction.start()
    try:
        before = await known(connection, await _keys(connection))
        await _settle(connection, schema)
        after = await known(connection, {*before, *await _keys(connection)})
        cursor = await connection.fetchrow(CURSOR, float(settings.ALERT_MAX_AGE_SECONDS))
        assert cursor is not None
        changed = [row["journey_id"] for row in await connection.fetch(CHANGED)]
        reached = await would_reach(connection, schema, cursor["begin"], cursor["now"], changed)
        clocks = {each.clock.key: each.clock for each in reached}
        has_alert = {
            key for key, each in (await known(connection, clocks)).items() if each.alert_id is not None
        }
        told = clocks.keys() - (await silent_of(connection, clocks, cursor["begin"]) - has_alert)
        overdue = await connection.fetch(OVERDUE.format(schema=schema, promoted=promoted))
    finally:
        await transaction.rollback()
    silent = {(row["policy_id"], row["started_event_id"]) for row in overdue}
    return [
        *_closings(before, after),
        *_openings(after, told, silent),
        *_shifts(before, after, reached),
    ]


def _closings(before: Obligations, after: Obligations) -> Iterator[Foreseen]:
    for key, each in after.items():
        is_news = key not in before or before[key].closed_at != each.closed_at
        if each.closed_at is not None and is_news and each.outcome != "moved":
            yield Foreseen(key, "closes", each.reason or "", each.alert_id is None)


def _openings(after: Obligations, told: set[Key], silent: set[Key]) -> Iterator[Foreseen]:
    going_on = {key for key, each in after.items() if each.closed_at is None}
    loud = {key for key in told if not (key in after and _is_told(after[key]))}
    for key in loud | (silent - told - going_on):
        yield Foreseen(key, "opens", "", key not in loud)


def _shifts(before: Obligations, after: Obligations, reached: Sequence[Reached]) -> Iterator[Foreseen]:
    was_critical = {each.alert_id: each.severity == "critical" for each in before.values()}
    open_ones = {key: each for key, each in after.items() if _is_told(each)}
    due = {each.clock.key for each in reached if each.threshold == DUE}
    critical = {each.alert_id for key, each in open_ones.items() if each.severity == "critical" or key in due}
    for key, each in open_ones.items():
        if was_critical[each.alert_id] != (each.alert_id in critical):
            yield Foreseen(key, "raises" if each.alert_id in critical else "lowers", "", is_silent=False)


def _is_told(obligation: Obligation) -> bool:
    return obligation.closed_at is None and obligation.alert_id is not None


async def _keys(connection: Connection, query: str = KNOWN) -> list[Key]:
    return [(row["policy_id"], row["started_event_id"]) for row in await connection.fetch(query)]
