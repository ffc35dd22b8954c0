"""Lead state: where a lead stands now, in one row; and its money, one row per currency.

Promises: the row shows only what other projections and this one know after the last event. Leaves amounts in
the deals' own currencies: they are never added across currencies.
"""

from collections.abc import Callable
from typing import Any

from projections.moment import Moment
from projections.roles import SUCCESS_ROLES
from projections.rules import Rules
from projections.state import JourneyState, Lead, OfferTouch, Visit
from projections.table import Row, table
from schemas.records import Envelope, LeadAssigned, TouchRecorded

TABLE = table("""
create table lead_state (
    journey_id text collate "C" not null,
    stage text collate "C" not null,
    stage_role text collate "C" not null,
    stage_entered_at timestamptz not null,
    stage_entered_event_id text collate "C" not null,
    previous_stage text collate "C",
    furthest_role text collate "C" not null,
    handoff_status text collate "C" not null,
    handoff_reason text collate "C",
    recycle_until timestamptz,
    owner_id text collate "C",
    team_id text collate "C",
    score bigint not null,
    flags text collate "C" not null,
    fault_count int not null,
    first_touch_at timestamptz,
    last_touch_at timestamptz,
    first_offer_id text collate "C",
    last_offer_before_mql_id text collate "C",
    first_campaign_id text collate "C",
    last_campaign_before_mql_id text collate "C",
    open_opportunities int not null,
    won_opportunities int not null,
    event_count int not null,
    last_event_id text collate "C" not null,
    last_event_at timestamptz not null,
    definition_version text collate "C" not null,
    primary key (journey_id)
) with (fillfactor = 70)
""")
MONEY_TABLE = table("""
create table lead_money (
    journey_id text collate "C" not null,
    currency text collate "C" not null,
    won_minor bigint not null,
    adjusted_minor bigint not null,
    definition_version text collate "C" not null,
    primary key (journey_id, currency)
)
""")


def step(moment: Moment) -> None:
    """Takes owner and touches, and at an entry into mql the offer that led there."""
    handler = HANDLERS.get(type(moment.event))
    if handler:
        handler(moment.state.lead, moment.event)
    if moment.entered and any(entered.role == "mql" for entered in moment.entered):
        lead = moment.state.lead
        lead.mql_at = moment.event.occurred_at
        lead.last_offer_before_mql = lead.last_offer


def add_flag(state: JourneyState, flag: str) -> None:
    """Flags stay: they say that something happened."""
    if flag not in state.lead.flags:
        state.lead.flags = sorted([*state.lead.flags, flag])


def _touched(lead: Lead, touch: TouchRecorded) -> None:
    if lead.first_touch_at is None:
        lead.first_touch_at = touch.occurred_at
    lead.last_touch_at = touch.occurred_at
    if touch.direction == "inbound" and touch.offer_id:
        _offered(lead, touch.occurred_at, OfferTouch(touch.offer_id, touch.campaign_id))


def _offered(lead: Lead, at: int, offer: OfferTouch) -> None:
    """A touch at the instant of the mql entry is at or before it, whichever of the two events sorts first."""
    if lead.first_offer is None:
        lead.first_offer = offer
    lead.last_offer = offer
    if lead.mql_at == at:
        lead.last_offer_before_mql = offer


def _assigned(lead: Lead, event: LeadAssigned) -> None:
    lead.owner_id, lead.team_id = event.owner_id, event.team_id


def rows(state: JourneyState, rules: Rules) -> list[Row]:
    lead, visit, handoffs, deals = state.lead, state.stages.visits[-1], state.handoffs, state.deals
    first, last = lead.first_offer, lead.last_offer_before_mql
    return [
        (
            state.journey_id,
            visit.stage,
            visit.role,
            visit.entered_at,
            visit.entered_event_id,
            _previous_stage(state.stages.visits),
            SUCCESS_ROLES[state.stages.furthest],
            handoffs.status,
            handoffs.reason,
            handoffs.recycle_until,
            lead.owner_id,
            lead.team_id,
            state.counters.score,
            ",".join(lead.flags),
            len(state.faults),
            lead.first_touch_at,
            lead.last_touch_at,
            first.offer_id if first else None,
            last.offer_id if last else None,
            first.campaign_id if first else None,
            last.campaign_id if last else None,
            deals.open_count,
            deals.won_count,
            state.event_count,
            state.last_event_id,
            state.last_event_at,
            rules.label,
        )
    ]


def money_rows(state: JourneyState, rules: Rules) -> list[Row]:
    """What is won in force and how it was adjusted since; a currency without a win in force has no row."""
    totals: dict[str, tuple[int, int]] = {}
    for deal in state.deals.by_id.values():
        if deal.status == "won" and deal.currency is not None:
            won, adjusted = totals.get(deal.currency, (0, 0))
            totals[deal.currency] = (won + (deal.amount_minor or 0), adjusted + deal.adjusted_minor)
    return [(state.journey_id, currency, *sums, rules.label) for currency, sums in totals.items()]


def _previous_stage(visits: list[Visit]) -> str | None:
    return next((visit.stage for visit in visits[-2::-1] if not visit.is_inferred), None)


HANDLERS: dict[type[Envelope], Callable[[Lead, Any], None]] = {
    TouchRecorded: _touched,
    LeadAssigned: _assigned,
}
