create or replace view bi.stage as
with version as (
  select label from promoted.version
),
valid as (
  select definition_no
  from promoted.stage
  where valid_from is null or valid_from <= now()
  order by definition_no desc
  limit 1
)
select
  stage.position::bigint as position,
  stage.name,
  stage.role,
  version.label as definition_version
from promoted.stage
join valid using (definition_no)
cross join version;

comment on view bi.stage is 'One row per stage of the definition in force now, in order: success stages from lowest to highest, then detours.';
comment on column bi.stage.position is 'Place in the order, from 1. Sort funnels by it.';
comment on column bi.stage.name is 'The tenant''s name of the stage.';
comment on column bi.stage.role is 'Fixed role of the stage, one stage per role; reports by role survive a renaming.';
comment on column bi.stage.definition_version is 'Definition(s) that the promoted version is made with.';
