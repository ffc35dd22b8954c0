"""Opportunities: the deals of a lead, and what became of each.

Promises: status, dates and money of every deal named by an event of the journey. Leaves the lead's stage to
`stage_machine` and who gets credit for a win to `credit`; whether a deal is shared by several journeys to the
views.
"""

from collections.abc import Callable
from typing import Any

from projections.moment import Moment
from projections.rules import Rules
from projections.state import Deals, JourneyState, Opportunity
from projections.table import Row, table
from schemas.records import (
    CustomerChurned,
    CustomerRenewed,
    Envelope,
    OpportunityChanged,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    RevenueAdjusted,
)

TABLE = table("""
create table opportunity (
    journey_id text collate "C" not null,
    opportunity_id text collate "C" not null,
    account_id text collate "C",
    status text collate "C" not null,
    opened_at timestamptz,
    closed_at timestamptz,
    amount_minor bigint,
    adjusted_minor bigint not null,
    currency text collate "C",
    loss_reason text collate "C",
    first_event_at timestamptz not null,
    first_event_id text collate "C" not null,
    first_event_sequence bigint,
    definition_version text collate "C" not null,
    primary key (journey_id, opportunity_id)
) with (fillfactor = 80)
""")


def step(moment: Moment) -> None:
    """Takes what the event says of a deal."""
    handler = HANDLERS.get(type(moment.event))
    if handler:
        handler(moment, moment.event)


def is_another_open(deals: Deals, opportunity_id: str) -> bool:
    """Whether a deal besides this one is open."""
    return deals.open_count > _has_status(deals, opportunity_id, "open")


def is_another_won(deals: Deals, opportunity_id: str) -> bool:
    """Whether a deal besides this one is won."""
    return deals.won_count > _has_status(deals, opportunity_id, "won")


def last_won_no(deals: Deals, besides: str) -> int:
    """The number of the last event that won a deal still won, this one apart; 0 if there is none."""
    won = (deal.won_no for deal in deals.by_id.values() if deal.status == "won")
    own = deals.by_id.get(besides)
    return max((number for number in won if own is None or number != own.won_no), default=0)


def _has_status(deals: Deals, opportunity_id: str, status: str) -> bool:
    deal = deals.by_id.get(opportunity_id)
    return deal is not None and deal.status == status


def _deal(moment: Moment, opportunity_id: str) -> Opportunity:
    """The deal of this id; the first event that names it makes it, open."""
    deals = moment.state.deals
    deal = deals.by_id.get(opportunity_id)
    if deal is None:
        event = moment.event
        deal = Opportunity(
            opportunity_id, event.occurred_at, event.event_id, first_sequence=event.source_sequence
        )
        deals.by_id[opportunity_id] = deal
        deals.open_count += 1
    return deal


def _set_status(deals: Deals, deal: Opportunity, status: str) -> None:
    deals.open_count += (status == "open") - (deal.status == "open")
    deals.won_count += (status == "won") - (deal.status == "won")
    deal.status = status


def _set_amount(deal: Opportunity, event: OpportunityOpened | OpportunityChanged | OpportunityWon) -> None:
    if event.amount_minor is not None:
        deal.amount_minor, deal.currency = event.amount_minor, event.currency


def _opened(moment: Moment, event: OpportunityOpened) -> None:
    """The first opening says when and for whom; a repeated one only how much; one after the end only when."""
    deal = _deal(moment, event.opportunity_id)
    is_first = deal.opened_at is None
    if is_first:
        deal.opened_at = event.occurred_at
    if deal.status != "open":
        return
    if is_first:
        deal.account_id = event.account_id
    _set_amount(deal, event)


def _changed(moment: Moment, event: OpportunityChanged) -> None:
    """A decided deal keeps the amount it was decided with."""
    deal = _deal(moment, event.opportunity_id)
    if deal.status == "open":
        _set_amount(deal, event)


def _won(moment: Moment, event: OpportunityWon) -> None:
    deals = moment.state.deals
    deal = _deal(moment, event.opportunity_id)
    _decide(moment, deal, "won")
    _set_amount(deal, event)
    deal.won_no = moment.state.event_count
    deals.ever_won = True


def _lost(moment: Moment, event: OpportunityLost) -> None:
    deal = _deal(moment, event.opportunity_id)
    _decide(moment, deal, "lost")
    deal.loss_reason = event.reason_code or None


def _decide(moment: Moment, deal: Opportunity, status: str) -> None:
    """Whatever was decided before, this is now in force, without adjustments."""
    _set_status(moment.state.deals, deal, status)
    deal.closed_at = moment.event.occurred_at
    deal.loss_reason = None
    deal.adjusted_minor = 0


def _reopened(moment: Moment, event: OpportunityReopened) -> None:
    deal = moment.state.deals.by_id.get(event.opportunity_id)
    if deal is not None and deal.status != "open":
        _decide(moment, deal, "open")
        deal.closed_at = None


def _adjusted(moment: Moment, event: RevenueAdjusted) -> None:
    _deal(moment, event.opportunity_id).adjusted_minor += event.delta_minor


def _renewed(moment: Moment, event: CustomerRenewed) -> None:
    moment.state.deals.renewed_no = moment.state.event_count


def _churned(moment: Moment, event: CustomerChurned) -> None:
    moment.state.deals.churned_no = moment.state.event_count


def rows(state: JourneyState, rules: Rules) -> list[Row]:
    return [
        (
            state.journey_id,
            deal.opportunity_id,
            deal.account_id,
            deal.status,
            deal.opened_at,
            deal.closed_at,
            deal.amount_minor,
            deal.adjusted_minor,
            deal.currency,
            deal.loss_reason,
            deal.first_event_at,
            deal.first_event_id,
            deal.first_sequence,
            rules.label,
        )
        for deal in state.deals.by_id.values()
    ]


HANDLERS: dict[type[Envelope], Callable[[Moment, Any], None]] = {
    OpportunityOpened: _opened,
    OpportunityChanged: _changed,
    OpportunityWon: _won,
    OpportunityLost: _lost,
    OpportunityReopened: _reopened,
    RevenueAdjusted: _adjusted,
    CustomerRenewed: _renewed,
    CustomerChurned: _churned,
}
