"""Sets obligations right by what a version says of their clocks now.

Promises: an obligation is closed when its clock was stopped, cancelled or is no more; one whose journey now
has another open clock of the policy that nobody was told of is the same obligation with another starting
event, and takes its alert along; what was told of a clock that is no more, or too early by what is known now,
is taken back. All of it looks at the rows as they stand, so it can be repeated. Leaves opening and raising to
the clock, which is told where to look. Called by the projector for what a batch changed, and when another
version is promoted.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.derived import ClockWithdrawn, clock_id
from schemas.records import Micros
from services.store.obligations import (
    CLOCK_COLUMNS,
    DUE,
    TELL_CLOCK,
    Clock,
    Closing,
    Key,
    Obligation,
    change_alerts,
    close,
    columns,
    concluded,
    keep,
    known,
    lower_alerts,
    told_as,
)
from services.store.outbox import unsay
from services.store.pool import Connection

CURRENT = f"""
select asked.policy_id, asked.event_id, subject.journey_id as home,
  coalesce(journey.is_stale, true) or exists (
    select from ops.parked join ops.version using (version_no)
    where parked.journey_id = subject.journey_id and schema_name = '{{schema}}'
  ) as is_stale,
  {CLOCK_COLUMNS}
from unnest($1::text[], $2::text[]) asked (policy_id, event_id)
join log.event on event.event_id = asked.event_id
join log.subject on subject.subject_id = event.subject_id
left join {{schema}}.journey on journey.journey_id = subject.journey_id
left join {{schema}}.sla_clock clock on clock.journey_id = subject.journey_id
  and clock.policy_id = asked.policy_id and clock.started_event_id = asked.event_id
