create or replace view bi.funnel_conversion as
with span (days) as (
  values (7), (30), (90), (180), (365)
),
reached as (
  select
    reached.journey_id,
    role.position,
    reached.reached_at,
    date_trunc('month', reached.reached_at at time zone calendar.zone)::date as month
  from bi.stage_reached as reached
  join bi.stage_role as role on role.role = reached.stage_role
  join bi.calendar on calendar.is_default
),
cohort as (
  select month, position, count(*) as entered
  from reached
  group by month, position
),
step as (
  select entry.month, entry.position, later.position as to_position, later.reached_at - entry.reached_at as took
  from reached as entry
  join reached as later on later.journey_id = entry.journey_id and later.position > entry.position
),
converted as (
  select month, position, to_position, days, count(*) filter (where took <= days * interval '24 hours') as converted
  from step
  cross join span
  group by month, position, to_position, days
)
select
  cohort.month as cohort_month,
  from_role.role as from_role,
  to_stage.role as to_role,
  span.days::bigint as within_days,
  cohort.entered,
  coalesce(converted.converted, 0) as converted,
  case when matures_at <= now() then coalesce(converted.converted, 0)::double precision / cohort.entered end
    as conversion,
  matures_at <= now() as is_mature,
  to_stage.definition_version
from cohort
join bi.calendar on calendar.is_default
join bi.stage_role as from_role on from_role.position = cohort.position
join bi.stage_role as to_role on to_role.is_success and to_role.position > from_role.position
join bi.stage as to_stage on to_stage.role = to_role.role
cross join span
cross join lateral (
  select (cohort.month + interval '1 month') at time zone calendar.zone + span.days * interval '24 hours' as matures_at
) as cohort_end
left join converted
  on converted.month = cohort.month and converted.position = cohort.position
  and converted.to_position = to_role.position and converted.days = span.days;

comment on view bi.funnel_conversion is
  'Conversion from one stage to another or beyond within so many days, by the month in which leads first got to the first stage. Anchor: first entry into from_role or beyond. Filter: none, all journeys. Definition: definition_version. The journeys behind it are in stage_reached.';
comment on column bi.funnel_conversion.cohort_month is
  'First date of the month in which the leads first got to from_role, in the zone of the definition''s calendar.';
comment on column bi.funnel_conversion.from_role is 'Role of the stage where counting begins. Skipped stages count as entered.';
comment on column bi.funnel_conversion.to_role is 'Role of the stage to get to; whoever is beyond it has got to it.';
comment on column bi.funnel_conversion.within_days is 'Days of 24 hours from first entry, inclusive: 7, 30, 90, 180 or 365.';
comment on column bi.funnel_conversion.entered is 'Number of leads of the cohort.';
comment on column bi.funnel_conversion.converted is 'Number of them that got to to_role in time, as far as is known today.';
comment on column bi.funnel_conversion.conversion is 'converted / entered, 0 to 1. Null = the cohort is immature.';
comment on column bi.funnel_conversion.is_mature is
  'True = even the last lead of the month has had all the days. Immature cohorts still rise: never compare them.';
comment on column bi.funnel_conversion.definition_version is 'Definition(s) that the promoted version is made with.';
