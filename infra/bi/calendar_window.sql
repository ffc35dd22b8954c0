create or replace view bi.calendar_window as
with in_force as (
  select valid_from
  from promoted.calendar
  where valid_from is null or valid_from <= now()
  order by valid_from desc nulls last
  limit 1
)
select
  calendar.calendar_id,
  open_window.opens_at,
  open_window.closes_at,
  extract(epoch from open_window.closes_at - open_window.opens_at)::double precision as open_seconds,
  (open_window.open_micros_before / 1000000.0)::double precision as open_seconds_before,
  (select label from promoted.version) as definition_version
from promoted.calendar
join in_force on calendar.valid_from is not distinct from in_force.valid_from
join promoted.calendar_window as open_window using (calendar_no);

comment on view bi.calendar_window is
  'One row per time that a business calendar is open, holidays left out, for the years that calendar.covers_from and covers_until name. Windows that touch are one.';
comment on column bi.calendar_window.calendar_id is 'The calendar.';
comment on column bi.calendar_window.opens_at is 'Instant (UTC) of opening.';
comment on column bi.calendar_window.closes_at is 'Instant (UTC) of closing.';
comment on column bi.calendar_window.open_seconds is 'Seconds from opening to closing.';
comment on column bi.calendar_window.open_seconds_before is
  'Open seconds of this calendar from calendar.covers_from to opens_at. Business seconds between two instants = the difference of their open seconds.';
comment on column bi.calendar_window.definition_version is 'Definition(s) that the promoted version is made with.';
