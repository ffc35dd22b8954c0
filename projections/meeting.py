"""Meetings as BI reads them: one row per meeting held with a lead.

Promises: a row is a function of the event and the rules alone; who took part and what was said, which are
personal, are no part of it. Leaves the lead's stage at that time to the view.
"""

from projections.rules import Rules
from projections.table import Row, table
from schemas.records import MeetingHeld

TABLE = table("""
create table meeting (
    journey_id text collate "C" not null,
    event_id text collate "C" not null,
    meeting_id text collate "C" not null,
    held_at timestamptz not null,
    kind text collate "C" not null,
    outcome text collate "C",
    has_summary boolean not null,
    source text collate "C" not null,
    actor_kind text collate "C" not null,
    actor_id text collate "C",
    definition_version text collate "C" not null,
    primary key (journey_id, event_id)
)
""")


def row(journey_id: str, event: MeetingHeld, rules: Rules) -> Row:
    return (
        journey_id,
        event.event_id,
        event.meeting_id,
        event.occurred_at,
        event.kind,
        event.outcome,
        bool(event.summary),
        event.source,
        event.actor.kind,
        event.actor.id,
        rules.label,
    )
