create or replace view bi.velocity as
with deal as (
  select
    opportunity.status,
    opportunity.currency,
    opportunity.amount_minor,
    opportunity.opened_at,
    opportunity.closed_at,
    calendar.zone
  from bi.opportunity
  join bi.calendar on calendar.is_default
  where opportunity.is_counted
),
dated as (
  select
    date_trunc('month', opened_at at time zone zone)::date as month,
    currency,
    'opened' as what,
    null::bigint as amount_minor,
    null::double precision as days
  from deal
  where opened_at is not null
  union all
  select
    date_trunc('month', closed_at at time zone zone)::date,
    currency,
    status,
    amount_minor,
    (extract(epoch from closed_at - opened_at) / 86400)::double precision
  from deal
  where closed_at is not null
),
input as (
  select
    month,
    currency,
    count(*) filter (where what = 'opened') as opened,
    count(*) filter (where what = 'won') as won,
    count(*) filter (where what = 'lost') as lost,
    avg(amount_minor) filter (where what = 'won')::double precision as average_won_minor,
    percentile_cont(0.5) within group (order by days) filter (where what = 'won' and days >= 0) as median_days_to_win,
    count(*) filter (where what = 'won' and days >= 0) as measured_wins
  from dated
  group by month, currency
)
select
  month,
  currency,
  opened,
  won,
  lost,
  average_won_minor,
  won::double precision / nullif(won + lost, 0) as win_rate,
  median_days_to_win,
  opened * average_won_minor * won / nullif(won + lost, 0) / nullif(median_days_to_win, 0) as velocity_minor_per_day,
  (select label collate "C" from promoted.version) as definition_version,
  measured_wins
from input;

comment on view bi.velocity is
  'Sales velocity by month and currency = opened x average_won_minor x win_rate / median_days_to_win, with its inputs. Anchor: opened_at for opened, closed_at for the others. Filter: every deal once (opportunity.is_counted); the median leaves out wins without an opening before them (measured_wins says how many it has). Each row counts the deals of its currency, and deals opened or lost before an amount was said have none: beside such deals the win rate by currency is above that of all deals, which is in win_rate. Definition: definition_version.';
comment on column bi.velocity.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.velocity.currency is 'ISO 4217 code of the deals; null = deals whose amount was never said. Amounts of different currencies are never added.';
comment on column bi.velocity.opened is 'Number of deals of this currency opened in the month.';
comment on column bi.velocity.won is 'Number of deals won in the month.';
comment on column bi.velocity.lost is 'Number of deals of this currency lost in the month; those lost before an amount was said stand in the row without currency.';
comment on column bi.velocity.average_won_minor is 'Mean amount of the deals won in the month, in minor units (cents), later adjustments not included.';
comment on column bi.velocity.win_rate is 'won / (won + lost) of this row, 0 to 1: too high by the deals that were lost before an amount was said. Null = nothing was closed.';
comment on column bi.velocity.median_days_to_win is 'Median days of 24 hours from opening to win, of the measured_wins.';
comment on column bi.velocity.velocity_minor_per_day is
  'The velocity: minor units a day. Null = one of its inputs is not known, or the median is 0.';
comment on column bi.velocity.definition_version is 'Definition(s) that the promoted version is made with.';
comment on column bi.velocity.measured_wins is
  'Number of deals behind median_days_to_win: won in the month and opened at or before their win.';
