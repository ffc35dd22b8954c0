create or replace view bi.dim_date as
with calendar as (
  select calendar_id, zone, covers_from, covers_until, definition_version
  from bi.calendar
  where is_default
),
day as (
  select
    day::date as date,
    day at time zone zone as starts_at,
    (day + interval '1 day') at time zone zone as ends_at,
    definition_version
  from calendar
  cross join lateral generate_series(
    date_trunc('day', covers_from at time zone zone) + interval '1 day',
    covers_until at time zone zone - interval '1 day',
    interval '1 day'
  ) as day
),
open_on as (
  select
    day::date as date,
    sum(extract(epoch from
      least(closes_at, (day + interval '1 day') at time zone zone) - greatest(opens_at, day at time zone zone)
    ))::double precision as open_seconds
  from calendar
  join bi.calendar_window using (calendar_id)
  cross join lateral generate_series(
    date_trunc('day', opens_at at time zone zone),
    closes_at at time zone zone - interval '1 microsecond',
    interval '1 day'
  ) as day
  group by day
)
select
  day.date,
  day.starts_at,
  day.ends_at,
  extract(year from day.date)::bigint as year,
  extract(quarter from day.date)::bigint as quarter,
  date_trunc('month', day.date)::date as month,
  date_trunc('week', day.date)::date as week,
  extract(isoyear from day.date)::bigint as iso_year,
  extract(week from day.date)::bigint as iso_week,
  extract(isodow from day.date)::bigint as weekday,
  to_char(day.date, 'FMDay') as weekday_name,
  open_on.open_seconds is not null as is_business_day,
  coalesce(open_on.open_seconds, 0) as open_seconds,
  day.definition_version
from day
left join open_on using (date);

comment on view bi.dim_date is
  'One row per date, in the time zone of the definition''s calendar, for the years that it is laid out. Join facts by starts_at <= instant < ends_at.';
comment on column bi.dim_date.date is 'The date.';
comment on column bi.dim_date.starts_at is 'Instant (UTC) at which the date begins in that zone.';
comment on column bi.dim_date.ends_at is 'Instant (UTC) at which the next date begins there.';
comment on column bi.dim_date.year is 'Year.';
comment on column bi.dim_date.quarter is 'Quarter, 1 to 4.';
comment on column bi.dim_date.month is 'First date of the month, as in the views with a row per month.';
comment on column bi.dim_date.week is 'Monday of the week.';
comment on column bi.dim_date.iso_year is 'Year of the ISO 8601 week.';
comment on column bi.dim_date.iso_week is 'ISO 8601 week, 1 to 53.';
comment on column bi.dim_date.weekday is 'Day of the week, 1 = Monday to 7 = Sunday.';
comment on column bi.dim_date.weekday_name is 'English name of the day of the week.';
comment on column bi.dim_date.is_business_day is 'True = the definition''s calendar is open at some time of the date.';
comment on column bi.dim_date.open_seconds is 'Seconds of the date at which the calendar is open.';
comment on column bi.dim_date.definition_version is 'Definition(s) whose calendar it is.';
