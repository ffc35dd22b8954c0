create or replace view bi.meeting as
select
  meeting.event_id,
  meeting.journey_id,
  meeting.meeting_id,
  meeting.held_at,
  meeting.kind,
  meeting.outcome,
  meeting.has_summary,
  visit.stage,
  visit.stage_role,
  meeting.source,
  meeting.actor_kind,
  meeting.actor_id,
  meeting.definition_version
from promoted.meeting
left join promoted.stage_visit as visit
  on visit.journey_id = meeting.journey_id
  and not visit.is_inferred
  and visit.entered_at <= meeting.held_at
  and (visit.left_at > meeting.held_at or visit.left_at is null);

comment on view bi.meeting is
  'One row per meeting recorded for a lead, with the stage that the lead was in. A meeting with several leads has a row for each: count distinct meeting_id. Who took part and what was said is personal and not here; `leadlog lead` shows it.';
comment on column bi.meeting.event_id is 'The event.';
comment on column bi.meeting.journey_id is 'The person.';
comment on column bi.meeting.meeting_id is 'The meeting as the source knows it.';
comment on column bi.meeting.held_at is 'Instant (UTC) of the meeting.';
comment on column bi.meeting.kind is 'Kind of meeting as sent, for example demo.';
comment on column bi.meeting.outcome is 'Outcome as sent; null = not said.';
comment on column bi.meeting.has_summary is 'True = somebody wrote down what was said.';
comment on column bi.meeting.stage is 'Name of the lead''s stage at held_at.';
comment on column bi.meeting.stage_role is 'Fixed role of that stage.';
comment on column bi.meeting.source is 'System that published it.';
comment on column bi.meeting.actor_kind is 'Who recorded it: human, system or import.';
comment on column bi.meeting.actor_id is 'Who recorded it, by name; null = not said.';
comment on column bi.meeting.definition_version is 'Definition(s) that the row is made with.';
