"""SLA clocks: how long sales took for what was agreed, in the time that was agreed.

Promises: stored instants only (start, warnings, due, stop), so that a clock's state at any moment is a view
of its row. A clock keeps policy, target and calendar id of its start whatever definition follows. Leaves
business hours and the arithmetic of pauses to `business_time`, alerts to the services.
"""

from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from projections.business_time import (
    LATEST,
    Pause,
    WorkingTime,
    bounded,
    due_with_pauses,
    elapsed_with_pauses,
    paused,
)
from projections.moment import Moment
from projections.predicate import evaluate
from projections.roles import RANK
from projections.rules import Rules
from projections.sla_policy import Policy
from projections.state import Clock, Erasure, JourneyState, Measure, Stop
from projections.table import Row, table
from schemas.records import ClockPaused, ClockResumed, Envelope, Micros

TABLE = table("""
create table sla_clock (
    journey_id text collate "C" not null,
    policy_id text collate "C" not null,
    clock_no int not null,
    started_at timestamptz not null,
    started_event_id text collate "C" not null,
    warn_at timestamptz,
    due_at timestamptz,
    stopped_at timestamptz,
    stopped_event_id text collate "C",
    stopped_recorded_at timestamptz,
    business_seconds_used double precision,
    paused_seconds double precision not null,
    paused_from timestamptz,
    paused_until timestamptz,
    owner_id text collate "C",
    team_id text collate "C",
    cancelled_reason text collate "C",
    calendar_id text collate "C",
    definition_version text collate "C" not null,
    primary key (journey_id, policy_id, clock_no)
) with (fillfactor = 80)
""")
WARNING_TABLE = table("""
create table sla_warning (
    journey_id text collate "C" not null,
    policy_id text collate "C" not null,
    clock_no int not null,
    share double precision not null,
    warn_at timestamptz,
    primary key (journey_id, policy_id, clock_no, share)
)
""")


def step(moment: Moment) -> None:
    """Pauses or resumes, then stops or cancels what runs, then starts."""
    handler = HANDLERS.get(type(moment.event))
    if handler:
        handler(moment, moment.event)
    if moment.state.clocks.running:
        _end_clocks(moment)
    _start_clocks(moment)


def _end_clocks(moment: Moment) -> None:
    event, clocks = moment.event, moment.state.clocks
    running, clocks.running = clocks.running, []
    for clock in running:
        policy = moment.rules.policy(clock.definition_no, clock.policy_id)
        reason = None if _stops(policy, moment) else "moved"
        if reason and not _moved_away(clock.role, moment):
            clocks.running.append(clock)
            continue
        stop = Stop(event.occurred_at, event.event_id, event.recorded_at, reason)
        _close(clock, policy, moment.rules, stop)
        clocks.ended.append(clock)


def _stops(policy: Policy, moment: Moment) -> bool:
    """Inferred visits stop clocks too."""
    stop = policy.stop
    return any(stop.at_entry(entered.role) for entered in moment.entered) or stop.at_event(moment.event)


def _moved_away(role: str | None, moment: Moment) -> bool:
    """Whether a real move led neither to the role whose entry started the clock nor above it."""
    if role is None:
        return False
    height = RANK.get(role, len(RANK))  # nothing is above a detour
    return any(
        not entered.is_inferred and entered.role != role and RANK.get(entered.role, -1) < height
        for entered in moment.entered
    )


def _close(clock: Clock, policy: Policy, rules: Rules, stop: Stop) -> None:
    """Ends the clock, and the pause it may be in. What it was measured by then is final."""
    time = rules.calendar(policy.calendar, clock.definition_no, stop.at)
    if clock.pauses or rules.changes_of(policy.calendar):
        clock.pauses = _pauses_until(clock.pauses, stop.at)
        clock.measure = _measured(clock, policy, time, clock.measure.changes)
    pauses = bounded(clock.pauses, policy.max_pause)
    stop.used = elapsed_with_pauses(time, clock.started_at, stop.at, pauses)
    clock.stop = stop


def _start_clocks(moment: Moment) -> None:
    policies = moment.definition.policies
    if not moment.entered:
        policies = moment.rules.started_by(moment.definition_no, type(moment.event).__name__)
    for policy in policies:
        role = _starting_role(policy, moment)
        if (role is not None or policy.start.at_event(moment.event)) and _may_start(policy, moment):
            _start(moment, policy, role)


def _starting_role(policy: Policy, moment: Moment) -> str | None:
    """The last stage entered that starts the policy; inferred visits start nothing."""
    for entered in reversed(moment.entered):
        if not entered.is_inferred and policy.start.at_entry(entered.role):
            return entered.role
    return None


def _may_start(policy: Policy, moment: Moment) -> bool:
    """One clock of a policy at a time; the filter sees the state after the event's effect and rules."""
    if any(clock.policy_id == policy.policy_id for clock in moment.state.clocks.running):
        return False
    now = moment.event.occurred_at
    return policy.filter is None or evaluate(policy.filter, moment.state.counters, now)


def _start(moment: Moment, policy: Policy, role: str | None) -> None:
    state, event = moment.state, moment.event
    clock_no = state.clocks.numbers.get(policy.policy_id, 0) + 1
    state.clocks.numbers[policy.policy_id] = clock_no
    clock = Clock(
        policy_id=policy.policy_id,
        clock_no=clock_no,
        definition_no=moment.definition_no,
        started_at=event.occurred_at,
        started_event_id=event.event_id,
        role=role,
        owner_id=state.lead.owner_id,
        team_id=state.lead.team_id,
        pauses=[],
        measure=Measure(0, None, []),
    )
    clock.measure = _latest(clock, policy, moment.rules)
    state.clocks.running.append(clock)


