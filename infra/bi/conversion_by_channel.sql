create or replace view bi.conversion_by_channel as
select
  segment as channel,
  to_role,
  within_days,
  leads,
  immature_leads,
  converted,
  conversion,
  median_days,
  definition_version
from bi.conversion_by_segment
where segment_kind = 'channel';

comment on view bi.conversion_by_channel is
  'Which channels bring leads that convert, and how fast: leads that got to a stage or beyond within so many days of their first event. Anchor: first event of the journey. Filter: leads whose days are over; younger ones are shown and not counted. Definition: definition_version.';
comment on column bi.conversion_by_channel.channel is 'Channel of the first inbound touch, after the channel rules; null = no inbound touch.';
comment on column bi.conversion_by_channel.to_role is 'Role of the stage to get to; whoever is beyond it has got to it.';
comment on column bi.conversion_by_channel.within_days is 'Days of 24 hours from the first event, inclusive: 7, 30, 90, 180 or 365.';
comment on column bi.conversion_by_channel.leads is 'Number of leads whose days are over.';
comment on column bi.conversion_by_channel.immature_leads is 'Number of leads whose days are not over.';
comment on column bi.conversion_by_channel.converted is 'Number of leads (those counted in leads) that got there in time.';
comment on column bi.conversion_by_channel.conversion is 'converted / leads, 0 to 1. Null = no lead''s days are over.';
comment on column bi.conversion_by_channel.median_days is 'Median days of 24 hours from the first event to getting there, of the converted ones only.';
comment on column bi.conversion_by_channel.definition_version is 'Definition(s) that the promoted version is made with.';
