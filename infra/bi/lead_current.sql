create or replace view bi.lead_current as
select
  lead.journey_id,
  lead.stage,
  lead.stage_role,
  lead.stage_entered_at,
  lead.stage_entered_event_id,
  lead.previous_stage,
  lead.furthest_role,
  lead.handoff_status,
  lead.handoff_reason,
  lead.recycle_until,
  lead.owner_id,
  lead.team_id,
  lead.score,
  lead.flags,
  lead.fault_count::bigint as fault_count,
  lead.first_touch_at,
  lead.last_touch_at,
  lead.first_offer_id,
  lead.last_offer_before_mql_id,
  lead.first_campaign_id,
  lead.last_campaign_before_mql_id,
  lead.open_opportunities::bigint as open_opportunities,
  lead.won_opportunities::bigint as won_opportunities,
  lead.event_count::bigint as event_count,
  lead.last_event_id,
  lead.last_event_at,
  parked.journey_id is not null as is_parked,
  lead.definition_version
from promoted.lead_state as lead
left join ops.parked
  on parked.journey_id = lead.journey_id
  and parked.version_no = (select version_no from promoted.version);

comment on view bi.lead_current is
  'One row per journey (one person): where the lead stands after its last event that counts. A journey with nothing but faults has no row here.';
comment on column bi.lead_current.journey_id is 'The person; every subject id of it is in lead_subject.';
comment on column bi.lead_current.stage is 'Name of the present stage; names are the tenant''s and may change, see stage_role.';
comment on column bi.lead_current.stage_role is 'Fixed role of the present stage: anonymous, known, engaged, mql, sal, sql, opportunity, won, recycled, nurture, disqualified, lost or churned.';
comment on column bi.lead_current.stage_entered_at is 'Instant (UTC) of entering the present stage.';
comment on column bi.lead_current.stage_entered_event_id is 'The event that led into the present stage.';
comment on column bi.lead_current.previous_stage is 'Name of the stage before the present one; null = none.';
comment on column bi.lead_current.furthest_role is 'Highest success role ever reached, in the order anonymous to won; detours do not count.';
comment on column bi.lead_current.handoff_status is 'The latest hand-off to sales: none, open, accepted, rejected, bypassed or withdrawn.';
comment on column bi.lead_current.handoff_reason is 'Reason code of the last rejection by sales; null = never rejected.';
comment on column bi.lead_current.recycle_until is 'Instant (UTC) until which the last rejection asks to leave the lead alone; null = not said.';
comment on column bi.lead_current.owner_id is 'Who the lead is assigned to now; null = nobody.';
comment on column bi.lead_current.team_id is 'Team that the lead is assigned to now; null = none.';
comment on column bi.lead_current.score is 'Points at the last event: the sum of the scoring lines of touches since the last return that had not expired then.';
comment on column bi.lead_current.flags is 'Things to know, comma-separated in alphabetical order, empty = none: accepted_without_mql, reviewer_unknown.';
comment on column bi.lead_current.fault_count is 'Number of events kept without any effect, with the reason in fault.';
comment on column bi.lead_current.first_touch_at is 'Instant (UTC) of the first touch in either direction; null = no touch.';
comment on column bi.lead_current.last_touch_at is 'Instant (UTC) of the last touch in either direction; null = no touch.';
comment on column bi.lead_current.first_offer_id is 'Offer of the first inbound touch that had one.';
comment on column bi.lead_current.last_offer_before_mql_id is 'Offer of the last inbound touch with one at or before the latest entry into mql; null = never mql, or none.';
comment on column bi.lead_current.first_campaign_id is 'Campaign of the touch of first_offer_id.';
comment on column bi.lead_current.last_campaign_before_mql_id is 'Campaign of the touch of last_offer_before_mql_id.';
comment on column bi.lead_current.open_opportunities is 'Number of opportunities open now.';
comment on column bi.lead_current.won_opportunities is 'Number of opportunities whose win is in force now.';
comment on column bi.lead_current.event_count is 'Number of events that count: no duplicates, faults, retractions, nor what they took back.';
comment on column bi.lead_current.last_event_id is 'The last event that counts.';
comment on column bi.lead_current.last_event_at is 'Instant (UTC) of the last event that counts.';
comment on column bi.lead_current.is_parked is 'True = a defect in the code stopped this journey: the row is as it was before, newer events are missing from it.';
comment on column bi.lead_current.definition_version is 'Definition(s) that the row is made with: <definition_id>@<version>, several joined by +.';
