"""Material that sales asks marketing for: one row per request and per delivery.

Promises: a row is a function of the event and the rules alone; notes, which are personal, are no part of it.
Leaves bringing a request and its delivery together to the view.
"""

from projections.rules import Rules
from projections.table import Row, table
from schemas.records import ContentDelivered, ContentRequested

TABLE = table("""
create table content_event (
    journey_id text collate "C" not null,
    event_id text collate "C" not null,
    request_id text collate "C" not null,
    is_delivery boolean not null,
    happened_at timestamptz not null,
    topic text collate "C" not null,
    asset_type text collate "C",
    content_id text collate "C",
    actor_kind text collate "C" not null,
    actor_id text collate "C",
    definition_version text collate "C" not null,
    primary key (journey_id, event_id)
)
""")


def row(journey_id: str, event: ContentRequested | ContentDelivered, rules: Rules) -> Row:
    return (
        journey_id,
        event.event_id,
        event.request_id,
        isinstance(event, ContentDelivered),
        event.occurred_at,
        event.topic,
        event.asset_type,
        event.content_id,
        event.actor.kind,
        event.actor.id,
        rules.label,
    )
