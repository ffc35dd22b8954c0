"""What is remembered of one journey between two events: all of it, in one place.

Promises: nothing here but plain values, so that a state packs to about a kilobyte and comes back equal;
everything a row shows is either here or computed from here and the rules. Leaves changing it to the
projections, one file each.
"""

from typing import TypedDict

from msgspec import Struct, field

from projections.predicate import AttributeValue
from schemas.records import (
    CampaignExposed,
    Direction,
    Envelope,
    ExposureType,
    Micros,
    TouchRecorded,
    TouchType,
    Utm,
)

Key = tuple[Micros, bool, int, bytes]
"""An event's place in the contract's order."""


class Faulted(Struct, array_like=True, gc=False):
    """A copy of an event that has no effect, and why."""

    event_id: str
    copy_no: int
    record: str
    code: str
    message: str
    occurred_at: Micros


class Erasure(Struct, array_like=True, gc=False):
    """The earliest erasure of a subject of the journey."""

    event_id: str
    occurred_at: Micros
    recorded_at: Micros


class OfferTouch(Struct, array_like=True, gc=False):
    """An inbound touch with an offer."""

    offer_id: str
    campaign_id: str | None


class Lead(Struct, array_like=True):
    """Who works on the lead, and what pulled it in."""

    owner_id: str | None = None
    team_id: str | None = None
    flags: list[str] = []
    first_touch_at: Micros | None = None
    last_touch_at: Micros | None = None
    first_offer: OfferTouch | None = None
    last_offer: OfferTouch | None = None
    last_offer_before_mql: OfferTouch | None = None
    mql_at: Micros | None = None


class Counters(Struct, array_like=True):
    """What predicates read (`predicate.Facts`). All but the attributes restart at each return.

    `expiring` is a heap of (last instant at which they count, points); `touch_times` has one list per touch
    predicate of the definition in force.
    """

    score: int = 0
    expiring: list[tuple[Micros, int]] = []
    touch_times: list[list[Micros]] = []
    seen: set[str] = set()
    attributes: dict[str, AttributeValue] = {}


class _Envelope(TypedDict):
    event_id: str
    subject_id: str
    occurred_at: Micros
    recorded_at: Micros
    source: str


class Touch(Struct, array_like=True, gc=False):
    """A touch, or an exposure, as sent: it may get credit, or count differently in another definition."""

    event_id: str
    occurred_at: Micros
    channel: str
    campaign_id: str | None
    offer_id: str | None
    touch_type: TouchType | None = None
    direction: Direction | None = None
    exposure_type: ExposureType | None = None
    utm: tuple[str | None, str | None, str | None] | None = None

    def as_event(self) -> TouchRecorded | CampaignExposed:
        """The event as far as rules may look at it."""
        if self.exposure_type is not None:
            return CampaignExposed(
                **self._envelope(),
                campaign_id=self.campaign_id or "",
                exposure_type=self.exposure_type,
                channel=self.channel,
                offer_id=self.offer_id,
            )
        return TouchRecorded(
            **self._envelope(),
            touch_type=self.touch_type or "other",
            direction=self.direction or "inbound",
            channel=self.channel,
            campaign_id=self.campaign_id,
            offer_id=self.offer_id,
            utm=Utm(*self.utm) if self.utm else None,
        )

    def _envelope(self) -> _Envelope:
        at = self.occurred_at
        return _Envelope(event_id=self.event_id, subject_id="", occurred_at=at, recorded_at=at, source="")


class Touches(Struct, array_like=True):
    """The touches that may still matter, oldest first; those from `counted_from` on came after the last
    return."""

    kept: list[Touch] = []
    counted_from: int = 0


class Visit(Struct, array_like=True, gc=False):
    """A stage entered. The next visit that is not inferred says when it was left, and by which event."""

    stage: str
    role: str
    entered_at: Micros
    entered_event_id: str
    is_inferred: bool = False
    reason_code: str | None = None
    business: int = 0


class Stages(Struct, array_like=True):
    """The visits, the ranks that this pass has visited (as bits), whether it is the first, the highest rank
    ever."""

    visits: list[Visit] = []
    visited: int = 0
    is_first_pass: bool = True
    furthest: int = 0
    known_at: Micros | None = None

    @property
    def role(self) -> str | None:
        """The present role; None before the first event."""
        return self.visits[-1].role if self.visits else None


class Handoff(Struct, array_like=True, gc=False):
    """One hand-off; open while it has no outcome."""

    opened_at: Micros
    opened_event_id: str
    owner_id: str | None
    team_id: str | None
    ended_at: Micros | None = None
    ended_event_id: str | None = None
    outcome: str | None = None
    reason_code: str | None = None


