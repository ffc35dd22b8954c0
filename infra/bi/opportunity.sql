create or replace view bi.opportunity as
select
  deal.opportunity_id,
  deal.journey_id,
  exists (
    select from promoted.opportunity as other
    where other.opportunity_id = deal.opportunity_id and other.journey_id <> deal.journey_id
  ) as is_shared,
  deal.account_id,
  deal.status,
  deal.opened_at,
  deal.closed_at,
  deal.amount_minor,
  deal.adjusted_minor,
  deal.currency,
  deal.loss_reason,
  not exists (
    select from promoted.opportunity as other
    where other.opportunity_id = deal.opportunity_id
      and other.journey_id <> deal.journey_id
      -- The contract's order of events: without a sequence first.
      and (
        other.first_event_at, other.first_event_sequence is not null, coalesce(other.first_event_sequence, 0),
        other.first_event_id, other.journey_id
      ) < (
        deal.first_event_at, deal.first_event_sequence is not null, coalesce(deal.first_event_sequence, 0),
        deal.first_event_id, deal.journey_id
      )
  ) as is_counted,
  deal.definition_version
from promoted.opportunity as deal;

comment on view bi.opportunity is
  'One row per journey and opportunity. Win rate = won / (won + lost) by closed_at. Totals: take is_counted rows only, since several contacts of one deal each have a row.';
comment on column bi.opportunity.opportunity_id is 'The deal.';
comment on column bi.opportunity.journey_id is 'The person.';
comment on column bi.opportunity.is_shared is 'True = the deal is in the journeys of several persons.';
comment on column bi.opportunity.account_id is 'The company; null = not said.';
comment on column bi.opportunity.status is 'open, won or lost, by the last decision in force.';
comment on column bi.opportunity.opened_at is 'Instant (UTC) of opening; null = never said, only won or lost.';
comment on column bi.opportunity.closed_at is 'Instant (UTC) of the win or loss in force; null = open.';
comment on column bi.opportunity.amount_minor is 'Latest amount in minor units (cents), of a won deal that of the win, adjustments not included.';
comment on column bi.opportunity.adjusted_minor is 'Sum of the adjustments since the win (refunds negative), in minor units.';
comment on column bi.opportunity.currency is 'ISO 4217 code of both amounts; amounts of different currencies are never added.';
comment on column bi.opportunity.loss_reason is 'Reason code of the loss; null = not lost.';
comment on column bi.opportunity.is_counted is 'True in one row per opportunity_id, the journey with its earliest event: sums over these rows count a deal once.';
comment on column bi.opportunity.definition_version is 'Definition(s) that the row is made with.';
