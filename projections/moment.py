"""One event being folded: what every projection's `step` is given."""

from dataclasses import dataclass, field
from typing import NamedTuple

from projections.definition import Definition
from projections.rules import Rules
from projections.state import JourneyState
from schemas.records import Envelope


class Entered(NamedTuple):
    """A stage entered at the event being folded."""

    role: str
    is_inferred: bool


@dataclass(slots=True)
class Moment:
    """The event, the state it meets, the definition in force at it (by number too), the stages entered so
    far."""

    state: JourneyState
    event: Envelope
    rules: Rules
    definition_no: int
    definition: Definition
    entered: list[Entered] = field(default_factory=list)

    def really_entered(self, role: str) -> bool:
        """Whether a stage of the role was entered at this event, and not only inferred."""
        return Entered(role, False) in self.entered
