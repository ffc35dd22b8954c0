create or replace view bi.conversion_by_offer as
select
  segment as offer_id,
  to_role,
  within_days,
  leads,
  immature_leads,
  converted,
  conversion,
  median_days,
  definition_version
from bi.conversion_by_segment
where segment_kind = 'offer';

comment on view bi.conversion_by_offer is
  'Which offers bring leads that convert, and how fast: leads that got to a stage or beyond within so many days of their first event. Anchor: first event of the journey. Filter: leads whose days are over; younger ones are shown and not counted. Definition: definition_version.';
comment on column bi.conversion_by_offer.offer_id is 'Offer that pulled the leads in: offer_id of the first inbound touch that had one; null = none.';
comment on column bi.conversion_by_offer.to_role is 'Role of the stage to get to; whoever is beyond it has got to it.';
comment on column bi.conversion_by_offer.within_days is 'Days of 24 hours from the first event, inclusive: 7, 30, 90, 180 or 365.';
comment on column bi.conversion_by_offer.leads is 'Number of leads whose days are over.';
comment on column bi.conversion_by_offer.immature_leads is 'Number of leads whose days are not over.';
comment on column bi.conversion_by_offer.converted is 'Number of leads (those counted in leads) that got there in time.';
comment on column bi.conversion_by_offer.conversion is 'converted / leads, 0 to 1. Null = no lead''s days are over.';
comment on column bi.conversion_by_offer.median_days is 'Median days of 24 hours from the first event to getting there, of the converted ones only.';
comment on column bi.conversion_by_offer.definition_version is 'Definition(s) that the promoted version is made with.';
