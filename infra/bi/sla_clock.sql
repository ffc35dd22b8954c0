create or replace view bi.sla_clock as
select
  clock.journey_id,
  clock.policy_id,
  clock.clock_no::bigint as clock_no,
  case
    when clock.cancelled_reason is not null then 'cancelled'
    when clock.stopped_at > clock.due_at then 'breached'
    when clock.stopped_at is not null and clock.stopped_recorded_at > clock.due_at then 'met_logged_late'
    when clock.stopped_at is not null then 'met'
    when clock.due_at < now() then 'overdue'
    when clock.paused_from <= now() and (clock.paused_until is null or now() < clock.paused_until) then 'paused'
    when clock.warn_at <= now() then 'warned'
    else 'running'
  end as state,
  clock.started_at,
  clock.started_event_id,
  clock.warn_at,
  clock.due_at,
  clock.stopped_at,
  clock.stopped_event_id,
  clock.stopped_recorded_at,
  clock.business_seconds_used,
  case
    when clock.stopped_at is null and clock.paused_from <= now()
      then clock.paused_seconds
        + extract(epoch from least(now(), coalesce(clock.paused_until, now())) - clock.paused_from)::double precision
    else clock.paused_seconds
  end as paused_seconds,
  case
    when clock.cancelled_reason is null and clock.due_at < coalesce(clock.stopped_at, now())
      then extract(epoch from coalesce(clock.stopped_at, now()) - clock.due_at)::double precision
  end as late_seconds,
  clock.owner_id,
  clock.team_id,
  clock.cancelled_reason,
  clock.calendar_id,
  clock.definition_version
from promoted.sla_clock as clock;

comment on view bi.sla_clock is
  'One row per clock of a hand-off SLA policy. SLA met = met and met_logged_late / all clocks whose due_at lies in the period, without cancelled, running, warned and paused ones.';
comment on column bi.sla_clock.journey_id is 'The person.';
comment on column bi.sla_clock.policy_id is 'The policy of the definition that started it.';
comment on column bi.sla_clock.clock_no is 'Number of the clock among those of its policy and journey, from 1. For showing; a late event may shift it.';
comment on column bi.sla_clock.state is
  'Now: running; warned (running, first warning reached); paused; overdue (running past due_at); or ended: met (stopped at or before due_at), met_logged_late (the same, but recorded only after due_at), breached (stopped late), cancelled.';
comment on column bi.sla_clock.started_at is 'Instant (UTC) of the start, also outside opening hours.';
comment on column bi.sla_clock.started_event_id is 'The event that started it.';
comment on column bi.sla_clock.warn_at is 'Instant (UTC) of the first warning; all are in sla_warning. Null = not known while paused without limit, or no warnings.';
comment on column bi.sla_clock.due_at is 'Instant (UTC) at which the target is used up, pauses left out; a stop at it is in time. Null = not known while paused without limit.';
comment on column bi.sla_clock.stopped_at is 'Instant (UTC) of the stop or cancellation; null = the clock runs.';
comment on column bi.sla_clock.stopped_event_id is 'The event that stopped or cancelled it.';
comment on column bi.sla_clock.stopped_recorded_at is 'Instant (UTC) at which that event was recorded.';
comment on column bi.sla_clock.business_seconds_used is
  'Seconds of the policy''s time from start to stop, pauses left out; around the clock if calendar_id is null. Null while the clock runs.';
comment on column bi.sla_clock.paused_seconds is 'Seconds around the clock that pauses took, up to their limit; of a pause that still lasts up to now.';
comment on column bi.sla_clock.late_seconds is
  'Seconds around the clock from due_at to the stop (overdue: to now). Null = not late, or cancelled.';
comment on column bi.sla_clock.owner_id is 'Owner of the lead when the clock started.';
comment on column bi.sla_clock.team_id is 'Team of the lead when the clock started.';
comment on column bi.sla_clock.cancelled_reason is 'Why it was cancelled: moved (the lead left for elsewhere) or erased; null = not cancelled.';
comment on column bi.sla_clock.calendar_id is 'Business calendar that it is measured with; null = around the clock.';
comment on column bi.sla_clock.definition_version is 'Definition(s) that the row is made with.';
