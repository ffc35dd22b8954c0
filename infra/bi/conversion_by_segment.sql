create or replace view bi.conversion_by_segment as
with span (days) as (
  values (7), (30), (90), (180), (365)
),
reached as (
  select
    journey_id,
    stage_role,
    reached_at,
    min(reached_at) over (partition by journey_id) as started_at
  from bi.stage_reached
),
cohort as (
  select
    segment.segment_kind,
    segment.segment,
    span.days,
    count(*) filter (where lead.started_at + span.days * interval '24 hours' <= now()) as leads,
    count(*) filter (where lead.started_at + span.days * interval '24 hours' > now()) as immature_leads,
    segment.definition_version
  from bi.lead_segment as segment
  join (select journey_id, min(started_at) as started_at from reached group by journey_id) as lead using (journey_id)
  cross join span
  group by segment.segment_kind, segment.segment, span.days, segment.definition_version
),
converted as (
  select
    segment.segment_kind,
    segment.segment,
    reached.stage_role,
    span.days,
    count(*) as leads,
    percentile_cont(0.5) within group (
      order by (extract(epoch from reached.reached_at - reached.started_at) / 86400)::double precision
    ) as median_days
  from bi.lead_segment as segment
  join reached using (journey_id)
  join span
    on reached.reached_at <= reached.started_at + span.days * interval '24 hours'
    and reached.started_at + span.days * interval '24 hours' <= now()
  group by segment.segment_kind, segment.segment, reached.stage_role, span.days
)
select
  cohort.segment_kind,
  cohort.segment,
  stage.role as to_role,
  cohort.days::bigint as within_days,
  cohort.leads,
  cohort.immature_leads,
  coalesce(converted.leads, 0) as converted,
  coalesce(converted.leads, 0)::double precision / nullif(cohort.leads, 0) as conversion,
  converted.median_days,
  cohort.definition_version
from cohort
join bi.stage on stage.position > 1
join bi.stage_role as role on role.role = stage.role and role.is_success
left join converted
  on converted.segment_kind = cohort.segment_kind
  and converted.segment is not distinct from cohort.segment
  and converted.stage_role = stage.role
  and converted.days = cohort.days;

comment on view bi.conversion_by_segment is
  'Which segments convert, and how fast: leads that got to a stage or beyond within so many days of their first event. Anchor: first event of the journey. Filter: leads whose days are over; younger ones are shown and not counted. Definition: definition_version. The leads behind it are in lead_segment and stage_reached.';
comment on column bi.conversion_by_segment.segment_kind is 'Kind of segment, as in lead_segment.';
comment on column bi.conversion_by_segment.segment is 'The segment; null = leads that are in none of this kind.';
comment on column bi.conversion_by_segment.to_role is 'Role of the stage to get to; whoever is beyond it has got to it.';
comment on column bi.conversion_by_segment.within_days is 'Days of 24 hours from the first event, inclusive: 7, 30, 90, 180 or 365.';
comment on column bi.conversion_by_segment.leads is 'Number of leads whose days are over.';
comment on column bi.conversion_by_segment.immature_leads is 'Number of leads whose days are not over.';
comment on column bi.conversion_by_segment.converted is 'Number of leads (those counted in leads) that got there in time.';
comment on column bi.conversion_by_segment.conversion is 'converted / leads, 0 to 1. Null = no lead''s days are over.';
comment on column bi.conversion_by_segment.median_days is 'Median days of 24 hours from the first event to getting there, of the converted ones only.';
comment on column bi.conversion_by_segment.definition_version is 'Definition(s) that the row is made with.';
