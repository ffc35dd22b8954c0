-- What the views of infra/bi need beside the tables of a version.
create table ops.bi_view (
  name text collate "C" primary key,
  sql  text not null
);
comment on table ops.bi_view is
  'The SQL by which each view of infra/bi was made last: a switch of versions leaves alone what would not change.';

create function ops.kaplan_meier_median(seconds double precision[], is_open boolean[])
returns double precision
language sql immutable parallel safe
as $$
  with at_risk as (
    select
      visit.seconds,
      count(*) filter (where not visit.is_open) as ended,
      sum(count(*)) over (order by visit.seconds desc) as lasting
    from unnest(seconds, is_open) as visit (seconds, is_open)
    where visit.seconds is not null
    group by visit.seconds
  ),
  survival as (
    select
      at_risk.seconds,
      ended = lasting as all_ended,
      exp(sum(case when ended < lasting then ln(1 - ended::double precision / lasting) end)
        over (order by at_risk.seconds)) as share
    from at_risk
    where ended > 0
  )
  select min(survival.seconds) from survival where all_ended or share <= 0.5 + 1e-9
$$;
comment on function ops.kaplan_meier_median is
  'The time after which half have ended, by the estimator of Kaplan and Meier (1958): what is open counts as lasting at least as long as it has so far. Null = fewer than half can be said to have ended. 1e-9 makes up for rounding of the product.';
