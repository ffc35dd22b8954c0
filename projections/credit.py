"""Credit: which touches a won opportunity goes to, by every model of the definition in force at the win.

Promises: rows of a win never change after it, they are only followed by rows of adjustments and, when the win
no longer counts, of its reversal; each of them sums to its amount in every model. Leaves weights and rounding
to `attribution`. Rule-based credit is a convention, not causal lift.
"""

from collections.abc import Callable, Iterator
from typing import Any

from projections import attribution
from projections.attribution import Path
from projections.definition import Definition
from projections.moment import Moment
from projections.rules import Rules
from projections.state import CreditedTouch, JourneyState, Opportunity, Share, Touch, Win
from projections.table import Row, table
from schemas.records import (
    CampaignExposed,
    Envelope,
    OpportunityLost,
    OpportunityReopened,
    OpportunityWon,
    RevenueAdjusted,
    TouchRecorded,
)

TABLE = table("""
create table credit (
    journey_id text collate "C" not null,
    opportunity_id text collate "C" not null,
    touch_event_id text collate "C" not null,
    kind text collate "C" not null,
    event_id text collate "C" not null,
    touched_at timestamptz,
    channel text collate "C" not null,
    campaign_id text collate "C",
    offer_id text collate "C",
    positions text collate "C" not null,
    effective_at timestamptz not null,
    won_at timestamptz not null,
    currency text collate "C" not null,
    models text[] collate "C" not null,
    weights double precision[] not null,
    amounts bigint[] not null,
    definition_version text collate "C" not null,
    primary key (journey_id, opportunity_id, kind, event_id, touch_event_id)
)
""")
UNATTRIBUTED = "unattributed"
"""The channel of an amount that no touch may claim; its row has no touch."""


def step(moment: Moment) -> None:
    """Credits a win, an adjustment, or takes a win back."""
    handler = HANDLERS.get(type(moment.event))
    if handler:
        handler(moment, moment.event)


def _won(moment: Moment, event: OpportunityWon) -> None:
    """A second win of the same opportunity replaces the first."""
    state = moment.state
    deal = state.deals.by_id[event.opportunity_id]
    _reverse(moment, deal)
    win = Win(
        opportunity_id=event.opportunity_id,
        definition_no=moment.definition_no,
        won_at=event.occurred_at,
        currency=event.currency,
        known_at=_known_at(state),
        opened_at=deal.opened_at,
        path=[],
        shares=[Share("win", event.event_id, event.occurred_at, event.amount_minor, [])],
    )
    _evaluate(win, state, moment.definition)
    deal.win = len(state.wins)
    state.wins.append(win)


def _undone(moment: Moment, event: OpportunityLost | OpportunityReopened) -> None:
    deal = moment.state.deals.by_id.get(event.opportunity_id)
    if deal is not None:
        _reverse(moment, deal)
        deal.win = None


def _reverse(moment: Moment, deal: Opportunity) -> None:
    """Adds the negative of everything credited for the deal's win in force, if it has one."""
    if deal.win is None:
        return
    win, event = moment.state.wins[deal.win], moment.event
    net = sum(share.amount for share in win.shares)
    win.shares.append(Share("reversal", event.event_id, event.occurred_at, -net, _net(win.shares)))


def _net(shares: list[Share]) -> list[tuple[int, ...]]:
    """Per touch and model, minus the sum of the shares."""
    per_touch = zip(*(share.amounts for share in shares), strict=True)
    return [tuple(-sum(amounts) for amounts in zip(*of_touch, strict=True)) for of_touch in per_touch]


def _adjusted(moment: Moment, event: RevenueAdjusted) -> None:
    deal = moment.state.deals.by_id[event.opportunity_id]
    if deal.win is not None:
        win = moment.state.wins[deal.win]
        share = Share("adjustment", event.event_id, event.effective_at, event.delta_minor, [])
        share.amounts = _amounts(win, moment.rules.definitions[win.definition_no], share.amount)
        win.shares.append(share)


def _same_instant(moment: Moment, event: TouchRecorded | CampaignExposed) -> None:
    """A touch at the instant of a win is eligible, also if its event sorts after the win: evaluate again."""
    for win in reversed(moment.state.wins):
        if win.won_at != event.occurred_at:
            return
        _evaluate(win, moment.state, moment.rules.definitions[win.definition_no])


