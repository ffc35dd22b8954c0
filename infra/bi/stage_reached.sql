create or replace view bi.stage_reached as
select
  first_at.journey_id,
  reached.stage_role,
  reached.reached_at,
  first_at.definition_version
from (
  select
    visit.journey_id,
    visit.definition_version,
    min(visit.entered_at) as anonymous,
    min(visit.entered_at) filter (where role.position >= 2) as known,
    min(visit.entered_at) filter (where role.position >= 3) as engaged,
    min(visit.entered_at) filter (where role.position >= 4) as mql,
    min(visit.entered_at) filter (where role.position >= 5) as sal,
    min(visit.entered_at) filter (where role.position >= 6) as sql,
    min(visit.entered_at) filter (where role.position >= 7) as opportunity,
    min(visit.entered_at) filter (where role.position >= 8) as won
  from {schema}.stage_visit as visit
  join bi.stage_role as role on role.role = visit.stage_role and role.is_success
  group by visit.journey_id, visit.definition_version
) as first_at
cross join lateral (
  values
    ('anonymous', anonymous), ('known', known), ('engaged', engaged), ('mql', mql), ('sal', sal), ('sql', sql),
    ('opportunity', opportunity), ('won', won)
) as reached (stage_role, reached_at)
join bi.stage on stage.role = reached.stage_role
where reached.reached_at is not null;

comment on view bi.stage_reached is
  'One row per journey and success stage that it ever reached: the first time that it was in this stage or beyond. Skipped stages count as reached. Conversion from A to B = journeys with a row of B / journeys with a row of A.';
comment on column bi.stage_reached.journey_id is 'The person.';
comment on column bi.stage_reached.stage_role is 'Role of a success stage of the definition in force now.';
comment on column bi.stage_reached.reached_at is 'Instant (UTC) of first entering a stage of this role or a higher one.';
comment on column bi.stage_reached.definition_version is 'Definition(s) that the row is made with.';
