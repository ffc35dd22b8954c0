"""Every record of the event contract as a typed, immutable struct.

Promises: one struct per Avro record, fields in the order and with the names of the `.avsc` file beside it.
Instants are integers, microseconds since 1970-01-01T00:00:00Z, so that they compare and sort exactly; dates
are integers, days since 1970-01-01. Money is an integer of minor units. The limits written here hold wherever
a record comes from: what breaks them cannot be kept in Postgres or in a Python datetime. Leaves all other
validation to `schemas.contract` and bytes to `schemas.wire`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

MIN_INSTANT, MAX_INSTANT = -62_135_596_800_000_000, 253_402_300_799_999_999
MIN_DAY, MAX_DAY = -719_162, 2_932_896
"""The years 1 to 9999, which Python and Postgres both hold."""
ID_CHARACTERS = 160
"""Longest id: four of them, at 4 bytes a character, fit into one key of a Postgres index (2,704 bytes)."""
CURRENCY_CHARACTERS = 16
"""Longest currency code kept; ISO 4217 has three, other units of account a few more."""

Micros = Annotated[
    int,
    Meta(
        ge=MIN_INSTANT,
        le=MAX_INSTANT,
        extra={"json": "instant"},
        extra_json_schema={"type": "string", "format": "date-time"},
    ),
]
"""An instant: microseconds since 1970-01-01T00:00:00Z."""
Days = Annotated[
    int,
    Meta(
        ge=MIN_DAY, le=MAX_DAY, extra={"json": "date"}, extra_json_schema={"type": "string", "format": "date"}
    ),
]
"""A date: days since 1970-01-01."""
Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An Avro long."""
Id = Annotated[str, Meta(min_length=1, max_length=ID_CHARACTERS)]
"""A name that other events or rows refer to."""
Currency = Annotated[str, Meta(max_length=CURRENCY_CHARACTERS)]
"""An ISO 4217 code; the list is checked by `schemas.contract`, not on the topics."""

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


class Actor(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who did it."""

    # A factory, since msgspec leaves out a plain default by identity: equal actors must give equal bytes.
    kind: ActorKind = field(default_factory=lambda: "system")
    id: str | None = None


SYSTEM = Actor()


class Utm(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Campaign parameters of a link, as sent."""

    source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    term: str | None = None
    content: str | None = None


class Envelope(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="record",
    tag=True,
):
    """The first fields of every record."""

    event_id: Id
    subject_id: Id
    occurred_at: Micros
    recorded_at: Micros
    source: str
    source_sequence: Long | None = None
    actor: Actor = field(default_factory=lambda: SYSTEM)


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
    opportunity_id: Id
    account_id: str | None = None
    amount_minor: Long | None = None
    currency: Currency | None = None
    name: str | None = None


class OpportunityChanged(Envelope, frozen=True, kw_only=True):
    opportunity_id: Id
    amount_minor: Long | None = None
    currency: Currency | None = None
    sales_stage: str | None = None
    expected_close_on: Days | None = None


class OpportunityWon(Envelope, frozen=True, kw_only=True):
    opportunity_id: Id
    amount_minor: Long
    currency: Currency


class OpportunityLost(Envelope, frozen=True, kw_only=True):
    opportunity_id: Id
    reason_code: str
    competitor: str | None = None


class OpportunityReopened(Envelope, frozen=True, kw_only=True):
    opportunity_id: Id
    reason_code: str


class RevenueAdjusted(Envelope, frozen=True, kw_only=True):
    opportunity_id: Id
    delta_minor: Long
    currency: Currency
    effective_at: Micros
    reason_code: str


class CustomerRenewed(Envelope, frozen=True, kw_only=True):
    opportunity_id: Id | None = None
    amount_minor: Long | None = None
    currency: Currency | None = None
    reason_code: str | None = None


class CustomerChurned(Envelope, frozen=True, kw_only=True):
    opportunity_id: Id | None = None
    amount_minor: Long | None = None
    currency: Currency | None = None
    reason_code: str | None = None


class EventRetracted(Envelope, frozen=True, kw_only=True):
    target_event_id: Id
    reason_code: str


class SubjectsLinked(Envelope, frozen=True, kw_only=True):
    other_subject_id: Id
    evidence: Evidence


class SubjectsUnlinked(Envelope, frozen=True, kw_only=True):
    link_event_id: Id
    reason_code: str


class SubjectErased(Envelope, frozen=True, kw_only=True):
    request_id: str


class CampaignScheduled(Envelope, frozen=True, kw_only=True):
    campaign_id: Id
    name: str
    channel: str
    offer_id: str | None = None
    starts_at: Micros
    ends_at: Micros | None = None
    talking_points: list[str] = []
    data_points: list[str] = []
    cost_minor: Long | None = None
    currency: Currency | None = None


class DefinitionProposed(Envelope, frozen=True, kw_only=True):
    definition_id: Id
    version: Long
    body: str
    rationale: str


class DefinitionApproved(Envelope, frozen=True, kw_only=True):
    definition_id: Id
    version: Long
    team: Team


class DefinitionActivated(Envelope, frozen=True, kw_only=True):
    definition_id: Id
    version: Long
    valid_from: Micros | None = None


class CalendarChanged(Envelope, frozen=True, kw_only=True):
    calendar_id: Id
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

RECORDS: dict[str, type[Record]] = {
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
    """The contract's order of a journey's events: occurred_at, source_sequence (null first), id by bytes."""
    sequence = event.source_sequence
    return (event.occurred_at, sequence is not None, sequence or 0, event.event_id.encode())
