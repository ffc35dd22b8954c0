"""Stage visits: how long a lead was in each stage.

Promises: visits that are not inferred tile the time from the first event on, because each is left when and by
what enters the next one. Leaves which stage is entered to `stage_machine`, open visits measured up to now to
the views.
"""

from projections.definition import Stage
from projections.moment import Moment
from projections.rules import Rules
from projections.state import JourneyState, Visit, reason_of
from projections.table import Row, table

TABLE = table("""
create table stage_visit (
    journey_id text collate "C" not null,
    visit_no int not null,
    stage text collate "C" not null,
    stage_role text collate "C" not null,
    entered_at timestamptz not null,
    left_at timestamptz,
    next_stage text collate "C",
    reason_code text collate "C",
    is_inferred boolean not null,
    entered_event_id text collate "C" not null,
    left_event_id text collate "C",
    calendar_seconds double precision,
    business_seconds double precision,
    definition_version text collate "C" not null,
    primary key (journey_id, visit_no)
) with (fillfactor = 80)
""")


def leave(moment: Moment) -> None:
    """Closes the open visit, if there is one: reason and business time are those of this event."""
    visits = moment.state.stages.visits
    if visits:
        visits[-1].reason_code = reason_of(moment.event)
        visits[-1].business = _business_time(moment, visits[-1])


def enter(moment: Moment, stage: Stage, is_inferred: bool) -> None:
    """Adds a visit; an inferred one is over at once, for the same reason."""
    event = moment.event
    visit = Visit(stage.name, stage.role, event.occurred_at, event.event_id, is_inferred)
    if is_inferred:
        visit.reason_code = reason_of(event)
    moment.state.stages.visits.append(visit)


def _business_time(moment: Moment, visit: Visit) -> int:
    """Microseconds open between entry and now, in the visits' calendar as of now."""
    now = moment.event.occurred_at
    if visit.entered_at == now:
        return 0
    calendar = moment.rules.calendar(moment.definition.calendar, moment.definition_no, now)
    return calendar.elapsed(visit.entered_at, now)


def rows(state: JourneyState, rules: Rules) -> list[Row]:
    """Latest first: the visit after a visit says when, where to and by which event it ended."""
    found: list[Row] = []
    visits = state.stages.visits
    following: Visit | None = None
    for visit_no in range(len(visits), 0, -1):
        visit = visits[visit_no - 1]
        found.append(_row(state.journey_id, visit_no, visit, following, rules.label))
        if not visit.is_inferred:
            following = visit
    return found


def _row(journey_id: str, visit_no: int, visit: Visit, following: Visit | None, label: str) -> Row:
    end = (following.entered_at, following.stage, following.entered_event_id) if following else (None,) * 3
    left_at, next_stage, left_event_id = end
    is_open = following is None
    return (
        journey_id,
        visit_no,
        visit.stage,
        visit.role,
        visit.entered_at,
        left_at,
        next_stage,
        visit.reason_code,
        visit.is_inferred,
        visit.entered_event_id,
        left_event_id,
        None if following is None else (following.entered_at - visit.entered_at) / 1e6,
        None if is_open else visit.business / 1e6,
        label,
    )
