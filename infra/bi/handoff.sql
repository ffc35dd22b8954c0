create or replace view bi.handoff as
select
  journey_id,
  handoff_no::bigint as handoff_no,
  opened_at,
  opened_event_id,
  ended_at,
  ended_event_id,
  outcome,
  reason_code,
  owner_id,
  team_id,
  definition_version
from promoted.handoff;

comment on view bi.handoff is
  'One row per hand-off of a lead from marketing to sales: opened when the lead really enters mql. Acceptance = accepted / (accepted + rejected), by ended_at.';
comment on column bi.handoff.journey_id is 'The person.';
comment on column bi.handoff.handoff_no is 'Number of the hand-off in its journey, from 1.';
comment on column bi.handoff.opened_at is 'Instant (UTC) of entering mql.';
comment on column bi.handoff.opened_event_id is 'The event that led into mql.';
comment on column bi.handoff.ended_at is 'Instant (UTC) of the end; null = open.';
comment on column bi.handoff.ended_event_id is 'The event that ended it; null = open.';
comment on column bi.handoff.outcome is
  'How it ended: accepted or rejected by sales; bypassed (moved above without a decision); withdrawn (moved below or to a detour). Null = open.';
comment on column bi.handoff.reason_code is 'Reason given by the event that ended it.';
comment on column bi.handoff.owner_id is 'Owner of the lead when it opened.';
comment on column bi.handoff.team_id is 'Team of the lead when it opened.';
comment on column bi.handoff.definition_version is 'Definition(s) that the row is made with.';
