create or replace view bi.lead_campaign as
with contact as (
  select journey_id, campaign_id, touched_at as seen_at, direction, definition_version
  from bi.touch
  where campaign_id is not null
  union all
  select journey_id, campaign_id, exposed_at, 'exposure', definition_version
  from bi.campaign_exposure
)
select
  contact.journey_id,
  contact.campaign_id,
  min(campaign.name) as name,
  min(contact.seen_at) as first_seen_at,
  max(contact.seen_at) as last_seen_at,
  count(*) filter (where contact.direction = 'exposure') as exposures,
  count(*) filter (where contact.direction = 'inbound') as inbound_touches,
  count(*) filter (where contact.direction = 'outbound') as outbound_touches,
  coalesce(bool_or(contact.campaign_id = lead.first_campaign_id), false) as is_first,
  coalesce(bool_or(contact.campaign_id = lead.last_campaign_before_mql_id), false) as is_last_before_mql,
  max(contact.definition_version) as definition_version
from contact
left join bi.lead_current as lead using (journey_id)
left join bi.campaign using (campaign_id)
group by contact.journey_id, contact.campaign_id;

comment on view bi.lead_campaign is
  'One row per lead and campaign that it met: what sales may speak about with it. Join campaign_talking_point on campaign_id for the words, campaign for the dates.';
comment on column bi.lead_campaign.journey_id is 'The person.';
comment on column bi.lead_campaign.campaign_id is 'The campaign.';
comment on column bi.lead_campaign.name is 'What people call it; null = it is not in the campaign calendar.';
comment on column bi.lead_campaign.first_seen_at is 'Instant (UTC) of the first touch or exposure of the campaign.';
comment on column bi.lead_campaign.last_seen_at is 'Instant (UTC) of the last one.';
comment on column bi.lead_campaign.exposures is 'Number of times it was sent or shown to the lead.';
comment on column bi.lead_campaign.inbound_touches is 'Number of touches by which the lead answered it.';
comment on column bi.lead_campaign.outbound_touches is 'Number of touches by which we used it towards the lead.';
comment on column bi.lead_campaign.is_first is 'True = it pulled the lead in: lead_current.first_campaign_id.';
comment on column bi.lead_campaign.is_last_before_mql is 'True = it came last before the latest MQL entry: lead_current.last_campaign_before_mql_id.';
comment on column bi.lead_campaign.definition_version is 'Definition(s) that the rows behind it are made with.';
