create or replace view bi.campaign as
select distinct on (fact ->> 'campaign_id')
  fact ->> 'campaign_id' as campaign_id,
  fact ->> 'name' as name,
  fact ->> 'channel' as channel,
  fact ->> 'offer_id' as offer_id,
  timestamptz 'epoch' + (fact ->> 'starts_at')::double precision * interval '1 microsecond' as starts_at,
  timestamptz 'epoch' + (fact ->> 'ends_at')::double precision * interval '1 microsecond' as ends_at,
  (fact ->> 'cost_minor')::bigint as cost_minor,
  fact ->> 'currency' as currency,
  occurred_at as scheduled_at,
  event_id as scheduled_event_id
from log.reference
where record_name = 'CampaignScheduled' and occurred_at <= recorded_at + interval '5 minutes'
order by fact ->> 'campaign_id', occurred_at desc, (fact ->> 'source_sequence')::bigint desc nulls last, event_id desc;

comment on view bi.campaign is
  'One row per campaign of the calendar, as it was scheduled last; earlier plans stay in the log. It depends on no definition.';
comment on column bi.campaign.campaign_id is 'The campaign, as in campaign_id elsewhere.';
comment on column bi.campaign.name is 'What people call it.';
comment on column bi.campaign.channel is 'Channel as planned, before any channel rule.';
comment on column bi.campaign.offer_id is 'What it offers; null = not said.';
comment on column bi.campaign.starts_at is 'Instant (UTC) of its start.';
comment on column bi.campaign.ends_at is 'Instant (UTC) of its end; null = open end.';
comment on column bi.campaign.cost_minor is 'Planned cost in minor units (cents); null = not said.';
comment on column bi.campaign.currency is 'ISO 4217 code of the cost; amounts of different currencies are never added.';
comment on column bi.campaign.scheduled_at is 'Instant (UTC) of the latest plan.';
comment on column bi.campaign.scheduled_event_id is 'The event of the latest plan.';
