"""Campaign exposures as BI reads them: what a lead was shown or sent, one row each.

Promises: a row is a function of the exposure and the rules alone. Leaves credit for exposures to `credit`.
"""

from projections.rules import Rules
from projections.table import Row, table
from schemas.records import CampaignExposed

TABLE = table("""
create table campaign_exposure (
    journey_id text collate "C" not null,
    event_id text collate "C" not null,
    exposed_at timestamptz not null,
    exposure_type text collate "C" not null,
    campaign_id text collate "C" not null,
    channel text collate "C" not null,
    offer_id text collate "C",
    definition_version text collate "C" not null,
    primary key (journey_id, event_id)
)
""")


def row(journey_id: str, event: CampaignExposed, rules: Rules) -> Row:
    return (
        journey_id,
        event.event_id,
        event.occurred_at,
        event.exposure_type,
        event.campaign_id,
        rules.at(event.occurred_at).channel_of(event),
        event.offer_id,
        rules.label,
    )
