create or replace view bi.conversion_by_campaign as
select
  segment as campaign_id,
  to_role,
  within_days,
  leads,
  immature_leads,
  converted,
  conversion,
  median_days,
  definition_version
from bi.conversion_by_segment
where segment_kind = 'campaign';

comment on view bi.conversion_by_campaign is
  'Which campaigns bring leads that convert, and how fast: leads that got to a stage or beyond within so many days of their first event. Anchor: first event of the journey. Filter: leads whose days are over; younger ones are shown and not counted. Definition: definition_version.';
comment on column bi.conversion_by_campaign.campaign_id is 'Campaign that pulled the leads in: campaign of the first inbound touch with an offer; null = none.';
comment on column bi.conversion_by_campaign.to_role is 'Role of the stage to get to; whoever is beyond it has got to it.';
comment on column bi.conversion_by_campaign.within_days is 'Days of 24 hours from the first event, inclusive: 7, 30, 90, 180 or 365.';
comment on column bi.conversion_by_campaign.leads is 'Number of leads whose days are over.';
comment on column bi.conversion_by_campaign.immature_leads is 'Number of leads whose days are not over.';
comment on column bi.conversion_by_campaign.converted is 'Number of leads (those counted in leads) that got there in time.';
comment on column bi.conversion_by_campaign.conversion is 'converted / leads, 0 to 1. Null = no lead''s days are over.';
comment on column bi.conversion_by_campaign.median_days is 'Median days of 24 hours from the first event to getting there, of the converted ones only.';
comment on column bi.conversion_by_campaign.definition_version is 'Definition(s) that the promoted version is made with.';
