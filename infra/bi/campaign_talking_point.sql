create or replace view bi.campaign_talking_point as
select
  campaign.campaign_id,
  row_number() over (partition by campaign.campaign_id order by point.kind_no, point.place) as position,
  point.kind,
  point.body
from bi.campaign
join log.reference on reference.event_id = campaign.scheduled_event_id
cross join lateral (
  select 1 as kind_no, 'talking_point' as kind, place, body
  from jsonb_array_elements_text(reference.fact -> 'talking_points') with ordinality as said (body, place)
  union all
  select 2, 'data_point', place, body
  from jsonb_array_elements_text(reference.fact -> 'data_points') with ordinality as said (body, place)
) as point;

comment on view bi.campaign_talking_point is
  'One row per sentence that marketing gives sales for a campaign, of the plan in force. It depends on no definition.';
comment on column bi.campaign_talking_point.campaign_id is 'The campaign.';
comment on column bi.campaign_talking_point.position is 'Number within the campaign, from 1: talking points first, in the order given.';
comment on column bi.campaign_talking_point.kind is 'talking_point (something to say) or data_point (a fact that supports it).';
comment on column bi.campaign_talking_point.body is 'The sentence.';
