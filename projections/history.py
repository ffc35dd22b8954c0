"""The history of one journey: its events in order, and what was found wrong with copies of them.

Leaves which events there are, and whose personal values are gone, to `identity`; what they come to to
`journey`.
"""

from collections.abc import Collection
from typing import NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from projections.fault import Fault
from schemas.records import (
    Actor,
    AttributeChanged,
    Envelope,
    MeetingHeld,
    SubjectErased,
    TouchRecorded,
)

ERASED_TEXT = "[erased]"
"""Stands where a personal text stood, so that a text that was given still counts as given."""
FREE_TEXTS = ("note", "summary", "url")
"""Fields of any record in which people are named."""

AnyRecord = TypeVar("AnyRecord", bound=Envelope)


class FaultFact(NamedTuple):
    """A copy of an event whose fault needs other events to see. `copy_no` 1 is the copy that counts."""

    event: Envelope
    copy_no: int
    fault: Fault


class History(Struct, frozen=True):
    """`events` in the contract's order, those that are faulty by themselves too; `erased` the erasures that
    count."""

    journey_id: str
    events: list[Envelope]
    faults: list[FaultFact] = []
    erased: list[SubjectErased] = []


def redact(event: AnyRecord, personal: Collection[str]) -> AnyRecord:
    """The event without personal values of its subject."""
    changes: dict[str, object] = {name: ERASED_TEXT for name in FREE_TEXTS if getattr(event, name, None)}
    if event.actor.id == event.subject_id:
        changes["actor"] = Actor(event.actor.kind)
    if isinstance(event, MeetingHeld):
        changes["attendees"] = []
    elif isinstance(event, TouchRecorded):
        changes["properties"] = {}
    elif isinstance(event, AttributeChanged) and event.name in personal:
        changes["value"] = None
    return replace(event, **changes) if changes else event
