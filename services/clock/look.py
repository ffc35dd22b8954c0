"""One look of the clock at the promoted version: what has become due is fired, once, in order.

Promises: a threshold (a warning, or due) of an open clock fires once for ever, in the transaction that keeps
it; the cursor `fired_until` moves over an instant only when it has. What the projector changes behind the
cursor comes by `ops.changed_clock`. A clock row that fires is locked, so its end is seen before or after and
never missed. Nothing is scanned: instants are read from an index, from the cursor to now. Leaves who looks
and how often to `process`, and ending what it opened to the projector.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from schemas.derived import ClockBreached, ClockWarned, Derived
from schemas.records import Micros
from services.clock import opening
from services.clock.metrics import FIRED, LATE_SECONDS
from services.store import obligations
from services.store.locks import share_feeding
from services.store.obligations import CLOCK_COLUMNS, DUE, TELL_CLOCK, Clock, Key, columns
from services.store.outbox import conclude
from services.store.pool import Connection, fetch_planned

INSTANTS_AT_ONCE = 5_000
"""Due instants, and as many warnings, taken in one look: bounds memory and the length of its transaction."""
CHANGES_AT_ONCE = 1_000
"""Changed journeys taken in one look."""
BEAT_SECONDS = 2
"""How old the sign of life in `ops.clock` may be when there is nothing to do."""

STATE = """
select schema_name, fired_until, silent_until, clock_timestamp() as now,
  coalesce(beat_at < clock_timestamp() - make_interval(secs => $1), true) as is_beat_old
from ops.version, ops.clock where status = 'promoted'
"""

CHANGED = """
delete from ops.changed_clock where ctid = any(array(
  select ctid from ops.changed_clock order by change_id limit $1 for update skip locked
)) returning journey_id
"""

DUE_WINDOW = """
select journey_id, due_at as at from {schema}.sla_clock
where stopped_at is null and due_at > $1 and due_at <= $2
order by due_at fetch first $3 rows with ties
"""

WARNING_WINDOW = """
select journey_id, warn_at as at from {schema}.sla_warning
where warn_at > $1 and warn_at <= $2
order by warn_at fetch first $3 rows with ties
"""

REACHED = """
select {columns}, reached.threshold, reached.at
from {schema}.sla_clock clock
cross join lateral (
  select 'due' as threshold, clock.due_at as at
  union all
  select warning.share::text, warning.warn_at from {schema}.sla_warning warning
  where warning.journey_id = clock.journey_id and warning.policy_id = clock.policy_id
    and warning.clock_no = clock.clock_no
) reached
where clock.journey_id = any($1) and clock.stopped_at is null and reached.at <= $2
  and not exists (
    select from ops.fired
    where fired.policy_id = clock.policy_id and fired.started_event_id = clock.started_event_id
      and fired.threshold = reached.threshold
  )
