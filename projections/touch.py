"""Touches as BI reads them: one row per touch, on the channel that the definition in force at it says.

Promises: a row is a function of the touch and the rules alone. Leaves what touches come to (score, credit) to
the projections that fold.
"""

from projections.definition import NO_UTM
from projections.rules import Rules
from projections.table import Row, table
from schemas.records import TouchRecorded

TABLE = table("""
create table touch (
    journey_id text collate "C" not null,
    event_id text collate "C" not null,
    subject_id text collate "C" not null,
    touched_at timestamptz not null,
    recorded_at timestamptz not null,
    source_sequence bigint,
    touch_type text collate "C" not null,
    direction text collate "C" not null,
    channel text collate "C" not null,
    channel_sent text collate "C" not null,
    campaign_id text collate "C",
    offer_id text collate "C",
    content_id text collate "C",
    utm_source text collate "C",
    utm_medium text collate "C",
    utm_campaign text collate "C",
    utm_term text collate "C",
    utm_content text collate "C",
    source text collate "C" not null,
    actor_kind text collate "C" not null,
    actor_id text collate "C",
    definition_version text collate "C" not null,
    primary key (journey_id, event_id)
)
""")


def row(journey_id: str, event: TouchRecorded, rules: Rules) -> Row:
    utm = event.utm or NO_UTM
    return (
        journey_id,
        event.event_id,
        event.subject_id,
        event.occurred_at,
        event.recorded_at,
        event.source_sequence,
        event.touch_type,
        event.direction,
        rules.at(event.occurred_at).channel_of(event),
        event.channel,
        event.campaign_id,
        event.offer_id,
        event.content_id,
        utm.source,
        utm.medium,
        utm.campaign,
        utm.term,
        utm.content,
        event.source,
        event.actor.kind,
        event.actor.id,
        rules.label,
    )
