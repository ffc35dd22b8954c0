"""Hand-offs: a lead offered to sales, and how that ended.

Promises: one row per real entry into mql, open until sales or a move decides it; what sales accepted stays
accepted. Leaves who may accept or reject at all to `fault`, how long it took to `sla_clock`.
"""

from collections.abc import Callable
from typing import Any

from projections.lead_state import add_flag
from projections.moment import Moment
from projections.roles import RANK
from projections.rules import Rules
from projections.state import Handoff, Handoffs, JourneyState
from projections.table import Row, table
from schemas.records import Envelope, HandoffAccepted, HandoffRejected, StageChanged

TABLE = table("""
create table handoff (
    journey_id text collate "C" not null,
    handoff_no int not null,
    opened_at timestamptz not null,
    opened_event_id text collate "C" not null,
    ended_at timestamptz,
    ended_event_id text collate "C",
    outcome text collate "C",
    reason_code text collate "C",
    owner_id text collate "C",
    team_id text collate "C",
    definition_version text collate "C" not null,
    primary key (journey_id, handoff_no)
) with (fillfactor = 80)
""")


def step(moment: Moment) -> None:
    """Ends and opens hand-offs as the stages entered say, then hears what sales said."""
    for entered in moment.entered:
        if not entered.is_inferred:
            _move(moment, entered.role)
    handler = HANDLERS.get(type(moment.event))
    if handler:
        handler(moment, moment.event)


def _move(moment: Moment, role: str) -> None:
    handoffs = moment.state.handoffs
    if handoffs.open is not None and (outcome := _outcome(moment, role)):
        _end(moment, outcome)
    if role == "mql" and handoffs.open is None:
        _open(moment)


def _outcome(moment: Moment, role: str) -> str | None:
    """How a move ends the open hand-off; None between mql and sal."""
    if isinstance(moment.event, HandoffAccepted) or (
        isinstance(moment.event, StageChanged) and role == "sql"
    ):
        return "accepted"
    if isinstance(moment.event, HandoffRejected):
        return "rejected"
    if role in ("mql", "sal"):
        return None
    return "bypassed" if RANK.get(role, -1) > RANK["sal"] else "withdrawn"


def _open(moment: Moment) -> None:
    state, event = moment.state, moment.event
    handoff = Handoff(event.occurred_at, event.event_id, state.lead.owner_id, state.lead.team_id)
    state.handoffs.all.append(handoff)
    state.handoffs.status = "open"


def _end(moment: Moment, outcome: str) -> None:
    handoffs = moment.state.handoffs
    handoff = handoffs.all[-1]
    handoff.ended_at = moment.event.occurred_at
    handoff.ended_event_id = moment.event.event_id
    handoff.outcome = handoffs.status = outcome
    if isinstance(moment.event, HandoffRejected):
        handoff.reason_code = moment.event.reason_code


def _accepted(moment: Moment, event: HandoffAccepted) -> None:
    """A hand-off that was open has ended by the move to sql; without one the acceptance is taken all the
    same."""
    handoffs = moment.state.handoffs
    has_moved = moment.really_entered("sql")
    if handoffs.status == "accepted" and not has_moved:
        return
    if not _ended_here(moment, handoffs):
        add_flag(moment.state, "accepted_without_mql")
        handoffs.status = "accepted"
    _flag_reviewer(moment)


def _ended_here(moment: Moment, handoffs: Handoffs) -> bool:
    return bool(handoffs.all) and handoffs.all[-1].ended_event_id == moment.event.event_id


def _rejected(moment: Moment, event: HandoffRejected) -> None:
    handoffs = moment.state.handoffs
    handoffs.reason = event.reason_code
    handoffs.recycle_until = event.recycle_until


def _changed(moment: Moment, event: StageChanged) -> None:
    if moment.really_entered("sql"):
        _flag_reviewer(moment)


def _flag_reviewer(moment: Moment) -> None:
    if moment.event.actor.kind == "import":
        add_flag(moment.state, "reviewer_unknown")


def rows(state: JourneyState, rules: Rules) -> list[Row]:
    return [
        (
            state.journey_id,
            handoff_no,
            handoff.opened_at,
            handoff.opened_event_id,
            handoff.ended_at,
            handoff.ended_event_id,
            handoff.outcome,
            handoff.reason_code,
            handoff.owner_id,
            handoff.team_id,
            rules.label,
        )
        for handoff_no, handoff in enumerate(state.handoffs.all, 1)
    ]


HANDLERS: dict[type[Envelope], Callable[[Moment, Any], None]] = {
    HandoffAccepted: _accepted,
    HandoffRejected: _rejected,
    StageChanged: _changed,
}
