create or replace view bi.stage_role as
select
  role.name as role,
  role.position::bigint as position,
  role.is_success
from (
  values
    ('anonymous', 1, true), ('known', 2, true), ('engaged', 3, true), ('mql', 4, true), ('sal', 5, true),
    ('sql', 6, true), ('opportunity', 7, true), ('won', 8, true), ('recycled', 9, false), ('nurture', 10, false),
    ('disqualified', 11, false), ('lost', 12, false), ('churned', 13, false)
) as role (name, position, is_success);

comment on view bi.stage_role is
  'The fixed roles that stages may have, the same for every definition: success roles upwards, then detours.';
comment on column bi.stage_role.role is 'The role, as in stage_role elsewhere.';
comment on column bi.stage_role.position is 'Place in the order, from 1. Among success roles a higher place is further.';
comment on column bi.stage_role.is_success is 'True = on the way from anonymous to won; false = a detour.';
