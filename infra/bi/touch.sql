create or replace view bi.touch as
select
  event_id,
  journey_id,
  subject_id,
  touched_at,
  recorded_at,
  touch_type,
  direction,
  channel,
  channel_sent,
  campaign_id,
  offer_id,
  content_id,
  utm_source,
  utm_medium,
  utm_campaign,
  utm_term,
  utm_content,
  source,
  actor_kind,
  actor_id,
  source_sequence,
  definition_version
from promoted.touch;

comment on view bi.touch is
  'One row per touch of a lead, in either direction: what it did (inbound) and what was done to reach it (outbound). Outbound by a human is a sales contact attempt.';
comment on column bi.touch.event_id is 'The event.';
comment on column bi.touch.journey_id is 'The person.';
comment on column bi.touch.subject_id is 'The person as the source knows them.';
comment on column bi.touch.touched_at is 'Instant (UTC) of the touch.';
comment on column bi.touch.recorded_at is 'Instant (UTC) at which it was recorded.';
comment on column bi.touch.touch_type is
  'page_view, form_submitted, email_opened, email_clicked, ad_clicked, content_downloaded, event_registered, event_attended, chat, call, email, meeting, referral or other.';
comment on column bi.touch.direction is 'inbound or outbound.';
comment on column bi.touch.channel is 'Channel after the channel rules of the definition in force at the touch.';
comment on column bi.touch.channel_sent is 'Channel as the source sent it.';
comment on column bi.touch.campaign_id is 'Campaign; null = none.';
comment on column bi.touch.offer_id is 'Offer; null = none.';
comment on column bi.touch.content_id is 'Content, for example the landing page or the paper; null = none.';
comment on column bi.touch.utm_source is 'UTM source as sent; null = none.';
comment on column bi.touch.utm_medium is 'UTM medium as sent; null = none.';
comment on column bi.touch.utm_campaign is 'UTM campaign as sent; null = none.';
comment on column bi.touch.utm_term is 'UTM term as sent; null = none.';
comment on column bi.touch.utm_content is 'UTM content as sent; null = none.';
comment on column bi.touch.source is 'System that published it.';
comment on column bi.touch.actor_kind is 'Who did it: human, system or import.';
comment on column bi.touch.actor_id is 'Who did it, by name; null = not said.';
comment on column bi.touch.source_sequence is
  'The source''s own order. Touches of a journey stand in the order touched_at, source_sequence (null first), event_id.';
comment on column bi.touch.definition_version is 'Definition(s) that the row is made with.';
