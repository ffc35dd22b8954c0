create or replace view bi.definition_drift as
with decision as (
  select
    journey_id,
    ended_at as decided_at,
    outcome = 'rejected' as is_mql_here_only,
    false as is_mql_there_only
  from bi.handoff
  where outcome in ('accepted', 'rejected')
  union all
  select visit.journey_id, visit.entered_at, false, true
  from bi.stage_visit as visit
  join bi.stage_visit as skipped
    on skipped.journey_id = visit.journey_id and skipped.entered_event_id = visit.entered_event_id
    and skipped.stage_role = 'mql' and skipped.is_inferred
  where visit.stage_role = 'sql' and not visit.is_inferred
),
decided as (
  select
    decision.journey_id,
    date_trunc('week', decision.decided_at at time zone calendar.zone)::date as week,
    'sales' as compared_with,
    bool_or(decision.is_mql_here_only) as is_mql_here_only,
    bool_or(decision.is_mql_there_only) as is_mql_there_only
  from decision
  join bi.calendar on calendar.is_default
  group by 1, 2
),
here as (
  select
    journey_id,
    min(entered_at) filter (where stage_role = 'mql' and not is_inferred) as mql_at
  from bi.stage_visit
  group by journey_id
),
compared as (
  select
    other.journey_id,
    date_trunc('week', other.began_at at time zone calendar.zone)::date as week,
    other.label || ' (version ' || other.version_no || ')' as compared_with,
    here.mql_at is not null and other.mql_at is null as is_mql_here_only,
    here.mql_at is null and other.mql_at is not null as is_mql_there_only
  from ops.mql_of_fed_versions() as other
  join bi.calendar on calendar.is_default
  left join here on here.journey_id = other.journey_id collate "C"
)
select
  week,
  compared_with,
  count(*) as journeys,
  count(*) filter (where is_mql_here_only) as mql_here_only,
  count(*) filter (where is_mql_there_only) as mql_there_only,
  count(*) filter (where is_mql_here_only or is_mql_there_only) as disagreeing,
  count(*) filter (where is_mql_here_only or is_mql_there_only)::double precision / count(*) as share,
  (select label from promoted.version) as definition_version
from (select * from decided union all select * from compared) as journey
group by week, compared_with;

comment on view bi.definition_drift is
  'How often the promoted definition''s idea of an MQL disagrees with others, week by week: with what sales decided, and with every other version that is kept up. A share that rises says: time to revisit the definition. Filter: none, all journeys with a decision in the week, or with their first event in it. Definition: definition_version.';
comment on column bi.definition_drift.week is
  'Monday of the week, in the zone of the definition''s calendar: of the decision for sales, of the journey''s first event for a version.';
comment on column bi.definition_drift.compared_with is
  'sales = what people decided; else a version that is kept up beside the promoted one: <definition_version> (version <number>).';
comment on column bi.definition_drift.journeys is 'Number of journeys that sales decided on in the week, or that began in it.';
comment on column bi.definition_drift.mql_here_only is
  'Number of journeys that are MQLs by the promoted definition only: sales rejected the hand-off, or the other version never has them in mql.';
comment on column bi.definition_drift.mql_there_only is
  'Number of journeys that are MQLs elsewhere only: sales accepted them without mql, or the other version has them in mql.';
comment on column bi.definition_drift.disagreeing is 'Number of journeys with either; one may have both in the same week.';
comment on column bi.definition_drift.share is 'disagreeing / journeys.';
comment on column bi.definition_drift.definition_version is 'Definition(s) that the promoted version is made with.';
