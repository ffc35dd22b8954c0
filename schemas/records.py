"""Every record of the event contract as a typed, immutable struct.

Promises: one struct per Avro record, fields in the order and with the names of the `.avsc` file beside it.
Instants are integers, microseconds since 1970-01-01T00:00:00Z, so that they compare and sort exactly; dates are
integers, days since 1970-01-01. Money is an integer of minor units. Leaves validation to `schemas.contract`
and bytes to `schemas.wire`.
"""

from typing import Literal

from msgspec import Struct

Micros = int
"""An instant: microseconds since 1970-01-01T00:00:00Z."""
Days = int
"""A date: days since 1970-01-01."""

ActorKind = Literal["human", "system", "import"]
Direction = Literal["inbound", "outbound"]
TouchType = Literal[
    "page_view",
    "form_submitted",
    "email_opened",
    "email_clicked",
    "ad_clicked",
    "content_downloaded",
    "event_registered",
    "event_attended",
    "chat",
    "call",
    "email",
    "meeting",
    "referral",
    "other",
]
ExposureType = Literal["sent", "delivered", "impression"]
ReturnTo = Literal["recycled", "nurture", "disqualified"]
Evidence = Literal["identified", "merged_in_crm", "same_email", "manual", "import"]
Team = Literal["marketing", "sales"]


class Actor(Struct, frozen=True, omit_defaults=True):
    """Who did it."""

    kind: ActorKind = "system"
    id: str | None = None


SYSTEM = Actor()


class Utm(Struct, frozen=True, omit_defaults=True):
    """Campaign parameters of a link, as sent."""

    source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    term: str | None = None
    content: str | None = None


