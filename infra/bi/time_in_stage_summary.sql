create or replace view bi.time_in_stage_summary as
select
  visit.stage_role,
  stage.name as stage,
  count(*) filter (where not visit.is_open) as closed_visits,
  count(*) filter (where visit.is_open) as open_visits,
  percentile_cont(0.5) within group (order by visit.calendar_seconds) filter (where not visit.is_open)
    as closed_median_seconds,
  ops.kaplan_meier_median(array_agg(visit.calendar_seconds), array_agg(visit.is_open)) as median_seconds,
  percentile_cont(0.5) within group (order by visit.business_seconds) filter (where not visit.is_open)
    as closed_median_business_seconds,
  ops.kaplan_meier_median(array_agg(visit.business_seconds), array_agg(visit.is_open)) as median_business_seconds,
  count(*) < 20 as is_small,
  (select label collate "C" from promoted.version) as definition_version
from bi.stage_visit as visit
left join bi.stage on stage.role = visit.stage_role
where not visit.is_inferred
group by visit.stage_role, stage.name;

comment on view bi.time_in_stage_summary is
  'How long leads stay in each stage. Anchor: all visits whenever entered; open ones are measured up to now. Filter: visits that are not inferred. Definition: definition_version. Two medians: closed_ ones leave out visits that still last and so are too short while many do; the others (Kaplan-Meier) count them as lasting at least as long as they have so far. The visits behind it are in stage_visit.';
comment on column bi.time_in_stage_summary.stage_role is 'Fixed role of the stage.';
comment on column bi.time_in_stage_summary.stage is 'Name of the stage by the definition in force now; null = it has none of this role.';
comment on column bi.time_in_stage_summary.closed_visits is 'Number of visits that are over.';
comment on column bi.time_in_stage_summary.open_visits is 'Number of visits that last now.';
comment on column bi.time_in_stage_summary.closed_median_seconds is 'Median seconds around the clock of the visits that are over.';
comment on column bi.time_in_stage_summary.median_seconds is
  'Kaplan-Meier median in seconds around the clock, open visits censored at now. Null = fewer than half can be said to have ended.';
comment on column bi.time_in_stage_summary.closed_median_business_seconds is
  'Median seconds inside the opening hours of the definition''s calendar of the visits that are over.';
comment on column bi.time_in_stage_summary.median_business_seconds is
  'Kaplan-Meier median in seconds inside opening hours, open visits censored at now. Null = fewer than half can be said to have ended.';
comment on column bi.time_in_stage_summary.is_small is 'True = fewer than 20 visits: the medians say little.';
comment on column bi.time_in_stage_summary.definition_version is 'Definition(s) that the promoted version is made with.';