order by reached.at, reached.threshold = 'due'
"""

LOCK = """
select policy_id, started_event_id from {schema}.sla_clock
where journey_id = any($1) and stopped_at is null for update skip locked
"""

OPEN = "select count(*) from {schema}.sla_clock where journey_id = any($1) and stopped_at is null"

FIRE = """
insert into ops.fired (policy_id, started_event_id, threshold)
select * from unnest($1::text[], $2::text[], $3::text[])
"""

MOVE = "update ops.clock set fired_until = $1, beat_at = now()"

NEXT = """
select least(
  (select min(due_at) from {schema}.sla_clock where stopped_at is null and due_at > $1),
  (select min(warn_at) from {schema}.sla_warning where warn_at > $1)
)
"""


class Reached(NamedTuple):
    """A threshold of an open clock that has not fired yet."""

    clock: Clock
    threshold: str
    at: Micros


class Looked(NamedTuple):
    """What a look found."""

    fired: int
    next_in: float | None
    """Seconds until the next instant; 0 when there is more at once, None when there is none."""


async def look(connection: Connection) -> Looked:
    """Fires what is due now, in a transaction of its own; nothing while no version is promoted."""
    async with connection.transaction():
        await share_feeding(connection)
        state = await connection.fetchrow(STATE, BEAT_SECONDS)
        if state is None:
            return Looked(0, None)
        schema, now = state["schema_name"], state["now"]
        rows = await fetch_planned(connection, CHANGED, CHANGES_AT_ONCE)
        changed = [row["journey_id"] for row in rows]
        window = await _window(connection, schema, state["fired_until"], now)
        reached = await _locked(connection, schema, window.journeys | set(changed), now)
        await _fire(connection, reached, now, state["silent_until"])
        is_set_back = state["fired_until"] > now  # the machine's time was: what comes due until then is new
        if reached or state["is_beat_old"] or window.until < now or is_set_back:
            await connection.execute(MOVE, window.until)
        if window.until < now or len(changed) == CHANGES_AT_ONCE:
            return Looked(len(reached), 0)
        next_at = await connection.fetchval(NEXT.format(schema=schema), now)
    return Looked(len(reached), None if next_at is None else (next_at - now) / 1e6)


class Window(NamedTuple):
    """The journeys with an instant between the cursor and `until`."""

    journeys: set[str]
    until: Micros


async def _window(connection: Connection, schema: str, begin: Micros, now: Micros) -> Window:
    journeys: set[str] = set()
    until = now
    for query in (DUE_WINDOW, WARNING_WINDOW):
        rows = await connection.fetch(query.format(schema=schema), begin, now, INSTANTS_AT_ONCE)
        journeys.update(row["journey_id"] for row in rows)
        if len(rows) >= INSTANTS_AT_ONCE:
            until = min(until, rows[-1]["at"])
    return Window(journeys, until)


async def would_reach(
    connection: Connection, schema: str, begin: Micros, now: Micros, changed: Collection[str]
) -> list[Reached]:
    """What a clock whose cursor is at `begin` finds in a version, told of changed journeys. Reads only."""
    journeys = set(changed)
    while begin < now:
        window = await _window(connection, schema, begin, now)
        journeys |= window.journeys
        begin = window.until
    return await _reached(connection, schema, journeys, now)


async def _locked(connection: Connection, schema: str, journeys: set[str], now: Micros) -> list[Reached]:
    """What has been reached, by clocks that are now locked; journeys that the projector holds come again."""
    reached = await _reached(connection, schema, journeys, now)
    if not reached:
        return []
    meant = {each.clock.journey_id for each in reached}
    locked = {tuple(row) for row in await connection.fetch(LOCK.format(schema=schema), sorted(meant))}
    if await connection.fetchval(OPEN.format(schema=schema), sorted(meant)) != len(locked):
        await connection.execute(TELL_CLOCK, sorted(meant))
    return [each for each in await _reached(connection, schema, meant, now) if each.clock.key in locked]


async def _reached(
    connection: Connection, schema: str, journeys: Collection[str], now: Micros
) -> list[Reached]:
    if not journeys:
        return []
    query = REACHED.format(schema=schema, columns=CLOCK_COLUMNS)
    rows = await connection.fetch(query, sorted(journeys), now)
    return [Reached(Clock(*row[:-2]), row["threshold"], row["at"]) for row in rows]


async def _fire(connection: Connection, reached: Sequence[Reached], now: Micros, silent: Micros) -> None:
    if not reached:
        return
    by_key: dict[Key, list[Reached]] = defaultdict(list)
    for each in reached:
        by_key[each.clock.key].append(each)
    await connection.execute(FIRE, *columns([(*each.clock.key, each.threshold) for each in reached], 3))
    is_due = {key: any(each.threshold == DUE for each in found) for key, found in by_key.items()}
    clocks = {key: found[0].clock for key, found in by_key.items()}
    known = await obligations.known(connection, clocks)
    await opening.tell(connection, clocks, is_due, known, silent)
    await conclude(connection, [_conclusion(each, now) for each in reached])
    for each in reached:
        FIRED.labels("due" if each.threshold == DUE else "warning").inc()
        LATE_SECONDS.observe((now - each.at) / 1e6)


def _conclusion(reached: Reached, now: Micros) -> Derived:
    clock, threshold, at = reached
    fields = obligations.concluded(clock, obligations.told_as(threshold), at, now)
    return ClockBreached(**fields) if threshold == DUE else ClockWarned(**fields, share=float(threshold))
