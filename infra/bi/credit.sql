create or replace view bi.credit as
-- Unnested in the list of columns, not by a lateral join: over many deals that takes half the time.
with share as (
  select
    *,
    unnest(models) as model,
    unnest(weights) as weight,
    unnest(amounts) as amount_minor
  from promoted.credit
)
select
  opportunity_id,
  journey_id,
  nullif(touch_event_id, '') as touch_event_id,
  touched_at,
  channel,
  campaign_id,
  offer_id,
  model,
  positions,
  kind,
  event_id,
  effective_at,
  won_at,
  weight,
  amount_minor,
  currency,
  definition_version
from share
where weight <> 0 or amount_minor <> 0;

comment on view bi.credit is
  'One row per touch, model and win, adjustment or reversal: how a won amount is shared among the touches before it. Rule-based credit is a convention that both teams agreed on, not causal lift. Touches to which a model gives neither weight nor money have no row for it. Amounts of one deal and model sum to its amount exactly.';
comment on column bi.credit.opportunity_id is 'The deal. If shared by several journeys each has its credit: join opportunity and take is_counted for totals.';
comment on column bi.credit.journey_id is 'The person.';
comment on column bi.credit.touch_event_id is 'The touch; null = unattributed, no touch was eligible.';
comment on column bi.credit.touched_at is 'Instant (UTC) of the touch.';
comment on column bi.credit.channel is 'Channel of the touch after the definition''s channel rules; unattributed = no touch was eligible.';
comment on column bi.credit.campaign_id is 'Campaign of the touch.';
comment on column bi.credit.offer_id is 'Offer of the touch.';
comment on column bi.credit.model is 'Attribution model as the definition names it. Never add amounts of different models.';
comment on column bi.credit.positions is 'Positions of the touch on the path, comma-separated: FT first, LC lead creation, OC opportunity creation, CW last before the win; empty = none.';
comment on column bi.credit.kind is 'win; adjustment (refund, discount, upsell after it); reversal (the win was reopened, lost or replaced: takes back its net).';
comment on column bi.credit.event_id is 'The event that caused the row: the win, the adjustment or the one that undid the win.';
comment on column bi.credit.effective_at is 'Instant (UTC) at which the amount counts in a ledger: of the win, the adjustment''s effective date, or the undoing event.';
comment on column bi.credit.won_at is 'Instant (UTC) of the win that is shared: the anchor of cohort reports.';
comment on column bi.credit.weight is 'Share of the touch, 0 to 1; per win and model they sum to 1. A reversal shows the weights of its win. Sum it over kind = win only.';
comment on column bi.credit.amount_minor is 'Share of the amount in minor units (cents), by largest remainder; adjustments and reversals may be negative.';
comment on column bi.credit.currency is 'ISO 4217 code; amounts of different currencies are never added.';
comment on column bi.credit.definition_version is 'Definition(s) that the row is made with.';
