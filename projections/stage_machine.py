"""The stage machine: which stages a lead enters at an event, first by the event's own effect, then by rule.

Promises: the moves of the contract's table, skipped stages inferred, passes and returns. Moves are decided
before the event changes anything else (deals, hand-off), so handlers read what was known until then. Leaves
refusing events to `fault`, and what follows from a move to the projections that look at `Moment.entered`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from projections import counters, opportunity, stage_visit
from projections.definition import Definition, Stage
from projections.moment import Entered, Moment
from projections.predicate import evaluate
from projections.roles import RANK, RETURN_ROLES, SUCCESS_ROLES
from schemas.records import (
    CustomerChurned,
    CustomerRenewed,
    Envelope,
    HandoffAccepted,
    HandoffRejected,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    StageChanged,
    SubjectsLinked,
)

IDENTIFYING = ("identified", "merged_in_crm", "import")
"""Evidence of a link that makes a lead known."""
BY_RULE = ("mql", "engaged", "known")
"""Roles that a rule may enter, highest first."""
RULES_FROM = ("recycled", "nurture", "anonymous", "known", "engaged")
"""Roles that a rule may leave."""


def step(moment: Moment) -> None:
    """Enters the lowest stage at the first event, then what the event says, then what the rules say."""
    if not moment.state.stages.visits:
        _enter(moment, lowest(moment.definition))
    before = _role(moment)
    effect = EFFECTS.get(type(moment.event))
    target = effect(moment, moment.event) if effect else None
    if target is not None:
        _move(moment, target)
    if _role(moment) == before or not is_backward(before, _role(moment)):
        _enter_by_rule(moment)


def lowest(definition: Definition) -> Stage:
    """The stage that a journey's first event enters."""
    return next(definition.by_role[role] for role in SUCCESS_ROLES if role in definition.by_role)


def is_backward(before: str, after: str) -> bool:
    """Whether a move between two different roles goes down or to a detour; up from every detour."""
    return after not in RANK or RANK[after] < RANK.get(before, -1)


def _role(moment: Moment) -> str:
    return moment.state.stages.visits[-1].role


def _move(moment: Moment, role: str) -> None:
    """To the definition's stage of the role, unless it has none or the lead is there."""
    stage = moment.definition.by_role.get(role)
    if stage is not None and role != _role(moment):
        _enter(moment, stage)


def _enter_by_rule(moment: Moment) -> None:
    """The highest stage above the present one whose rule holds."""
    present = _role(moment)
    if present not in RULES_FROM:
        return
    for role in BY_RULE:
        if RANK[role] <= RANK.get(present, -1):
            return
        stage = moment.definition.by_role.get(role)
        if stage is None or stage.enter is None:
            continue
        if evaluate(stage.enter, moment.state.counters, moment.event.occurred_at):
            _enter(moment, stage)
            return


def _enter(moment: Moment, stage: Stage) -> None:
    """Leaves the present stage for another one, by way of those that were skipped."""
    stage_visit.leave(moment)
    for skipped in list(_skipped(moment, stage)):
        _visit(moment, skipped, is_inferred=True)
    _visit(moment, stage, is_inferred=False)
    if stage.role in RETURN_ROLES:
        _return(moment)


def _skipped(moment: Moment, stage: Stage) -> Iterator[Stage]:
    """Success stages below that this pass has not visited; after a return only mql and above."""
    stages = moment.state.stages
    first = 0 if stages.is_first_pass else RANK["mql"]
    for rank in range(first, RANK.get(stage.role, 0)):
        skipped = moment.definition.by_role.get(SUCCESS_ROLES[rank])
        if skipped is not None and not stages.visited >> rank & 1:
            yield skipped


def _visit(moment: Moment, stage: Stage, is_inferred: bool) -> None:
    stages = moment.state.stages
    stage_visit.enter(moment, stage, is_inferred)
    moment.entered.append(Entered(stage.role, is_inferred))
    if stage.role == "known" and stages.known_at is None:
        stages.known_at = moment.event.occurred_at
    if (rank := RANK.get(stage.role)) is not None:
        stages.visited |= 1 << rank
        stages.furthest = max(stages.furthest, rank)


def _return(moment: Moment) -> None:
    moment.state.stages.visited = 0
    moment.state.stages.is_first_pass = False
    counters.restart(moment.state)


def _linked(moment: Moment, event: SubjectsLinked) -> str | None:
    return "known" if event.evidence in IDENTIFYING and _role(moment) == "anonymous" else None


def _changed(moment: Moment, event: StageChanged) -> str:
    return moment.definition.by_name[event.to_stage].role


def _accepted(moment: Moment, event: HandoffAccepted) -> str | None:
    present = _role(moment)
    is_before = present in RETURN_ROLES or RANK.get(present, RANK["sql"]) < RANK["sql"]
    return "sql" if is_before else None


def _rejected(moment: Moment, event: HandoffRejected) -> str:
    return event.return_to


def _opened(moment: Moment, event: OpportunityOpened) -> str | None:
    """Only the first opening of a deal not yet decided moves, and never out of won."""
    deal = moment.state.deals.by_id.get(event.opportunity_id)
    if deal is not None and (deal.opened_at is not None or deal.status != "open"):
        return None
    return None if _role(moment) == "won" else "opportunity"


def _won(moment: Moment, event: OpportunityWon) -> str:
    return "won"


def _lost(moment: Moment, event: OpportunityLost) -> str | None:
    """Where the lead stands by its other deals: nowhere new while one is open."""
    deals, lost = moment.state.deals, event.opportunity_id
    if opportunity.is_another_open(deals, lost):
        return None
    if deals.churned_no > deals.renewed_no and deals.churned_no > opportunity.last_won_no(deals, lost):
        return "churned"
    return "won" if opportunity.is_another_won(deals, lost) else "lost"


def _reopened(moment: Moment, event: OpportunityReopened) -> str | None:
    deals = moment.state.deals
    deal = deals.by_id.get(event.opportunity_id)
    if deal is None or deal.status == "open" or opportunity.is_another_won(deals, event.opportunity_id):
        return None
    return "opportunity" if "opportunity" in moment.definition.by_role else "sql"


def _churned(moment: Moment, event: CustomerChurned) -> str:
    return "churned"


def _renewed(moment: Moment, event: CustomerRenewed) -> str | None:
    return "won" if _role(moment) == "churned" else None


EFFECTS: dict[type[Envelope], Callable[[Moment, Any], str | None]] = {
    SubjectsLinked: _linked,
    StageChanged: _changed,
    HandoffAccepted: _accepted,
    HandoffRejected: _rejected,
    OpportunityOpened: _opened,
    OpportunityWon: _won,
    OpportunityLost: _lost,
    OpportunityReopened: _reopened,
    CustomerChurned: _churned,
    CustomerRenewed: _renewed,
}
"""Record to the role that the lead moves to by it (None = no move). Every other record moves by rule only."""
