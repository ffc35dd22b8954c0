create or replace view bi.retention_money as
with ledger as (
  select credit.journey_id, credit.currency, credit.effective_at, sum(credit.amounts[1]) as amount_minor
  from promoted.credit
  join bi.opportunity using (journey_id, opportunity_id)
  where opportunity.is_counted
  group by credit.journey_id, credit.currency, credit.effective_at
),
held as (
  select
    customer.month,
    ledger.currency,
    customer.is_complete,
    coalesce(sum(amount_minor) filter (where effective_at <= starts_at), 0) as start_minor,
    coalesce(sum(amount_minor) filter (where effective_at <= starts_at and is_retained), 0) as retained_minor,
    coalesce(sum(amount_minor) filter (where effective_at <= least(ends_at, now()) and is_retained), 0) as end_minor,
    customer.definition_version
  from bi.customer_month as customer
  join ledger using (journey_id)
  group by customer.month, ledger.currency, customer.is_complete, customer.definition_version
)
select
  month,
  currency,
  least(greatest(start_minor, -9223372036854775808), 9223372036854775807)::bigint as start_minor,
  least(greatest(retained_minor, -9223372036854775808), 9223372036854775807)::bigint as retained_minor,
  least(greatest(end_minor, -9223372036854775808), 9223372036854775807)::bigint as end_minor,
  case when is_complete then retained_minor / nullif(start_minor, 0)::double precision end as money_retention,
  case when is_complete then end_minor / nullif(start_minor, 0)::double precision end as net_money_retention,
  is_complete,
  definition_version
from held;

comment on view bi.retention_money is
  'Retention by money, by month and currency. Anchor: beginning and end of the month; the money of a customer at an instant is what was won, adjusted and reversed with effective_at up to it. Filter: customers when the month began (customer_month), every deal once. Definition: definition_version.';
comment on column bi.retention_money.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.retention_money.currency is 'ISO 4217 code; amounts of different currencies are never added.';
comment on column bi.retention_money.start_minor is 'Money of all customers when the month began, in minor units (cents), at most what bigint holds.';
comment on column bi.retention_money.retained_minor is 'Of start_minor what belongs to customers that are customers at the end too.';
comment on column bi.retention_money.end_minor is
  'Money of these customers at the end of the month (while it lasts: now): refunds, upsells and further deals of the month included.';
comment on column bi.retention_money.money_retention is 'retained_minor / start_minor. Null = the month is not over.';
comment on column bi.retention_money.net_money_retention is 'end_minor / start_minor, above 1 if upsells outweigh losses. Null = the month is not over.';
comment on column bi.retention_money.is_complete is 'True = the month is over.';
comment on column bi.retention_money.definition_version is 'Definition(s) that the promoted version is made with.';
