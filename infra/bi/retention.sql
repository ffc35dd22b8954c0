create or replace view bi.retention as
select
  month,
  count(*) as customers,
  count(*) filter (where is_retained) as retained,
  case when is_complete then count(*) filter (where is_retained)::double precision / count(*) end as retention,
  is_complete,
  definition_version
from bi.customer_month
group by month, is_complete, definition_version;

comment on view bi.retention is
  'Customer retention by month = customers at its start that are customers at its end / customers at its start. Anchor: beginning and end of the month. Filter: journeys in a stage of role won when the month began. Definition: definition_version. The customers behind it are in customer_month; by money see retention_money.';
comment on column bi.retention.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.retention.customers is 'Number of customers when the month began.';
comment on column bi.retention.retained is 'Number of them that are customers at its end (while the month lasts: now).';
comment on column bi.retention.retention is 'retained / customers, 0 to 1. Null = the month is not over.';
comment on column bi.retention.is_complete is 'True = the month is over.';
comment on column bi.retention.definition_version is 'Definition(s) that the promoted version is made with.';
