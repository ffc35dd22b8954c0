"""Sets obligations right by what a version says of their clocks now.

Promises: an obligation is closed when its clock was stopped, cancelled or is no more; one whose journey now
has another open clock of the policy that nobody was told of is the same obligation with another starting
event, and takes its alert along; what was told too early, by what is known now, is taken back. All of it
looks at the rows as they stand, so it can be repeated. Leaves opening and raising to the clock, which is told
where to look. Called by the projector for what a batch changed, and when another version is promoted.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.derived import ClockWithdrawn
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
)
from services.store.pool import Connection

CURRENT = f"""
select asked.policy_id, asked.event_id, subject.journey_id as home,
  coalesce(journey.is_stale, true) as is_stale, {CLOCK_COLUMNS}
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

WARNINGS = """
select clock.policy_id, clock.started_event_id, warning.share::text as threshold, warning.warn_at
from {schema}.sla_clock clock join {schema}.sla_warning warning using (journey_id, policy_id, clock_no)
where clock.journey_id = any($1)
"""

FORGET = """
delete from ops.fired where (policy_id, started_event_id, threshold) in (
  select * from unnest($1::text[], $2::text[], $3::text[])
)
"""

FORGET_ALL = "delete from ops.fired where policy_id = $1 and started_event_id = $2"

INHERIT = """
insert into ops.fired (policy_id, started_event_id, threshold, fired_at)
select policy_id, $3, threshold, fired_at from ops.fired where policy_id = $1 and started_event_id = $2
"""

SHOW_JOURNEY = """
update ops.obligation set journey_id = home
from unnest($1::text[], $2::text[], $3::text[]) now (policy_id, event_id, home)
where obligation.policy_id = now.policy_id and obligation.started_event_id = now.event_id
"""


class Current(NamedTuple):
    """Where an obligation belongs now, and its clock if there is one."""

    home: str
    is_stale: bool
    clock: Clock | None


class Heir(NamedTuple):
    """The clock that takes the place, and the alert, of an obligation that is no more."""

    gone: Obligation
    clock: Clock
    obligation: Obligation
    """What it will be."""


class Running(NamedTuple):
    """An obligation with its running clock."""

    obligation: Obligation
    clock: Clock
    fired: set[str]
    """Thresholds that fired before."""
    reached: set[str]
    """Thresholds that are reached now."""

    @property
    def is_open(self) -> bool:
        """Whether it was not closed before."""
        return self.obligation.closed_at is None

    @property
    def is_early(self) -> bool:
        """Whether it was told too early: of what fired nothing is reached any more."""
        return self.is_open and not self.fired & self.reached

    @property
    def unreached(self) -> set[str]:
        """What fired and may fire again: of one that was closed all, else what is not reached any more."""
        return self.fired - self.reached if self.is_open else self.fired

    @property
    def firing(self) -> set[str]:
        """What the clock fires when it looks."""
        return self.reached - (self.fired - self.unreached)


class Outlook(NamedTuple):
    """What obligations come to. Nothing of it is written yet."""

    current: Mapping[Key, Current]
    heirs: list[Heir]
    running: list[Running]
    closings: list[Closing]
    """How obligations end, but those that have an heir."""


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
    found = await outlook(connection, schema, obligations)
    for heir in found.heirs:
        await _hand_over(connection, heir)
    await _wait_for_fold(connection, obligations.values(), found.current)
    await _go_on(connection, found.running)
    await close(connection, found.closings)
    return [
        ClockWithdrawn(**concluded(clock, "withdrawn", now, now), reason=each.reason)
        for each in found.closings
        if each.outcome == "withdrawn" and (clock := found.current[each.key].clock)
    ]


async def outlook(connection: Connection, schema: str, obligations: Mapping[Key, Obligation]) -> Outlook:
    """What these obligations come to by the rows of a version as they stand. Writes nothing."""
    current = await _current_clocks(connection, schema, obligations)
    clocks = [(each, clock) for each in obligations.values() if (clock := current[each.key].clock)]
    gone = [each for each in obligations.values() if each.closed_at is None and _is_gone(current, each)]
    heirs = await _heirs(connection, schema, gone, {each.key: current[each.key].home for each in gone})
    moved = {heir.gone.key for heir in heirs}
    lost = [Closing(each.key, "resolved", "gone", None) for each in gone if each.key not in moved]
    ended = [
        ending(each, clock)
        for each, clock in clocks
        if each.closed_at is None and clock.stopped_at is not None
    ]
    taken = {heir.clock.key for heir in heirs}
    pairs = [(e, clock) for e, clock in clocks if clock.stopped_at is None and clock.key not in taken]
    running = await _running(connection, schema, pairs, heirs)
    early = [Closing(each.clock.key, "withdrawn", "not_due", None) for each in running if each.is_early]
    return Outlook(current, heirs, running, [*ended, *lost, *early])


