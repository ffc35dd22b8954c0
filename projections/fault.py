"""Faults: events that are kept and shown but have no effect, and why.

Promises: at most one fault per event, the first that applies in the contract's order, judged before the event
changes anything. `of_itself` needs nothing but the event. Leaves conflicts and retractions, which need other
events, to `identity`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from projections.moment import Moment
from projections.rules import Rules
from projections.stage_machine import is_backward, lowest
from projections.state import Faulted, JourneyState
from projections.table import Row, table
from schemas.records import (
    CustomerChurned,
    CustomerRenewed,
    Envelope,
    HandoffAccepted,
    HandoffRejected,
    OpportunityChanged,
    OpportunityOpened,
    OpportunityWon,
    RevenueAdjusted,
    StageChanged,
)
from schemas.rules import FUTURE_LIMIT

TABLE = table("""
create table fault (
    journey_id text collate "C" not null,
    event_id text collate "C" not null,
    copy_no int not null,
    record_name text collate "C" not null,
    code text collate "C" not null,
    message text collate "C" not null,
    occurred_at timestamptz not null,
    definition_version text collate "C" not null,
    primary key (journey_id, event_id, copy_no)
)
""")


class Fault(NamedTuple):
    """Why an event has no effect: the contract's code, and a sentence with the values that decided."""

    code: str
    message: str


def of_itself(event: Envelope) -> Fault | None:
    """What is wrong with the event whatever else is known: from_the_future, money_without_currency."""
    if event.occurred_at - event.recorded_at > FUTURE_LIMIT:
        return Fault("from_the_future", "occurred_at is more than 5 minutes after recorded_at")
    if type(event) in WITH_MONEY and _lacks_currency(event):
        return Fault("money_without_currency", "an amount needs a currency")
    return None


def of(moment: Moment) -> Fault | None:
    """The first fault of the event at its moment."""
    check = CHECKS.get(type(moment.event))
    return of_itself(moment.event) or (check(moment, moment.event) if check else None)


def noted(event: Envelope, copy_no: int, fault: Fault) -> Faulted:
    """The fault as a state keeps it."""
    record = type(event).__name__
    return Faulted(event.event_id, copy_no, record, fault.code, fault.message, event.occurred_at)


def _lacks_currency(event: Any) -> bool:
    amount = event.delta_minor if isinstance(event, RevenueAdjusted) else event.amount_minor
    return amount is not None and not event.currency


def _unreviewed(event: Envelope) -> Fault | None:
    if event.actor.kind == "system":
        return Fault(
            "sql_without_reviewer", "only a person (or an import of what persons did) accepts a lead"
        )
    return None


def _stage_changed(moment: Moment, event: StageChanged) -> Fault | None:
    stage = moment.definition.by_name.get(event.to_stage)
    if stage is None:
        return Fault("unknown_stage", f"{moment.definition.label} has no stage {event.to_stage!r}")
    present = moment.state.stages.role or lowest(moment.definition).role
    if stage.role == present:
        return None
    if is_backward(present, stage.role) and not event.reason_code:
        return Fault("move_without_reason", f"from {present} to {stage.role} needs a reason_code")
    return _unreviewed(event) if stage.role == "sql" else None


def _accepted(moment: Moment, event: HandoffAccepted) -> Fault | None:
    return _unreviewed(event)


def _rejected(moment: Moment, event: HandoffRejected) -> Fault | None:
    definition = moment.definition
    if event.return_to not in definition.by_role:
        return Fault("unknown_stage", f"{definition.label} has no stage of role {event.return_to}")
    if moment.state.handoffs.open is None:
        return Fault("no_open_handoff", "no hand-off is open at this event")
    if event.reason_code not in definition.reject_reasons:
        return Fault("unknown_reason_code", f"{definition.label} has no reject reason {event.reason_code!r}")
    if event.reason_code == "other" and not event.note:
        return Fault("note_missing", "the reason 'other' needs a note")
    return None


def _not_a_customer(moment: Moment, event: CustomerChurned | CustomerRenewed) -> Fault | None:
    if moment.state.deals.ever_won:
        return None
    return Fault("not_a_customer", "no opportunity of this journey was won before")


def _adjusted(moment: Moment, event: RevenueAdjusted) -> Fault | None:
    deal = moment.state.deals.by_id.get(event.opportunity_id)
    if deal is None or deal.status != "won":
        return Fault("no_win_to_adjust", f"opportunity {event.opportunity_id!r} is not won at this event")
    if deal.currency != event.currency:
        return Fault(
            "currency_mismatch", f"the win is in {deal.currency}, the adjustment in {event.currency}"
        )
    return None


def rows(state: JourneyState, rules: Rules) -> list[Row]:
    return [
        (
            state.journey_id,
            faulted.event_id,
            faulted.copy_no,
            faulted.record,
            faulted.code,
            faulted.message,
            faulted.occurred_at,
            rules.label,
        )
        for faulted in state.faults
    ]


WITH_MONEY = frozenset(
    {OpportunityOpened, OpportunityChanged, OpportunityWon, RevenueAdjusted, CustomerRenewed, CustomerChurned}
)
CHECKS: dict[type[Envelope], Callable[[Moment, Any], Fault | None]] = {
    StageChanged: _stage_changed,
    HandoffAccepted: _accepted,
    HandoffRejected: _rejected,
    CustomerRenewed: _not_a_customer,
    CustomerChurned: _not_a_customer,
    RevenueAdjusted: _adjusted,
}
"""Record to its own faults, which depend on what the journey and the definition are at the event."""