"""

OPEN_CLOCKS = f"""
select {CLOCK_COLUMNS} from {{schema}}.sla_clock clock where journey_id = any($1) and stopped_at is null
"""

FIRED = """
select policy_id, started_event_id, threshold from ops.fired
where (policy_id, started_event_id) in (select * from unnest($1::text[], $2::text[]))
"""

WARNED = """
select clock.policy_id, clock.started_event_id, warning.share::text as threshold
from {schema}.sla_clock clock join {schema}.sla_warning warning using (journey_id, policy_id, clock_no)
where clock.journey_id = any($1) and warning.warn_at <= $2
"""

FORGET = """
delete from ops.fired where (policy_id, started_event_id) in (select * from unnest($1::text[], $2::text[]))
returning policy_id, started_event_id, threshold
"""

GONE, MOVED, NOT_DUE = "gone", "moved", "not_due"
"""Why something is taken back: there is no such clock, another one took its place, it is not due yet."""

LABEL = "select label from ops.version where schema_name = $1"

SHOW_JOURNEY = """
update ops.obligation set journey_id = home
from unnest($1::text[], $2::text[], $3::text[]) now (policy_id, event_id, home)
where obligation.policy_id = now.policy_id and obligation.started_event_id = now.event_id
"""

Pair = tuple[Obligation, Clock]
Told = tuple[Clock | Obligation, str]
"""What is taken back, and why."""


class Current(NamedTuple):
    """Where an obligation belongs now, and its clock if there is one."""

    home: str
    is_stale: bool
    clock: Clock | None


async def settle(
    connection: Connection, schema: str, keys: Collection[Key], journeys: Collection[str] = ()
) -> list[ClockWithdrawn]:
    """Settles the obligations of these keys, and the open ones of these journeys; returns what to take back.

    In the transaction that changed the rows, after it did.
    """
    obligations = await known(connection, keys, journeys)
    if not obligations:
        return []
    now: Micros = await connection.fetchval("select now()")
    current = await current_clocks(connection, schema, obligations)
    gone = [each for each in obligations.values() if _holds(each) and _is_gone(current, each)]
    moved = await _move(connection, schema, [each for each in gone if each.closed_at is None], current)
    await _wait_for_fold(connection, obligations.values(), current)
    stopped = [pair for pair in _pairs(obligations, current) if pair[1].stopped_at is not None]
    running = [pair for pair in _pairs(obligations, current) if pair[1].stopped_at is None]
    heirs = set(moved.values())
    running = [pair for pair in running if pair[0].key not in heirs]
    running += await _arrived(connection, schema, moved)
    taken_back: list[Told] = [
        *await _end(connection, stopped),
        *await _go_on(connection, schema, running, now),
        *await _let_go(connection, schema, gone, current, moved),
    ]
    await lower_alerts(connection, [each.alert_id for each in obligations.values()])
    again = [each.key for each, _ in running if each.closed_at is not None or each.key in heirs]
    forgotten = await _forget(connection, [*again, *(each.key for each, _ in taken_back)])
    told = [
        ClockWithdrawn(**concluded(each, "withdrawn", now, now), reason=reason) for each, reason in taken_back
    ]
    await unsay(connection, [*forgotten, *(each.event_id for each in told)])
    return told


async def _forget(connection: Connection, keys: Sequence[Key]) -> list[str]:
    """Lets the thresholds of these clocks fire again; returns the ids under which they were told."""
    rows = await connection.fetch(FORGET, *columns(keys, 2)) if keys else []
    return [clock_id(told_as(threshold), policy_id, event_id) for policy_id, event_id, threshold in rows]


def _pairs(obligations: Mapping[Key, Obligation], current: Mapping[Key, Current]) -> list[Pair]:
    """Obligations with their clocks, where there is one."""
    return [(each, clock) for key, each in obligations.items() if (clock := current[key].clock) is not None]


async def _end(connection: Connection, stopped: Sequence[Pair]) -> list[Told]:
    """Closes obligations whose clock was stopped; returns those of which nothing was true."""
    ended = [(ending(each, clock), clock) for each, clock in stopped if each.closed_at is None]
    await close(connection, [closing for closing, _ in ended])
    return [(clock, closing.reason) for closing, clock in ended if closing.outcome == "withdrawn"]


async def _let_go(
    connection: Connection,
    schema: str,
    gone: Sequence[Obligation],
    current: Mapping[Key, Current],
    moved: Mapping[Key, Key],
) -> list[Told]:
    """Closes what did not move; returns all that is gone, as the version that lacks it tells of it."""
    if not gone:
        return []
    lost = [each.key for each in gone if each.key not in moved]
    await close(connection, [Closing(key, "resolved", GONE, None) for key in lost])
    label = await connection.fetchval(LABEL, schema)
    return [
        (
            each._replace(journey_id=current[each.key].home, definition_version=label),
            MOVED if each.key in moved else GONE,
        )
        for each in gone
    ]


async def current_clocks(connection: Connection, schema: str, keys: Iterable[Key]) -> Mapping[Key, Current]:
    """What the version says now of these obligations."""
    rows = await connection.fetch(CURRENT.format(schema=schema), *columns(keys, 2))
    none = Current("", False, None)
    found: dict[Key, Current] = defaultdict(lambda: none)
    for policy_id, event_id, home, is_stale, *clock in rows:
        found[policy_id, event_id] = Current(home, is_stale, Clock(*clock) if clock[0] is not None else None)
    return found


def _holds(obligation: Obligation) -> bool:
    """Whether what was told of it was not taken back yet: it is open, or it was true and is over."""
    return obligation.outcome in (None, "resolved") and obligation.reason != GONE


def _is_gone(current: Mapping[Key, Current], obligation: Obligation) -> bool:
    """No clock, in a journey that is up to date: one that is behind, or parked, may show it yet."""
    found = current[obligation.key]
    return found.clock is None and not found.is_stale


def ending(obligation: Obligation, clock: Clock) -> Closing:
    """How the end of its clock ends an obligation: withdrawn if what was told of it was never true."""
    if clock.cancelled_reason is not None:
        return Closing(obligation.key, "resolved", clock.cancelled_reason, clock.stopped_event_id)
    if not clock.is_met:
        return Closing(obligation.key, "resolved", "stopped_late", clock.stopped_event_id)
    assert clock.stopped_at is not None
    was_in_time = clock.warn_at is not None and clock.stopped_at <= clock.warn_at
    if obligation.is_breach_told or was_in_time:
        return Closing(obligation.key, "withdrawn", "met_logged_late", clock.stopped_event_id)
    return Closing(obligation.key, "resolved", "met", clock.stopped_event_id)


async def _wait_for_fold(
    connection: Connection, obligations: Iterable[Obligation], current: Mapping[Key, Current]
) -> None:
    """Lets obligations whose journey is behind be found again when that is folded."""
    waiting = [
        (*each.key, found.home)
        for each in obligations
        if each.closed_at is None and (found := current[each.key]).clock is None and found.is_stale
    ]
    if waiting:
        await connection.execute(SHOW_JOURNEY, *columns(waiting, 3))


async def _move(
    connection: Connection, schema: str, gone: Sequence[Obligation], current: Mapping[Key, Current]
) -> dict[Key, Key]:
    """Hands the alerts of obligations that are no more to the clocks that took their place; returns from
    which key to which."""
    if not gone:
        return {}
    homes = {each.key: current[each.key].home for each in gone}
    rows = await connection.fetch(OPEN_CLOCKS.format(schema=schema), sorted(set(homes.values())))
    clocks = [Clock(*row) for row in rows]
    others = await known(connection, [clock.key for clock in clocks])
    taken = {key for key, each in others.items() if each.closed_at is None}
    heirs = {(c.journey_id, c.policy_id): c for c in clocks if c.key not in taken}
    moved: dict[Key, Key] = {}
    for each in gone:
        heir = heirs.pop((homes[each.key], each.policy_id), None)
        if heir is not None:
            if each.alert_id is not None or not _was_told(others.get(heir.key)):
                await keep(connection, [(heir, each.alert_id)])
            await close(connection, [Closing(each.key, MOVED, heir.started_event_id, None)])
            await change_alerts(connection, [each.alert_id], "changed")
            moved[each.key] = heir.key
    return moved


def _was_told(obligation: Obligation | None) -> bool:
    """Whether it has an alert, which the clock opens again when it finds the obligation closed."""
    return obligation is not None and obligation.alert_id is not None


async def _arrived(connection: Connection, schema: str, moved: Mapping[Key, Key]) -> list[Pair]:
    """The obligations that took over an alert, with their clocks."""
    if not moved:
        return []
    obligations = await known(connection, set(moved.values()))
    current = await current_clocks(connection, schema, obligations)
    return _pairs(obligations, current)


async def _go_on(connection: Connection, schema: str, running: Sequence[Pair], now: Micros) -> list[Told]:
    """Brings open obligations up to date with their running clocks; returns those told of too early.

    The clock tells again what holds of these, and of what was closed and runs again.
    """
    if not running:
        return []
    fired = await _fired(connection, [clock.key for _, clock in running])
    reached = await _reached(connection, schema, [clock for _, clock in running], now)
    await connection.execute(TELL_CLOCK, sorted({clock.journey_id for _, clock in running}))
    still_open = [(each, clock) for each, clock in running if each.closed_at is None]
    await keep(connection, [(clock, None) for _, clock in still_open])
    early = [e.alert_id for e, c in still_open if e.severity == "critical" and DUE not in reached[c.key]]
    lowered = await lower_alerts(connection, early)
    shifted = [e.alert_id for e, c in still_open if e.due_at != c.due_at and e.alert_id not in lowered]
    await change_alerts(connection, shifted, "changed")
    over = [c.key for _, c in still_open if not reached[c.key]]
    await close(connection, [Closing(key, "withdrawn", NOT_DUE, None) for key in over])
    return [(c, NOT_DUE) for _, c in still_open if fired[c.key] - reached[c.key]]


async def _fired(connection: Connection, keys: Sequence[Key]) -> dict[Key, set[str]]:
    found: dict[Key, set[str]] = {key: set() for key in keys}
    for row in await connection.fetch(FIRED, *columns(keys, 2)):
        found[row["policy_id"], row["started_event_id"]].add(row["threshold"])
    return found


async def _reached(
    connection: Connection, schema: str, clocks: Sequence[Clock], now: Micros
) -> dict[Key, set[str]]:
    """The thresholds of the clocks that are reached by now."""
    found = {each.key: {DUE} if each.due_at is not None and each.due_at <= now else set() for each in clocks}
    journeys = sorted({each.journey_id for each in clocks})
    for row in await connection.fetch(WARNED.format(schema=schema), journeys, now):
        key = (row["policy_id"], row["started_event_id"])
        if key in found:
            found[key].add(row["threshold"])
    return found
