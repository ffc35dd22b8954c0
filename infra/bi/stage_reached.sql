create or replace view bi.stage_reached as
select
  lead.journey_id,
  reached.stage_role,
  reached.reached_at,
  lead.definition_version
from bi.lead_progress as lead
cross join lateral (
  values
    ('anonymous', anonymous_at), ('known', known_at), ('engaged', engaged_at), ('mql', mql_at), ('sal', sal_at),
    ('sql', sql_at), ('opportunity', opportunity_at), ('won', won_at)
) as reached (stage_role, reached_at)
join bi.stage on stage.role = reached.stage_role
where reached.reached_at is not null;

comment on view bi.stage_reached is
  'One row per journey and success stage that it ever reached: the first time that it was in this stage or beyond. Skipped stages count as reached. Conversion from A to B = journeys with a row of B / journeys with a row of A.';
comment on column bi.stage_reached.journey_id is 'The person.';
comment on column bi.stage_reached.stage_role is 'Role of a success stage of the definition in force now.';
comment on column bi.stage_reached.reached_at is 'Instant (UTC) of first entering a stage of this role or a higher one.';
comment on column bi.stage_reached.definition_version is 'Definition(s) that the row is made with.';
