create or replace view bi.win_rate as
with deal as (
  select
    opportunity.status,
    date_trunc('month', opportunity.opened_at at time zone calendar.zone)::date as opened_month,
    date_trunc('month', opportunity.closed_at at time zone calendar.zone)::date as closed_month
  from bi.opportunity
  join bi.calendar on calendar.is_default
  where opportunity.is_counted
),
dated as (
  select closed_month as month, status as closed_as, null as opened_and_now
  from deal
  where closed_month is not null
  union all
  select opened_month, null, status
  from deal
  where opened_month is not null
)
select
  month,
  count(*) filter (where closed_as = 'won') as won,
  count(*) filter (where closed_as = 'lost') as lost,
  count(*) filter (where closed_as = 'won')::double precision / nullif(count(closed_as), 0) as win_rate,
  count(opened_and_now) as opened,
  count(*) filter (where opened_and_now = 'won') as opened_won,
  count(*) filter (where opened_and_now = 'lost') as opened_lost,
  count(*) filter (where opened_and_now = 'open') as opened_open,
  count(*) filter (where opened_and_now = 'won')::double precision / nullif(count(opened_and_now), 0)
    as cohort_win_rate,
  (select label collate "C" from promoted.version) as definition_version
from dated
group by month;

comment on view bi.win_rate is
  'Two win rates by month that are not to be mixed: of the deals closed in the month, and of the deals opened in it (cohort). Anchor: closed_at for won, lost and win_rate; opened_at for the columns opened and after. Filter: every deal once (opportunity.is_counted); deals without a known opening are in no cohort. Definition: definition_version.';
comment on column bi.win_rate.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.win_rate.won is 'Number of deals won in the month, wins in force only.';
comment on column bi.win_rate.lost is 'Number of deals lost in the month.';
comment on column bi.win_rate.win_rate is 'won / (won + lost), 0 to 1. Null = nothing was closed.';
comment on column bi.win_rate.opened is 'Number of deals opened in the month: the cohort.';
comment on column bi.win_rate.opened_won is 'Number of the cohort''s deals that are won now.';
comment on column bi.win_rate.opened_lost is 'Number of the cohort''s deals that are lost now.';
comment on column bi.win_rate.opened_open is 'Number of the cohort''s deals that are still open: the cohort''s rate may rise by them.';
comment on column bi.win_rate.cohort_win_rate is 'opened_won / opened, 0 to 1. Null = nothing was opened.';
comment on column bi.win_rate.definition_version is 'Definition(s) that the promoted version is made with.';
