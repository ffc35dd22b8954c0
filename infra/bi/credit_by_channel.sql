create or replace view bi.credit_by_channel as
with credit as (
  select
    credit.model,
    credit.channel,
    credit.currency,
    credit.kind,
    credit.weight,
    credit.amount_minor,
    date_trunc('month', credit.effective_at at time zone calendar.zone)::date as effective_month,
    date_trunc('month', credit.won_at at time zone calendar.zone)::date as won_month
  from bi.credit
  join bi.opportunity using (journey_id, opportunity_id)
  join bi.calendar on calendar.is_default
  where opportunity.is_counted
),
dated as (
  select
    won_month as month, model, channel, currency,
    case kind when 'win' then weight when 'reversal' then -weight else 0 end as deals,
    amount_minor as cohort_minor,
    0 as ledger_minor
  from credit
  union all
  select effective_month, model, channel, currency, 0, 0, amount_minor
  from credit
)
select
  month,
  model,
  channel,
  currency,
  round(sum(deals)::numeric, 9)::double precision as deals,
  least(greatest(sum(cohort_minor), -9223372036854775808), 9223372036854775807)::bigint as cohort_minor,
  least(greatest(sum(ledger_minor), -9223372036854775808), 9223372036854775807)::bigint as ledger_minor,
  (select label collate "C" from promoted.version) as definition_version
from dated
group by month, model, channel, currency;

comment on view bi.credit_by_channel is
  'Credit by month, model, channel and currency. Rule-based credit is a convention that both teams agreed on, not causal lift. Anchor: won_at for cohort_minor and deals (restated by whatever follows), effective_at for ledger_minor. Filter: every deal once (opportunity.is_counted); what no touch may claim is the channel unattributed. Definition: definition_version. The rows behind it are in credit.';
comment on column bi.credit_by_channel.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.credit_by_channel.model is 'Attribution model. Never add rows of different models.';
comment on column bi.credit_by_channel.channel is 'Channel after the definition''s channel rules, or unattributed.';
comment on column bi.credit_by_channel.currency is 'ISO 4217 code; amounts of different currencies are never added.';
comment on column bi.credit_by_channel.deals is 'Deals won in the month as shared out by the model, wins taken back since left out; rounded to 9 decimals.';
comment on column bi.credit_by_channel.cohort_minor is
  'Cohort view, in minor units (cents): what the wins of the month are worth to the channel today, adjustments and reversals restated to the win.';
comment on column bi.credit_by_channel.ledger_minor is
  'Ledger view, in minor units (cents): what took effect in the month, whenever the deal was won. Both views have the same total over all months.';
comment on column bi.credit_by_channel.definition_version is 'Definition(s) that the promoted version is made with.';
