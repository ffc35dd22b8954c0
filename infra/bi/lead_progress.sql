create or replace view bi.lead_progress as
select
  visit.journey_id,
  min(visit.entered_at) as anonymous_at,
  min(visit.entered_at) filter (where role.position >= 2) as known_at,
  min(visit.entered_at) filter (where role.position >= 3) as engaged_at,
  min(visit.entered_at) filter (where role.position >= 4) as mql_at,
  min(visit.entered_at) filter (where role.position >= 5) as sal_at,
  min(visit.entered_at) filter (where role.position >= 6) as sql_at,
  min(visit.entered_at) filter (where role.position >= 7) as opportunity_at,
  min(visit.entered_at) filter (where role.position >= 8) as won_at,
  visit.definition_version
from promoted.stage_visit as visit
join bi.stage_role as role on role.role = visit.stage_role and role.is_success
group by visit.journey_id, visit.definition_version;

comment on view bi.lead_progress is
  'One row per journey: when it first was at each success role or beyond. Skipped stages count as reached; a role that the definition lacks shows the next one above it. Filter: none. Definition: definition_version. The same with a row per stage is stage_reached.';
comment on column bi.lead_progress.journey_id is 'The person.';
comment on column bi.lead_progress.anonymous_at is 'Instant (UTC) of the first event.';
comment on column bi.lead_progress.known_at is 'Instant (UTC) of first being at role known or beyond; null = never.';
comment on column bi.lead_progress.engaged_at is 'Instant (UTC) of first being at role engaged or beyond; null = never.';
comment on column bi.lead_progress.mql_at is 'Instant (UTC) of first being at role mql or beyond; null = never.';
comment on column bi.lead_progress.sal_at is 'Instant (UTC) of first being at role sal or beyond; null = never.';
comment on column bi.lead_progress.sql_at is 'Instant (UTC) of first being at role sql or beyond; null = never.';
comment on column bi.lead_progress.opportunity_at is 'Instant (UTC) of first being at role opportunity or beyond; null = never.';
comment on column bi.lead_progress.won_at is 'Instant (UTC) of first being at role won or beyond; null = never.';
comment on column bi.lead_progress.definition_version is 'Definition(s) that the row is made with.';