class Envelope(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record", tag=True):
    """The first fields of every record."""

    event_id: str
    subject_id: str
    occurred_at: Micros
    recorded_at: Micros
    source: str
    source_sequence: int | None = None
    actor: Actor = SYSTEM


class TouchRecorded(Envelope, frozen=True, kw_only=True):
    touch_type: TouchType
    direction: Direction
    channel: str
    campaign_id: str | None = None
    offer_id: str | None = None
    content_id: str | None = None
    utm: Utm | None = None
    url: str | None = None
    properties: dict[str, str] = {}


class CampaignExposed(Envelope, frozen=True, kw_only=True):
    campaign_id: str
    exposure_type: ExposureType
    channel: str
    offer_id: str | None = None


class AttributeChanged(Envelope, frozen=True, kw_only=True):
    name: str
    value: str | float | bool | None


class StageChanged(Envelope, frozen=True, kw_only=True):
    to_stage: str
    from_stage: str | None = None
    reason_code: str | None = None
    note: str | None = None


class LeadAssigned(Envelope, frozen=True, kw_only=True):
    owner_id: str
    team_id: str | None = None


class HandoffAccepted(Envelope, frozen=True, kw_only=True):
    note: str | None = None


class HandoffRejected(Envelope, frozen=True, kw_only=True):
    reason_code: str
    return_to: ReturnTo
    recycle_until: Micros | None = None
    note: str | None = None


class ClockPaused(Envelope, frozen=True, kw_only=True):
    policy_id: str | None = None
    reason_code: str


class ClockResumed(Envelope, frozen=True, kw_only=True):
    policy_id: str | None = None
    reason_code: str


class MeetingHeld(Envelope, frozen=True, kw_only=True):
    meeting_id: str
    kind: str
    outcome: str | None = None
    summary: str | None = None
    attendees: list[str] = []


class ContentRequested(Envelope, frozen=True, kw_only=True):
    request_id: str
    topic: str
    asset_type: str | None = None
    content_id: str | None = None
    note: str | None = None


class ContentDelivered(Envelope, frozen=True, kw_only=True):
    request_id: str
    topic: str
    asset_type: str | None = None
    content_id: str | None = None
    note: str | None = None


class OpportunityOpened(Envelope, frozen=True, kw_only=True):
    opportunity_id: str
    account_id: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    name: str | None = None


class OpportunityChanged(Envelope, frozen=True, kw_only=True):
    opportunity_id: str
    amount_minor: int | None = None
    currency: str | None = None
    sales_stage: str | None = None
    expected_close_on: Days | None = None


class OpportunityWon(Envelope, frozen=True, kw_only=True):
    opportunity_id: str
    amount_minor: int
    currency: str


class OpportunityLost(Envelope, frozen=True, kw_only=True):
    opportunity_id: str
    reason_code: str
    competitor: str | None = None


class OpportunityReopened(Envelope, frozen=True, kw_only=True):
    opportunity_id: str
    reason_code: str


class RevenueAdjusted(Envelope, frozen=True, kw_only=True):
    opportunity_id: str
    delta_minor: int
    currency: str
    effective_at: Micros
    reason_code: str


class CustomerRenewed(Envelope, frozen=True, kw_only=True):
    opportunity_id: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    reason_code: str | None = None


class CustomerChurned(Envelope, frozen=True, kw_only=True):
    opportunity_id: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    reason_code: str | None = None


class EventRetracted(Envelope, frozen=True, kw_only=True):
    target_event_id: str
    reason_code: str


class SubjectsLinked(Envelope, frozen=True, kw_only=True):
    other_subject_id: str
    evidence: Evidence


class SubjectsUnlinked(Envelope, frozen=True, kw_only=True):
    link_event_id: str
    reason_code: str


class SubjectErased(Envelope, frozen=True, kw_only=True):
    request_id: str


class CampaignScheduled(Envelope, frozen=True, kw_only=True):
    campaign_id: str
    name: str
    channel: str
    offer_id: str | None = None
    starts_at: Micros
    ends_at: Micros | None = None
    talking_points: list[str] = []
    data_points: list[str] = []
    cost_minor: int | None = None
    currency: str | None = None


class DefinitionProposed(Envelope, frozen=True, kw_only=True):
    definition_id: str
    version: int
    body: str
    rationale: str


class DefinitionApproved(Envelope, frozen=True, kw_only=True):
    definition_id: str
    version: int
    team: Team


class DefinitionActivated(Envelope, frozen=True, kw_only=True):
    definition_id: str
    version: int
    valid_from: Micros | None = None


class CalendarChanged(Envelope, frozen=True, kw_only=True):
    calendar_id: str
    zone: str
    weekly: dict[str, list[list[str]]]
    holidays: list[str] = []


LeadEvent = (
    TouchRecorded
    | CampaignExposed
    | AttributeChanged
    | StageChanged
    | LeadAssigned
    | HandoffAccepted
    | HandoffRejected
    | ClockPaused
    | ClockResumed
    | MeetingHeld
    | ContentRequested
    | ContentDelivered
    | OpportunityOpened
    | OpportunityChanged
    | OpportunityWon
    | OpportunityLost
    | OpportunityReopened
    | RevenueAdjusted
    | CustomerRenewed
    | CustomerChurned
    | EventRetracted
)
IdentityEvent = SubjectsLinked | SubjectsUnlinked | SubjectErased
ReferenceFact = (
    CampaignScheduled | DefinitionProposed | DefinitionApproved | DefinitionActivated | CalendarChanged
)
Record = LeadEvent | IdentityEvent | ReferenceFact

RECORDS: dict[str, type[Envelope]] = {
    record.__name__: record
    for union in (LeadEvent, IdentityEvent, ReferenceFact)
    for record in union.__args__
}
"""Record name to struct, in the order of the contract."""

TOPIC_OF: dict[str, str] = {
    record.__name__: topic
    for topic, union in (
        ("lead.events", LeadEvent),
        ("lead.identity", IdentityEvent),
        ("lead.reference", ReferenceFact),
    )
    for record in union.__args__
}
"""Record name to the one topic it belongs on."""


def order_key(event: Envelope) -> tuple[Micros, bool, int, bytes]:
    """The contract's order of a journey's events: occurred_at, source_sequence with null first, id by bytes."""
    sequence = event.source_sequence
    return (event.occurred_at, sequence is not None, sequence or 0, event.event_id.encode())