async def _current_clocks(connection: Connection, schema: str, keys: Iterable[Key]) -> Mapping[Key, Current]:
    """What the version says now of these obligations."""
    rows = await connection.fetch(CURRENT.format(schema=schema), *columns(keys, 2))
    none = Current("", False, None)
    found: dict[Key, Current] = defaultdict(lambda: none)
    for policy_id, event_id, home, is_stale, *clock in rows:
        found[policy_id, event_id] = Current(home, is_stale, Clock(*clock) if clock[0] is not None else None)
    return found


def _is_gone(current: Mapping[Key, Current], obligation: Obligation) -> bool:
    """No clock, in a journey that is up to date: one that is behind may show it yet."""
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
    if obligation.severity == "critical" or was_in_time:
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


async def _heirs(
    connection: Connection, schema: str, gone: Sequence[Obligation], homes: Mapping[Key, str]
) -> list[Heir]:
    """An heir is an open clock of the policy in the journey of which on-call knows nothing."""
    if not gone:
        return []
    rows = await connection.fetch(OPEN_CLOCKS.format(schema=schema), sorted(set(homes.values())))
    clocks = [Clock(*row) for row in rows]
    others = await known(connection, [clock.key for clock in clocks])
    taken = {key for key, each in others.items() if each.closed_at is None}
    free = {(c.journey_id, c.policy_id): c for c in clocks if c.key not in taken}
    heirs = []
    for each in gone:
        clock = free.pop((homes[each.key], each.policy_id), None)
        if clock is not None:
            heirs.append(Heir(each, clock, _inherited(each, clock, others.get(clock.key))))
    return heirs


def _inherited(gone: Obligation, clock: Clock, own: Obligation | None) -> Obligation:
    """The obligation that a clock will be, whose own one, if there is any, was closed."""
    alert = own if gone.alert_id is None and own is not None else gone
    return alert._replace(
        started_event_id=clock.started_event_id,
        journey_id=clock.journey_id,
        due_at=clock.due_at,
        closed_at=None,
    )


async def _hand_over(connection: Connection, heir: Heir) -> None:
    gone, clock, _ = heir
    await keep(connection, [(clock, gone.alert_id)])
    await connection.execute(FORGET_ALL, *clock.key)
    await connection.execute(INHERIT, *gone.key, clock.started_event_id)
    await close(connection, [Closing(gone.key, "moved", clock.started_event_id, None)])
    await change_alerts(connection, [gone.alert_id], "changed")


async def _running(
    connection: Connection,
    schema: str,
    own: Sequence[tuple[Obligation, Clock]],
    heirs: Sequence[Heir],
) -> list[Running]:
    """Obligations beside their running clocks. For an heir fired what did for the one that is no more, and
    nothing of its own, which was closed."""
    pairs = [*own, *((heir.obligation, heir.clock) for heir in heirs)]
    if not pairs:
        return []
    now: Micros = await connection.fetchval("select now()")
    keys = [*(clock.key for _, clock in pairs), *(heir.gone.key for heir in heirs)]
    fired = await _fired(connection, keys)
    for heir in heirs:
        fired[heir.clock.key] = fired[heir.gone.key]
    instants = await _instants(connection, schema, [clock for _, clock in pairs])
    reached = {key: {n for n, at in found.items() if at <= now} for key, found in instants.items()}
    return [Running(each, clock, fired[clock.key], reached[clock.key]) for each, clock in pairs]


async def _go_on(connection: Connection, running: Sequence[Running]) -> None:
    """Brings open obligations up to date with their running clocks. What fired and is not reached any more
    may fire again. What was closed and runs again is told again."""
    forgotten = [(*each.clock.key, name) for each in running for name in each.unreached]
    if forgotten:
        await connection.execute(FORGET, *columns(forgotten, 3))
    if running:
        await connection.execute(TELL_CLOCK, sorted({each.clock.journey_id for each in running}))
    still_open = [each for each in running if each.is_open]
    await keep(connection, [(each.clock, None) for each in still_open])
    lowered = [
        each.obligation.alert_id
        for each in still_open
        if each.obligation.severity == "critical" and DUE in each.unreached
    ]
    shifted = [
        each.obligation.alert_id
        for each in still_open
        if each.obligation.due_at != each.clock.due_at and each.obligation.alert_id not in lowered
    ]
    await change_alerts(connection, lowered, "lowered", "warning")
    await change_alerts(connection, shifted, "changed")


async def _fired(connection: Connection, keys: Sequence[Key]) -> dict[Key, set[str]]:
    found: dict[Key, set[str]] = {key: set() for key in keys}
    for row in await connection.fetch(FIRED, *columns(keys, 2)):
        found[row["policy_id"], row["started_event_id"]].add(row["threshold"])
    return found


async def _instants(
    connection: Connection, schema: str, clocks: Sequence[Clock]
) -> dict[Key, dict[str, Micros]]:
    """When each threshold of the clocks is reached, as far as that is known."""
    found = {each.key: {} if each.due_at is None else {DUE: each.due_at} for each in clocks}
    journeys = sorted({each.journey_id for each in clocks})
    for row in await connection.fetch(WARNINGS.format(schema=schema), journeys):
        key = (row["policy_id"], row["started_event_id"])
        if key in found and row["warn_at"] is not None:
            found[key][row["threshold"]] = row["warn_at"]
    return found