def _pause(moment: Moment, event: ClockPaused) -> None:
    """Before due, judged by the calendar as of now; not while paused, nor once `max_pause` is used up."""
    for clock in moment.state.clocks.running:
        policy = moment.rules.policy(clock.definition_no, clock.policy_id)
        if event.policy_id in (None, clock.policy_id) and _may_pause(clock, policy, moment):
            clock.pauses.append((event.occurred_at, None))
            clock.measure = _latest(clock, policy, moment.rules)


def _may_pause(clock: Clock, policy: Policy, moment: Moment) -> bool:
    now = moment.event.occurred_at
    if clock.pauses and clock.pauses[-1][1] is None:
        return False
    if (
        policy.max_pause is not None
        and paused(bounded(clock.pauses, policy.max_pause), now) >= policy.max_pause
    ):
        return False
    due_at = _due_at(clock, policy, moment.rules.calendar(policy.calendar, clock.definition_no, now))
    return due_at is None or now < due_at


def _resume(moment: Moment, event: ClockResumed) -> None:
    for clock in moment.state.clocks.running:
        is_meant = event.policy_id in (None, clock.policy_id)
        if is_meant and clock.pauses and clock.pauses[-1][1] is None:
            clock.pauses[-1] = (clock.pauses[-1][0], event.occurred_at)
            policy = moment.rules.policy(clock.definition_no, clock.policy_id)
            clock.measure = _latest(clock, policy, moment.rules)


def _latest(clock: Clock, policy: Policy, rules: Rules) -> Measure:
    """The measures of an open clock: by the latest calendar known, from its start."""
    time = rules.calendar(policy.calendar, clock.definition_no, None)
    return _measured(clock, policy, time, rules.changes_of(policy.calendar))


def _measured(clock: Clock, policy: Policy, time: WorkingTime, changes: int) -> Measure:
    pauses = bounded(clock.pauses, policy.max_pause)
    warn_at = [due_with_pauses(time, clock.started_at, w.after, pauses) for w in policy.warnings]
    return Measure(changes, _due_at(clock, policy, time), warn_at)


def _due_at(clock: Clock, policy: Policy, time: WorkingTime) -> Micros | None:
    pauses = bounded(clock.pauses, policy.max_pause)
    return due_with_pauses(time, clock.started_at, policy.target, pauses)


def _pauses_until(pauses: list[Pause], end: Micros) -> list[Pause]:
    return [(start, end if until is None else min(until, end)) for start, until in pauses if start < end]


def _as_known(state: JourneyState, rules: Rules) -> Iterator[tuple[Clock, Policy]]:
    """The clocks with what facts after the last event change: a later calendar, an erasure."""
    for clock in state.clocks.ended:
        yield clock, rules.policy(clock.definition_no, clock.policy_id)
    for clock in state.clocks.running:
        policy = rules.policy(clock.definition_no, clock.policy_id)
        if state.erasure is not None:
            yield _erased(clock, policy, rules, state.erasure), policy
        elif clock.measure.changes != rules.changes_of(policy.calendar):
            yield replace(clock, measure=_latest(clock, policy, rules)), policy
        else:
            yield clock, policy


def _erased(clock: Clock, policy: Policy, rules: Rules, erasure: Erasure) -> Clock:
    """Cancelled by the erasure, but not before it started."""
    closed = replace(clock)
    at = max(clock.started_at, erasure.occurred_at)
    _close(closed, policy, rules, Stop(at, erasure.event_id, erasure.recorded_at, "erased"))
    return closed


def rows(state: JourneyState, rules: Rules) -> list[Row]:
    """Clocks with their policies' calendars, measured by all facts known."""
    return [_row(state.journey_id, clock, policy, rules.label) for clock, policy in _as_known(state, rules)]


def warning_rows(state: JourneyState, rules: Rules) -> list[Row]:
    """One row per warning of each clock; null while an open pause hides when it will be."""
    return [
        (state.journey_id, clock.policy_id, clock.clock_no, warning.share, warn_at)
        for clock, policy in _as_known(state, rules)
        for warning, warn_at in zip(policy.warnings, clock.measure.warn_at, strict=True)
    ]


def _row(journey_id: str, clock: Clock, policy: Policy, label: str) -> Row:
    stop, measure = clock.stop, clock.measure
    paused_from, paused_until, paused_micros = _pauses_shown(clock, policy)
    return (
        journey_id,
        clock.policy_id,
        clock.clock_no,
        clock.started_at,
        clock.started_event_id,
        measure.warn_at[0] if measure.warn_at else None,
        measure.due_at,
        stop.at if stop else None,
        stop.event_id if stop else None,
        stop.recorded_at if stop else None,
        stop.used / 1e6 if stop else None,
        paused_micros / 1e6,
        paused_from,
        paused_until,
        clock.owner_id,
        clock.team_id,
        stop.cancelled_reason if stop else None,
        policy.calendar,
        label,
    )


def _pauses_shown(clock: Clock, policy: Policy) -> tuple[Micros | None, Micros | None, int]:
    """The open pause, when `max_pause` ends it, and the microseconds of those that ended."""
    if not clock.pauses:
        return None, None, 0
    pauses = bounded(clock.pauses, policy.max_pause)
    start, until = pauses[-1]
    if clock.pauses[-1][1] is None:
        return start, until, paused(pauses[:-1], start)
    return None, None, paused(pauses, LATEST)


HANDLERS: dict[type[Envelope], Callable[[Moment, Any], None]] = {
    ClockPaused: _pause,
    ClockResumed: _resume,
}
