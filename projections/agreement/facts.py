"""The facts about definitions that this product publishes.

Promises: an id says what the fact is about. A version can be proposed once and approved once by each team:
these ids are the same whoever says it, so that of two at once the log keeps the first. Activations repeat.
"""

from typing import Any

from projections.agreement.standing import label
from projections.definition import Definition
from schemas.records import (
    Actor,
    DefinitionActivated,
    DefinitionApproved,
    DefinitionProposed,
    Micros,
    Team,
)

SOURCE = "leadlog"
"""The `source` of facts that the product itself publishes."""


def proposed(definition: Definition, rationale: str, by: Actor, now: Micros) -> DefinitionProposed:
    """The definition as it is, and why."""
    envelope = _envelope(definition.definition_id, definition.version, "proposed", by, now)
    return DefinitionProposed(**envelope, body=definition.text, rationale=rationale)


def approved(definition_id: str, version: int, team: Team, by: Actor, now: Micros) -> DefinitionApproved:
    """A team agrees."""
    return DefinitionApproved(**_envelope(definition_id, version, f"approved:{team}", by, now), team=team)


def activated(
    definition_id: str, version: int, valid_from: Micros | None, by: Actor, now: Micros
) -> DefinitionActivated:
    """The definition counts, from a date on or (None) for the whole history."""
    kind = "activated" if valid_from is None else "scheduled"
    envelope = _envelope(definition_id, version, f"{kind}:{now}", by, now)
    return DefinitionActivated(**envelope, valid_from=valid_from)


def _envelope(definition_id: str, version: int, what: str, by: Actor, now: Micros) -> dict[str, Any]:
    return {
        "event_id": f"{SOURCE}:{label(definition_id, version)}:{what}",
        "subject_id": definition_id,
        "occurred_at": now,
        "recorded_at": now,
        "source": SOURCE,
        "actor": by,
        "definition_id": definition_id,
        "version": version,
    }
