create or replace view bi.conversion_by_segment as
with lead as materialized (
  select
    journey_id,
    (extract(epoch from now() - anonymous_at) / 86400)::double precision as age,
    (extract(epoch from known_at - anonymous_at) / 86400)::double precision as known,
    (extract(epoch from engaged_at - anonymous_at) / 86400)::double precision as engaged,
    (extract(epoch from mql_at - anonymous_at) / 86400)::double precision as mql,
    (extract(epoch from sal_at - anonymous_at) / 86400)::double precision as sal,
    (extract(epoch from sql_at - anonymous_at) / 86400)::double precision as sql,
    (extract(epoch from opportunity_at - anonymous_at) / 86400)::double precision as opportunity,
    (extract(epoch from won_at - anonymous_at) / 86400)::double precision as won
  from bi.lead_progress
),
counted as (
  select
    segment.segment_kind,
    segment.attribute_name,
    segment.segment,
    span.days,
    count(*) filter (where age >= days) as leads,
    count(*) filter (where age < days) as immature_leads,
    count(*) filter (where age >= days and known <= days) as known,
    count(*) filter (where age >= days and engaged <= days) as engaged,
    count(*) filter (where age >= days and mql <= days) as mql,
    count(*) filter (where age >= days and sal <= days) as sal,
    count(*) filter (where age >= days and sql <= days) as sql,
    count(*) filter (where age >= days and opportunity <= days) as opportunity,
    count(*) filter (where age >= days and won <= days) as won,
    percentile_cont(0.5) within group (order by known) filter (where age >= days and known <= days) as known_days,
    percentile_cont(0.5) within group (order by engaged) filter (where age >= days and engaged <= days) as engaged_days,
    percentile_cont(0.5) within group (order by mql) filter (where age >= days and mql <= days) as mql_days,
    percentile_cont(0.5) within group (order by sal) filter (where age >= days and sal <= days) as sal_days,
    percentile_cont(0.5) within group (order by sql) filter (where age >= days and sql <= days) as sql_days,
    percentile_cont(0.5) within group (order by opportunity) filter (where age >= days and opportunity <= days) as opportunity_days,
    percentile_cont(0.5) within group (order by won) filter (where age >= days and won <= days) as won_days
  from bi.lead_segment as segment
  join lead using (journey_id)
  cross join (values (7), (30), (90), (180), (365)) as span (days)
  group by segment.segment_kind, segment.attribute_name, segment.segment, span.days
)
select
  counted.segment_kind,
  counted.attribute_name,
  counted.segment,
  stage.role as to_role,
  counted.days::bigint as within_days,
  counted.leads,
  counted.immature_leads,
  reached.leads as converted,
  reached.leads::double precision / nullif(counted.leads, 0) as conversion,
  reached.median_days,
  (select label collate "C" from promoted.version) as definition_version
from counted
cross join lateral (
  values
    ('known', known, known_days), ('engaged', engaged, engaged_days), ('mql', mql, mql_days),
    ('sal', sal, sal_days), ('sql', sql, sql_days), ('opportunity', opportunity, opportunity_days),
    ('won', won, won_days)
) as reached (role, leads, median_days)
join bi.stage on stage.role = reached.role and stage.position > 1;

comment on view bi.conversion_by_segment is
  'Which segments convert, and how fast: leads that got to a stage or beyond within so many days of their first event. Anchor: first event of the journey. Filter: leads whose days are over; younger ones are shown and not counted. Definition: definition_version. The leads behind it are in lead_segment and lead_progress.';
comment on column bi.conversion_by_segment.segment_kind is 'Kind of segment, as in lead_segment.';
comment on column bi.conversion_by_segment.attribute_name is 'Which attribute; null for the other kinds.';
comment on column bi.conversion_by_segment.segment is 'The segment; null = leads that are in none of this kind.';
comment on column bi.conversion_by_segment.to_role is 'Role of the stage to get to; whoever is beyond it has got to it.';
comment on column bi.conversion_by_segment.within_days is 'Days of 24 hours from the first event, inclusive: 7, 30, 90, 180 or 365.';
comment on column bi.conversion_by_segment.leads is 'Number of leads whose days are over.';
comment on column bi.conversion_by_segment.immature_leads is 'Number of leads whose days are not over.';
comment on column bi.conversion_by_segment.converted is 'Number of leads (those counted in leads) that got there in time.';
comment on column bi.conversion_by_segment.conversion is 'converted / leads, 0 to 1. Null = no lead''s days are over.';
comment on column bi.conversion_by_segment.median_days is 'Median days of 24 hours from the first event to getting there, of the converted ones only.';
comment on column bi.conversion_by_segment.definition_version is 'Definition(s) that the promoted version is made with.';
