"""Which definitions were agreed on, and from when on one counts: what the facts on the log come to.

Promises: a function of the facts alone, whatever their order. The first proposal of a version (by recording
time, then id) says what the version is; a later one with other content has no effect. A dated activation
counts if the proposal and both approvals were recorded by its date: then nothing of the past changes. Leaves
activations that restate the past to the promotion of a replay, which writes them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from projections import definition
from schemas.records import (
    DefinitionActivated,
    DefinitionApproved,
    DefinitionProposed,
    Envelope,
    Micros,
    Team,
)

DefinitionFact = DefinitionProposed | DefinitionApproved | DefinitionActivated
TEAMS: tuple[Team, ...] = get_args(Team)


@dataclass
class Agreement:
    """A version of a definition with the facts about it, each kind in the order of recording."""

    definition_id: str
    version: int
    proposals: list[DefinitionProposed] = field(default_factory=list)
    approvals: dict[Team, DefinitionApproved] = field(default_factory=dict)
    activations: list[DefinitionActivated] = field(default_factory=list)

    @property
    def label(self) -> str:
        """`<definition_id>@<version>`."""
        return label(self.definition_id, self.version)

    @property
    def missing(self) -> list[str]:
        """What the agreement lacks, in words."""
        proposal = [] if self.proposals else ["a proposal"]
        return proposal + [f"the approval of {team}" for team in TEAMS if team not in self.approvals]

    @property
    def refused(self) -> list[DefinitionProposed]:
        """Proposals of the version with other content than the first."""
        return [each for each in self.proposals if each.body != self.proposals[0].body]

    def recorded_by(self, at: Micros) -> bool:
        """Whether the proposal and both approvals were recorded at an instant."""
        facts: list[Envelope] = [*self.proposals[:1], *self.approvals.values()]
        return not self.missing and all(fact.recorded_at <= at for fact in facts)


class Schedule(NamedTuple):
    """A definition that counts from an instant on."""

    valid_from: Micros
    label: str
    body: str


def label(definition_id: str, version: int) -> str:
    """The name of a version in every row."""
    return f"{definition_id}@{version}"


def agreements(facts: Iterable[DefinitionFact]) -> dict[str, Agreement]:
    """Every version that a fact names, by label."""
    found: dict[str, Agreement] = {}
    for fact in sorted(facts, key=lambda fact: (fact.recorded_at, fact.event_id)):
        named = label(fact.definition_id, fact.version)
        agreement = found.setdefault(named, Agreement(fact.definition_id, fact.version))
        match fact:
            case DefinitionProposed():
                agreement.proposals.append(fact)
            case DefinitionApproved():
                agreement.approvals.setdefault(fact.team, fact)
            case DefinitionActivated():
                agreement.activations.append(fact)
    return found


def schedules(facts: Iterable[DefinitionFact]) -> dict[Micros, Schedule]:
    """Date to what counts from it on; of several activations of one date the one recorded last."""
    found = [
        (activation.recorded_at, activation.event_id, agreement, activation.valid_from)
        for agreement in agreements(facts).values()
        for activation in agreement.activations
        if activation.valid_from is not None and why_not(agreement, activation) is None
    ]
    return {
        valid_from: Schedule(valid_from, agreement.label, agreement.proposals[0].body)
        for _, _, agreement, valid_from in sorted(found, key=lambda each: each[:2])
    }


def why_not(agreement: Agreement, activation: DefinitionActivated) -> str | None:
    """Why a dated activation does not count; None if it does."""
    date = activation.valid_from
    assert date is not None
    if agreement.missing:
        return f"{' and '.join(agreement.missing)} is missing"
    if activation.recorded_at > date or not agreement.recorded_by(date):
        return "not all of it was recorded before its date: it would change the past, which needs a replay"
    return why_unreadable(agreement.proposals[0].body)


def why_unreadable(body: str) -> str | None:
    """Why a body is no definition; None if it is one."""
    try:
        definition.parse(body)
    except definition.DefinitionFaults as faults:
        return f"it is no definition: {faults.faults[0]}"
    return None
