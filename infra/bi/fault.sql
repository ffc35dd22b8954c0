create or replace view bi.fault as
select
  event_id,
  copy_no::bigint as copy_no,
  journey_id,
  record_name,
  code,
  message,
  occurred_at,
  definition_version
from promoted.fault;

comment on view bi.fault is
  'One row per copy of an event that is kept but has no effect at all, with the reason. It takes effect if a later definition allows it.';
comment on column bi.fault.event_id is 'The event.';
comment on column bi.fault.copy_no is '1 = the copy that counts under this id; 2, 3, ... = copies with other content (code conflict), earliest recorded first.';
comment on column bi.fault.journey_id is 'The person.';
comment on column bi.fault.record_name is 'Kind of event, for example HandoffRejected.';
comment on column bi.fault.code is 'Reason, for example conflict, no_open_handoff or unknown_stage.';
comment on column bi.fault.message is 'The reason in words.';
comment on column bi.fault.occurred_at is 'Instant (UTC) at which the event says it happened.';
comment on column bi.fault.definition_version is 'Definition(s) that the row is made with.';
