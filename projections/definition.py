"""A definition: what both teams agreed on, read from YAML and compiled into one immutable object.

Promises: `parse` either gives a Definition on which nothing can fail later, or every fault of the file at once, each
with its line, path, value and what was expected. Leaves evaluation over time to the stage machine and the clocks, and
which definition is in force when to `projections.rules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from projections.attribution import Model
from projections.business_time import Calendar
from projections.predicate import Predicate, TouchFilter, TouchPredicate, Values
from schemas.records import CampaignExposed, Envelope, TouchRecorded

SUCCESS_ROLES = ("anonymous", "known", "engaged", "mql", "sal", "sql", "opportunity", "won")
"""Roles of success stages, lowest first."""
RETURN_ROLES = ("recycled", "nurture", "disqualified")
"""Detours whose entry is a return: counters and passes start again."""
DETOUR_ROLES = (*RETURN_ROLES, "lost", "churned")
RANK = {role: rank for rank, role in enumerate(SUCCESS_ROLES)}
"""Success role to its height, anonymous = 0. Detours have none."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: the tenant's name, the fixed role, and the rule that enters it, if any (known, engaged, mql only)."""

    name: str
    role: str
    enter: Predicate | None = None


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """Points for a touch of the filter, counted for `expires_after` microseconds inclusive (None = for ever)."""

    filter: TouchFilter
    points: int
    expires_after: int | None


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """Touches that meet every condition are of `channel`, whatever was sent. A missing field meets no condition."""

    channel: str
    match: TouchFilter
    utm_source: Values = None
    utm_medium: Values = None
    utm_campaign: Values = None

    def matches(self, event: TouchRecorded | CampaignExposed) -> bool:
        """Whether the rule classifies the event; an exposure meets no condition on touch type, direction or utm."""


@dataclass(frozen=True, slots=True)
class RecordMatch:
    """An event of the record whose fields are as asked; None = anything."""

    record: str
    direction: Values = None
    touch_type: Values = None
    actor: Values = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts, or what stops, the clocks of a policy."""

    roles: frozenset[str]
    records: tuple[RecordMatch, ...]

    def at_entry(self, role: str) -> bool:
        """Whether entering a stage of the role triggers."""

    def at_event(self, event: Envelope) -> bool:
        """Whether the event itself, whatever stage it leads to, triggers."""


@dataclass(frozen=True, slots=True)
class Warning:
    """`after` = share x target in microseconds of the policy's time, floored."""

    share: float
    after: int


@dataclass(frozen=True, slots=True)
class Policy:
    """An SLA policy. `target` and `max_pause` in microseconds; `calendar` None = calendar time."""

    policy_id: str
    start: Trigger
    stop: Trigger
    target: int
    calendar: str | None
    warnings: tuple[Warning, ...]
    filter: Predicate | None
    max_pause: int | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which touches share a deal, and by which models. `lookback` in microseconds, inclusive."""

    lookback: int
    touches: TouchFilter
    exposures: frozenset[str]
    models: tuple[Model, ...]

    def counts(self, event: TouchRecorded | CampaignExposed) -> bool:
        """Whether the event may get credit at all, its age apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A compiled definition; compared by identity.

    `calendar` names the calendar of visits, always a key of `calendars`. `touch_predicates` are those of all stages
    and policies, each at its index. `predicate_attributes` are the attribute names that any predicate reads.
    """

    definition_id: str
    version: int
    rationale: str
    text: str = field(repr=False)
    stages: tuple[Stage, ...]
    scoring: tuple[ScoreLine, ...]
    reject_reasons: frozenset[str]
    calendars: Mapping[str, Calendar]
    calendar: str
    policies: tuple[Policy, ...]
    channels: tuple[ChannelRule, ...]
    attribution: Attribution
    personal: frozenset[str]
    touch_predicates: tuple[TouchPredicate, ...]
    predicate_attributes: frozenset[str]
    label: str
    by_role: Mapping[str, Stage]
    by_name: Mapping[str, Stage]

    def channel_of(self, event: TouchRecorded | CampaignExposed) -> str:
        """The channel after the channel rules: that of the first rule that matches, else as sent."""

    def points_of(self, touch: TouchRecorded, channel: str) -> ScoreLine | None:
        """The first scoring line that matches the touch, seen on `channel` after the channel rules."""


def parse(text: str) -> Definition:
    """Reads a definition file. Raises DefinitionFaults with every fault of the file."""
    raise NotImplementedError
