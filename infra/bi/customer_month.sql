create or replace view bi.customer_month as
with customer as (
  select journey_id, entered_at, left_at
  from bi.stage_visit
  where stage_role = 'won' and not is_inferred
),
month as (
  select
    started::date as month,
    started at time zone zone as starts_at,
    (started + interval '1 month') at time zone zone as ends_at,
    definition_version
  from bi.calendar
  cross join lateral generate_series(
    (select date_trunc('month', min(entered_at) at time zone zone) + interval '1 month' from customer),
    now() at time zone zone,
    interval '1 month'
  ) as started
  where is_default
)
select
  month.month,
  customer.journey_id,
  month.starts_at,
  month.ends_at,
  month.ends_at <= now() as is_complete,
  still.journey_id is not null as is_retained,
  month.definition_version
from month
join customer
  on customer.entered_at <= month.starts_at and (customer.left_at > month.starts_at or customer.left_at is null)
left join customer as still
  on still.journey_id = customer.journey_id
  and still.entered_at <= least(month.ends_at, now())
  and (still.left_at > least(month.ends_at, now()) or still.left_at is null);

comment on view bi.customer_month is
  'One row per month and journey that was a customer when the month began: the rows behind retention. A customer is a journey in a stage of role won. Anchor: beginning and end of the month. Filter: none. Definition: definition_version.';
comment on column bi.customer_month.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.customer_month.journey_id is 'The person.';
comment on column bi.customer_month.starts_at is 'Instant (UTC) at which the month begins there.';
comment on column bi.customer_month.ends_at is 'Instant (UTC) at which the next month begins there.';
comment on column bi.customer_month.is_complete is 'True = the month is over.';
comment on column bi.customer_month.is_retained is 'True = a customer at ends_at too (while the month lasts: now).';
comment on column bi.customer_month.definition_version is 'Definition(s) that the promoted version is made with.';
