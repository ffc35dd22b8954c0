create or replace view bi.lead_segment as
with first_touch as (
  select distinct on (journey_id) journey_id, channel
  from bi.touch
  where direction = 'inbound'
  order by journey_id, touched_at, source_sequence nulls first, event_id
),
attribute as (
  select journey_id, name, value, definition_version
  from bi.lead_attribute
  where number_value is null
),
comparable as (
  select name
  from attribute
  group by name
  having count(distinct value) <= 50
)
select
  journey_id,
  'offer' as segment_kind,
  null as attribute_name,
  first_offer_id as segment,
  definition_version
from bi.lead_current
union all
select journey_id, 'campaign', null, first_campaign_id, definition_version
from bi.lead_current
union all
select lead.journey_id, 'channel', null, first_touch.channel, lead.definition_version
from bi.lead_current as lead
left join first_touch using (journey_id)
union all
select journey_id, 'attribute', name, value, definition_version
from attribute
join comparable using (name);

comment on view bi.lead_segment is
  'One row per journey and kind of segment: groups that leads may be compared by. Filter: of attributes those with at most 50 different values, numbers left out. Definition: definition_version.';
comment on column bi.lead_segment.journey_id is 'The person.';
comment on column bi.lead_segment.segment_kind is
  'offer, campaign: those of the first inbound touch with an offer. channel: that of the first inbound touch. attribute: the current value of attribute_name.';
comment on column bi.lead_segment.attribute_name is 'Which attribute; null for the other kinds.';
comment on column bi.lead_segment.segment is 'The segment that the lead is in; null = none.';
comment on column bi.lead_segment.definition_version is 'Definition(s) that the row is made with.';
