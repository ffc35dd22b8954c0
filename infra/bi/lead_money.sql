create or replace view bi.lead_money as
select
  journey_id,
  currency,
  won_minor,
  adjusted_minor,
  definition_version
from promoted.lead_money;

comment on view bi.lead_money is
  'One row per journey and currency: money of the wins in force. An opportunity shared by several journeys is in each of them; for totals use opportunity with is_counted.';
comment on column bi.lead_money.journey_id is 'The person.';
comment on column bi.lead_money.currency is 'ISO 4217 code; amounts of different currencies are never added.';
comment on column bi.lead_money.won_minor is 'Sum of the amounts won, in minor units (cents), adjustments not included.';
comment on column bi.lead_money.adjusted_minor is 'Sum of the later adjustments (refunds negative), in minor units. Net = won_minor + adjusted_minor.';
comment on column bi.lead_money.definition_version is 'Definition(s) that the row is made with.';