def _known_at(state: JourneyState) -> int:
    known_at = state.stages.known_at
    return state.first_event_at if known_at is None else known_at


def _evaluate(win: Win, state: JourneyState, definition: Definition) -> None:
    """Fills in the path of the win and splits all its shares, the first of which is the win, over it."""
    touches = list(_eligible(win, state, definition))
    won, *later = win.shares
    if touches:
        won.amounts = _credit(win, touches, definition)
    else:
        win.path = [_nobody(definition)]
        won.amounts = _amounts(win, definition, won.amount)
    for number, share in enumerate(later, 1):
        is_reversal = share.kind == "reversal"
        share.amounts = _net(win.shares[:number]) if is_reversal else _amounts(win, definition, share.amount)


def _credit(win: Win, touches: list[Touch], definition: Definition) -> list[tuple[int, ...]]:
    """Fills in the path; returns the win's amount split over it: per touch, then per model."""
    channels = [definition.channel_of(touch.as_event()) for touch in touches]
    times = [touch.occurred_at for touch in touches]
    path = attribution.path_of(times, channels, win.known_at, win.opened_at, win.won_at)
    per_model = attribution.evaluate(definition.attribution.models, path, win.shares[0].amount)
    weights = zip(*(shared.weights for shared in per_model), strict=True)
    win.path = [
        CreditedTouch(
            touch_event_id=touch.event_id,
            touched_at=touch.occurred_at,
            channel=channel,
            campaign_id=touch.campaign_id,
            offer_id=touch.offer_id,
            positions=held,
            weights=of_touch,
        )
        for touch, channel, held, of_touch in zip(touches, channels, path.positions(), weights, strict=True)
    ]
    return list(zip(*(shared.amounts for shared in per_model), strict=True))


def _eligible(win: Win, state: JourneyState, definition: Definition) -> Iterator[Touch]:
    settings = definition.attribution
    times = [touch.occurred_at for touch in state.touches.kept]
    for index in attribution.eligible(times, win.won_at, settings.lookback):
        touch = state.touches.kept[index]
        if settings.counts(touch.as_event()):
            yield touch


def _nobody(definition: Definition) -> CreditedTouch:
    weights = (1.0,) * len(definition.attribution.models)
    return CreditedTouch("", None, UNATTRIBUTED, None, None, "", weights)


def _amounts(win: Win, definition: Definition, amount: int) -> list[tuple[int, ...]]:
    """An amount split by the weights of the win: per touch, then per model."""
    models = definition.attribution.models
    if win.path[0].touched_at is None:
        return [(amount,) * len(models)]
    per_model = [shared.amounts for shared in attribution.evaluate(models, _path(win), amount)]
    return list(zip(*per_model, strict=True))


def _path(win: Win) -> Path:
    times = [touch.touched_at or 0 for touch in win.path]
    channels = [touch.channel for touch in win.path]
    return attribution.path_of(times, channels, win.known_at, win.opened_at, win.won_at)


def rows(state: JourneyState, rules: Rules) -> list[Row]:
    found: list[Row] = []
    for win in state.wins:
        models = tuple(model.name for model in rules.definitions[win.definition_no].attribution.models)
        for share in win.shares:
            for touch, amounts in zip(win.path, share.amounts, strict=True):
                found.append(
                    (
                        state.journey_id,
                        *_cells(win, share, touch),
                        models,
                        touch.weights,
                        amounts,
                        rules.label,
                    )
                )
    return found


def _cells(win: Win, share: Share, touch: CreditedTouch) -> Row:
    return (
        win.opportunity_id,
        touch.touch_event_id,
        share.kind,
        share.event_id,
        touch.touched_at,
        touch.channel,
        touch.campaign_id,
        touch.offer_id,
        touch.positions,
        share.effective_at,
        win.won_at,
        win.currency,
    )


HANDLERS: dict[type[Envelope], Callable[[Moment, Any], None]] = {
    OpportunityWon: _won,
    OpportunityLost: _undone,
    OpportunityReopened: _undone,
    RevenueAdjusted: _adjusted,
    TouchRecorded: _same_instant,
    CampaignExposed: _same_instant,
}
