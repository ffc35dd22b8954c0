"""The history of one journey: its events in order, and what was found wrong with copies of them.

Promises: personal values of an erased subject are gone from every event. Leaves which events there are to
`identity`, what they come to to `journey`.
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
    order_key,
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


def history(
    journey_id: str,
    events: Collection[Envelope],
    faults: Collection[FaultFact],
    erased: Collection[SubjectErased],
    personal: Collection[str] = (),
) -> History:
    """Orders and redacts. `personal` are the attribute names that the definitions call personal."""
    subjects = {erasure.subject_id for erasure in erased}
    shown = [redact(event, personal) if event.subject_id in subjects else event for event in events]
    found = sorted(faults, key=lambda each: (each.event.event_id, each.copy_no))
    return History(journey_id, sorted(shown, key=order_key), found, list(erased))


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
