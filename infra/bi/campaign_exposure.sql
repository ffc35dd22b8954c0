create or replace view bi.campaign_exposure as
select
  event_id,
  journey_id,
  exposed_at,
  exposure_type,
  campaign_id,
  channel,
  offer_id,
  definition_version
from promoted.campaign_exposure;

comment on view bi.campaign_exposure is
  'One row per time that a campaign was sent or shown to a lead. Seen, not acted on: no touch unless the definition says so.';
comment on column bi.campaign_exposure.event_id is 'The event.';
comment on column bi.campaign_exposure.journey_id is 'The person.';
comment on column bi.campaign_exposure.exposed_at is 'Instant (UTC) of the exposure.';
comment on column bi.campaign_exposure.exposure_type is 'sent, delivered or impression.';
comment on column bi.campaign_exposure.campaign_id is 'The campaign.';
comment on column bi.campaign_exposure.channel is 'Channel after the channel rules of the definition in force at the exposure.';
comment on column bi.campaign_exposure.offer_id is 'Offer; null = none.';
comment on column bi.campaign_exposure.definition_version is 'Definition(s) that the row is made with.';
