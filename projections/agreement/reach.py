"""How far a change of a definition reaches: the tables in which rows may differ because of it.

Promises: a table that is not named has the same rows under both definitions, but for the version's name.
"""

from collections.abc import Callable, Iterator

from projections import (
    attribute_change,
    campaign_exposure,
    credit,
    fault,
    handoff,
    lead_state,
    sla_clock,
    stage_visit,
    touch,
)
from projections.definition import Definition
from projections.predicate import AllOf, AnyOf, Not, Predicate, ScoreAtLeast, TouchPredicate

Tables = frozenset[str]

NOTHING: Tables = frozenset()
LEAD: Tables = frozenset({lead_state.TABLE.name})
VISITS: Tables = frozenset({stage_visit.TABLE.name})
CREDIT: Tables = frozenset({credit.TABLE.name})
CHANNELS: Tables = CREDIT | {touch.TABLE.name, campaign_exposure.TABLE.name}
ATTRIBUTES: Tables = frozenset({attribute_change.TABLE.name})
CLOCKS: Tables = frozenset({sla_clock.TABLE.name, sla_clock.WARNING_TABLE.name})
STAGES: Tables = LEAD | VISITS | CREDIT | CLOCKS | {handoff.TABLE.name, fault.TABLE.name}
"""Where a lead stands decides hand-offs, clocks, faults of later events, and the lead position of credit."""

REACH: dict[str, Tables] = {
    "definition_id": NOTHING,
    "version": NOTHING,
    "rationale": NOTHING,
    "calendar": VISITS,
    "stage": STAGES,
    "stage_name": STAGES,
    "reject_reason": STAGES,
    **dict.fromkeys(("policy", "start", "stop", "target", "time", "warn_at", "max_pause"), CLOCKS),
    **dict.fromkeys(("lookback", "credit_direction", "credit_touch", "exposure", "model"), CREDIT),
    "personal": ATTRIBUTES,
}
"""Kind of part to the tables, where that is all one needs to know."""


def of_condition(owner_kind: str) -> Tables:
    """Of a change in the rule of a stage, or in the filter of a policy."""
    return STAGES if owner_kind == "stage" else CLOCKS


def of_scoring(definition: Definition) -> Tables:
    """Of a change of points: the score shown, and whatever asks for it."""
    return LEAD | _readers(definition, lambda part: isinstance(part, ScoreAtLeast))


def of_channels(definition: Definition) -> Tables:
    """Of a change of channel rules: the channel shown, credit, and whatever asks for the channel of a
    touch."""
    found = CHANNELS | _readers(
        definition, lambda part: isinstance(part, TouchPredicate) and part.filter.channel is not None
    )
    if any(line.filter.channel is not None for line in definition.scoring):
        found |= of_scoring(definition)
    return found


def of_calendar(definition: Definition, calendar_id: str) -> Tables:
    """Of a change of opening hours."""
    found = VISITS if definition.calendar == calendar_id else NOTHING
    return found | (CLOCKS if any(p.calendar == calendar_id for p in definition.policies) else NOTHING)


def _readers(definition: Definition, asks: Callable[[Predicate], bool]) -> Tables:
    """What depends on predicates with a part that asks for something."""
    rules = (stage.enter for stage in definition.stages)
    filters = (policy.filter for policy in definition.policies)
    return (STAGES if any(asks(part) for rule in rules for part in _leaves(rule)) else NOTHING) | (
        CLOCKS if any(asks(part) for each in filters for part in _leaves(each)) else NOTHING
    )


def _leaves(predicate: Predicate | None) -> Iterator[Predicate]:
    match predicate:
        case None:
            return
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _leaves(part)
        case Not(part):
            yield from _leaves(part)
        case _:
            yield predicate
