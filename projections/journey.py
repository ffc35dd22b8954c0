"""One journey: its events folded, one by one, into a state; its state shown as rows, beside rows of single
events.

Promises: pure functions of the events in the contract's order and of the rules, so live, late, merged,
replayed and as-of journeys are the same computation over different events. An event that sorts after
`state.last_key` continues a state; everything else, also another definition or an earlier calendar fact,
means `fold` again, and both give the same rows. Leaves which events are a journey's to `identity`, where
states and rows are kept to the services.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from projections import (
    attribute_change,
    campaign_exposure,
    content_event,
    counters,
    credit,
    fault,
    handoff,
    lead_state,
    meeting,
    opportunity,
    sla_clock,
    stage_machine,
    stage_visit,
    touch,
    touches,
)
from projections.history import History
from projections.moment import Moment
from projections.rules import Rules
from projections.state import Erasure, JourneyState
from projections.table import Row, Table
from schemas.records import (
    AttributeChanged,
    CampaignExposed,
    ContentDelivered,
    ContentRequested,
    Envelope,
    MeetingHeld,
    SubjectErased,
    TouchRecorded,
    order_key,
)

__all__ = [
    "EVENT_TABLES",
    "STATE_TABLES",
    "TABLES",
    "JourneyState",
    "begin",
    "event_rows",
    "fold",
    "pack",
    "project",
    "rows",
    "step",
    "unpack",
]

Rows = dict[str, list[Row]]
"""Table name to rows, each in the order of the table's columns; no order among rows."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(JourneyState)


def begin(journey_id: str) -> JourneyState:
    """The state of a journey without events."""
    return JourneyState(journey_id)


def step(state: JourneyState, event: Envelope, rules: Rules) -> None:
    """Folds the next event in the contract's order into the state, which it changes.

    A faulted event is noted and changes nothing else.
    """
    state.last_key = order_key(event)
    number = rules.number_at(event.occurred_at)
    moment = Moment(state, event, rules, number, rules.definitions[number])
    if found := fault.of(moment):
        state.faults.append(fault.noted(event, 1, found))
        return
    _count(state, event)
    for project in STEPS:
        project(moment)


def fold(history: History, rules: Rules) -> JourneyState:
    """The state after the whole history."""
    state = begin(history.journey_id)
    state.erasure = _earliest(history.erased)
    state.faults = [fault.noted(known.event, known.copy_no, known.fault) for known in history.faults]
    for event in history.events:
        step(state, event, rules)
    return state


def rows(state: JourneyState, rules: Rules) -> Rows:
    """The rows of a state, as far as all facts known to the rules say. Does not change the state.

    A journey whose events are all faults has rows of faults only.
    """
    if not state.event_count:
        return {table.name: [] for table, _ in PROJECTIONS} | {fault.TABLE.name: fault.rows(state, rules)}
    return {table.name: shown(state, rules) for table, shown in PROJECTIONS}


def event_rows(journey_id: str, events: Iterable[Envelope], rules: Rules) -> Rows:
    """The rows that show one event each, of events of the journey in any order.

    Their records can have no fault but `of_itself`, so the state is not needed: new events add rows, and the
    rows of those before stay.
    """
    found: Rows = {table.name: [] for table, _ in EVENT_PROJECTIONS.values()}
    for event in events:
        if (projection := EVENT_PROJECTIONS.get(type(event))) and fault.of_itself(event) is None:
            table, shown = projection
            row = shown(journey_id, event, rules)
            found[table.name] += [row] if row else []
    return found


def project(history: History, rules: Rules) -> Rows:
    """All rows of the whole history."""
    return rows(fold(history, rules), rules) | event_rows(history.journey_id, history.events, rules)


def pack(state: JourneyState) -> bytes:
    """The state as msgpack; equal states give equal bytes."""
    return _encoder.encode(state)


def unpack(packed: bytes) -> JourneyState:
    """The state that was packed. Raises msgspec.ValidationError for one of another shape."""
    return _decoder.decode(packed)


def _count(state: JourneyState, event: Envelope) -> None:
    state.event_count += 1
    if state.event_count == 1:
        state.first_event_at = event.occurred_at
    state.last_event_at, state.last_event_id = event.occurred_at, event.event_id


def _earliest(erased: list[SubjectErased]) -> Erasure | None:
    if not erased:
        return None
    first = min(erased, key=order_key)
    return Erasure(first.event_id, first.occurred_at, first.recorded_at)


STEPS: tuple[Callable[[Moment], None], ...] = (
    counters.step,
    touches.step,
    stage_machine.step,
    opportunity.step,
    credit.step,
    lead_state.step,
    handoff.step,
    sla_clock.step,
)
"""Every event goes through all of them in this order: each reads what those before it made of the event."""

PROJECTIONS: tuple[tuple[Table, Callable[[JourneyState, Rules], list[Row]]], ...] = (
    (lead_state.TABLE, lead_state.rows),
    (lead_state.MONEY_TABLE, lead_state.money_rows),
    (stage_visit.TABLE, stage_visit.rows),
    (handoff.TABLE, handoff.rows),
    (sla_clock.TABLE, sla_clock.rows),
    (sla_clock.WARNING_TABLE, sla_clock.warning_rows),
    (opportunity.TABLE, opportunity.rows),
    (credit.TABLE, credit.rows),
    (fault.TABLE, fault.rows),
)
"""Every table that shows a state, and who makes its rows."""

EVENT_PROJECTIONS: dict[type[Envelope], tuple[Table, Callable[[str, Any, Rules], Row | None]]] = {
    TouchRecorded: (touch.TABLE, touch.row),
    CampaignExposed: (campaign_exposure.TABLE, campaign_exposure.row),
    MeetingHeld: (meeting.TABLE, meeting.row),
    ContentRequested: (content_event.TABLE, content_event.row),
    ContentDelivered: (content_event.TABLE, content_event.row),
    AttributeChanged: (attribute_change.TABLE, attribute_change.row),
}
"""Record to the table that has a row for each of its events, and who makes it (None = not to be shown)."""

STATE_TABLES = tuple(table for table, _ in PROJECTIONS)
EVENT_TABLES = tuple(dict.fromkeys(table for table, _ in EVENT_PROJECTIONS.values()))
TABLES = (*STATE_TABLES, *EVENT_TABLES)
