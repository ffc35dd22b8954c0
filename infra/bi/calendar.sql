create or replace view bi.calendar as
with in_force as (
  select valid_from
  from promoted.calendar
  where valid_from is null or valid_from <= now()
  order by valid_from desc nulls last
  limit 1
)
select
  calendar.calendar_id,
  calendar.zone,
  calendar.measures_visits as is_default,
  calendar.covers_from,
  calendar.covers_until,
  (select label from promoted.version) as definition_version
from promoted.calendar
join in_force on calendar.valid_from is not distinct from in_force.valid_from;

comment on view bi.calendar is
  'One row per business calendar of the definition in force now, as the latest calendar facts have it.';
comment on column bi.calendar.calendar_id is 'Name of the calendar.';
comment on column bi.calendar.zone is 'IANA time zone of its opening hours.';
comment on column bi.calendar.is_default is
  'True in one row: the definition''s calendar. It measures business seconds in stages, and in its zone days, weeks and months begin.';
comment on column bi.calendar.covers_from is 'Instant (UTC) from which calendar_window has its windows.';
comment on column bi.calendar.covers_until is 'Instant (UTC) up to which calendar_window has its windows.';
comment on column bi.calendar.definition_version is 'Definition(s) that the promoted version is made with.';