class Handoffs(Struct, array_like=True):
    """All hand-offs, the status of the lead's, and what the last rejection said."""

    all: list[Handoff] = []
    status: str = "none"
    reason: str | None = None
    recycle_until: Micros | None = None

    @property
    def open(self) -> Handoff | None:
        """The hand-off that waits for sales, if one does."""
        return self.all[-1] if self.all and self.all[-1].outcome is None else None


class Stop(Struct, array_like=True, gc=False):
    """When, and by which event, a clock ended; `used` in microseconds of the policy's time."""

    at: Micros
    event_id: str
    recorded_at: Micros
    cancelled_reason: str | None = None
    used: int = 0


class Measure(Struct, array_like=True):
    """Due and warn instants, measured when `changes` facts about the calendar were known."""

    changes: int
    due_at: Micros | None
    warn_at: list[Micros | None]


class Clock(Struct, array_like=True):
    """One run of a policy, which is that of the definition numbered `definition_no` whatever follows it.

    `role` is the one whose entry started it; None = a record did. `pauses` as they happened: cut by
    `max_pause` only when measured.
    """

    policy_id: str
    clock_no: int
    definition_no: int
    started_at: Micros
    started_event_id: str
    role: str | None
    owner_id: str | None
    team_id: str | None
    pauses: list[tuple[Micros, Micros | None]]
    measure: Measure
    stop: Stop | None = None


class Clocks(Struct, array_like=True):
    """Clocks that run, clocks that ended, and the last number given per policy."""

    running: list[Clock] = []
    ended: list[Clock] = []
    numbers: dict[str, int] = {}


class Opportunity(Struct, array_like=True, gc=False):
    """A deal. `win` is the place of its win in force among the wins, `won_no` that event's number."""

    opportunity_id: str
    first_event_at: Micros
    first_event_id: str
    status: str = "open"
    account_id: str | None = None
    opened_at: Micros | None = None
    closed_at: Micros | None = None
    amount_minor: int | None = None
    adjusted_minor: int = 0
    currency: str | None = None
    loss_reason: str | None = None
    win: int | None = None
    won_no: int = 0
    first_sequence: int | None = None


class Deals(Struct, array_like=True):
    """The opportunities by id, how many are open and won, and the numbers of the last renewal and churn."""

    by_id: dict[str, Opportunity] = {}
    open_count: int = 0
    won_count: int = 0
    ever_won: bool = False
    renewed_no: int = 0
    churned_no: int = 0


class CreditedTouch(Struct, array_like=True):
    """A touch of a win's path with its weight per model."""

    touch_event_id: str
    touched_at: Micros | None
    channel: str
    campaign_id: str | None
    offer_id: str | None
    positions: str
    weights: tuple[float, ...]


class Share(Struct, array_like=True):
    """An amount split over the touches of a win: `amounts` per touch, then per model, in minor units."""

    kind: str
    event_id: str
    effective_at: Micros
    amount: int
    amounts: list[tuple[int, ...]]


class Win(Struct, array_like=True):
    """A win as credited: its path, and what was split over it (the win, adjustments, its reversal)."""

    opportunity_id: str
    definition_no: int
    won_at: Micros
    currency: str
    known_at: Micros
    opened_at: Micros | None
    path: list[CreditedTouch]
    shares: list[Share]


class JourneyState(Struct, array_like=True):
    """Everything that the events of a journey so far come to.

    `last_key` is the place of the last event taken, faulted or not: an event that sorts after it continues
    this state. `definition_no` is the definition that the counters are those of (-1 = none yet).
    """

    journey_id: str
    last_key: Key | None = None
    erasure: Erasure | None = None
    definition_no: int = -1
    event_count: int = 0
    first_event_at: Micros = 0
    last_event_at: Micros = 0
    last_event_id: str = ""
    lead: Lead = field(default_factory=Lead)
    counters: Counters = field(default_factory=Counters)
    touches: Touches = field(default_factory=Touches)
    stages: Stages = field(default_factory=Stages)
    handoffs: Handoffs = field(default_factory=Handoffs)
    clocks: Clocks = field(default_factory=Clocks)
    deals: Deals = field(default_factory=Deals)
    wins: list[Win] = []
    faults: list[Faulted] = []


def reason_of(event: Envelope) -> str | None:
    """The event's reason code, if its record has one and it says something."""
    return getattr(event, "reason_code", None) or None
