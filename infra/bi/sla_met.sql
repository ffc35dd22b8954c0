create or replace view bi.sla_met as
select
  date_trunc('month', clock.due_at at time zone calendar.zone)::date as month,
  clock.policy_id,
  count(*) filter (where clock.state in ('met', 'met_logged_late', 'breached', 'overdue')) as clocks,
  count(*) filter (where clock.state in ('met', 'met_logged_late')) as met,
  count(*) filter (where clock.state = 'met_logged_late') as met_logged_late,
  count(*) filter (where clock.state = 'breached') as breached,
  count(*) filter (where clock.state = 'overdue') as overdue,
  count(*) filter (where clock.state in ('met', 'met_logged_late'))::double precision
    / nullif(count(*) filter (where clock.state in ('met', 'met_logged_late', 'breached', 'overdue')), 0) as sla_met,
  count(*) filter (where clock.state in ('running', 'warned')) as running,
  count(*) filter (where clock.state = 'paused') as paused,
  count(*) filter (where clock.state = 'cancelled') as cancelled,
  (select label collate "C" from promoted.version) as definition_version
from bi.sla_clock as clock
join bi.calendar on calendar.is_default
group by 1, clock.policy_id;

comment on view bi.sla_met is
  'Share of SLA clocks met, by policy and the month in which they were due. Anchor: sla_clock.due_at. Filter: clocks that ended or are overdue; running, paused and cancelled ones are shown and not counted. Definition: definition_version. The clocks behind it are in sla_clock.';
comment on column bi.sla_met.month is
  'First date of the month of due_at, in the zone of the definition''s calendar. Null = not known, the clock is paused without limit.';
comment on column bi.sla_met.policy_id is 'The policy of the definition.';
comment on column bi.sla_met.clocks is 'Number of clocks counted: met + breached + overdue.';
comment on column bi.sla_met.met is 'Number of clocks stopped at or before due_at, those logged late included.';
comment on column bi.sla_met.met_logged_late is 'Number of those that were recorded only after due_at.';
comment on column bi.sla_met.breached is 'Number of clocks stopped after due_at.';
comment on column bi.sla_met.overdue is 'Number of clocks past due_at that still run.';
comment on column bi.sla_met.sla_met is 'met / clocks, 0 to 1. Null = none was due.';
comment on column bi.sla_met.running is 'Number of clocks that run and are not due yet, warned ones included.';
comment on column bi.sla_met.paused is 'Number of clocks that are paused now.';
comment on column bi.sla_met.cancelled is 'Number of clocks cancelled: the lead moved elsewhere or was erased.';
comment on column bi.sla_met.definition_version is 'Definition(s) that the promoted version is made with.';
