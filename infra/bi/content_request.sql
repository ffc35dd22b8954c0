create or replace view bi.content_request as
with requested as (
  select distinct on (journey_id, request_id) *
  from promoted.content_event
  where not is_delivery
  order by journey_id, request_id, happened_at, event_id
),
delivered as (
  select distinct on (journey_id, request_id) *
  from promoted.content_event
  where is_delivery
  order by journey_id, request_id, happened_at, event_id
),
request as (
  select
    request_id,
    journey_id,
    coalesce(requested.topic, delivered.topic) as topic,
    coalesce(requested.asset_type, delivered.asset_type) as asset_type,
    requested.happened_at as requested_at,
    requested.event_id as requested_event_id,
    requested.actor_kind as requested_by_kind,
    requested.actor_id as requested_by,
    delivered.happened_at as delivered_at,
    delivered.event_id as delivered_event_id,
    coalesce(delivered.content_id, requested.content_id) as content_id,
    case when requested.happened_at is not null then greatest(
      extract(epoch from coalesce(delivered.happened_at, now()) - requested.happened_at) / 86400, 0
    )::double precision end as days_open,
    coalesce(requested.happened_at, delivered.happened_at) as began_at,
    coalesce(requested.definition_version, delivered.definition_version) as definition_version
  from requested
  full join delivered using (journey_id, request_id)
)
select
  request.request_id,
  request.journey_id,
  request.topic,
  request.asset_type,
  request.requested_at,
  request.requested_event_id,
  request.requested_by_kind,
  request.requested_by,
  request.delivered_at,
  request.delivered_event_id,
  request.content_id,
  request.days_open,
  visit.stage,
  visit.stage_role,
  request.definition_version
from request
left join promoted.stage_visit as visit
  on visit.journey_id = request.journey_id
  and not visit.is_inferred
  and visit.entered_at <= request.began_at
  and (visit.left_at > request.began_at or visit.left_at is null);

comment on view bi.content_request is
  'One row per request of sales for material on behalf of a lead: asked when, delivered when, and the stage that the lead was in. Of several requests or deliveries under one id the first counts.';
comment on column bi.content_request.request_id is 'The request.';
comment on column bi.content_request.journey_id is 'The person that it is for.';
comment on column bi.content_request.topic is 'What about.';
comment on column bi.content_request.asset_type is 'Kind of material; null = not said.';
comment on column bi.content_request.requested_at is 'Instant (UTC) of the request; null = delivered without a recorded request.';
comment on column bi.content_request.requested_event_id is 'The event of the request.';
comment on column bi.content_request.requested_by_kind is 'Who asked: human, system or import.';
comment on column bi.content_request.requested_by is 'Who asked, by name; null = not said.';
comment on column bi.content_request.delivered_at is 'Instant (UTC) of the delivery; null = open.';
comment on column bi.content_request.delivered_event_id is 'The event of the delivery; null = open.';
comment on column bi.content_request.content_id is 'What was delivered, or else asked for; null = not said.';
comment on column bi.content_request.days_open is
  'Days of 24 hours from request to delivery, while open up to now. Null = no recorded request.';
comment on column bi.content_request.stage is 'Name of the lead''s stage at the request (without one at the delivery).';
comment on column bi.content_request.stage_role is 'Fixed role of that stage.';
comment on column bi.content_request.definition_version is 'Definition(s) that the row is made with.';
