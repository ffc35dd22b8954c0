create or replace view bi.sla_met_by_owner as
select
  date_trunc('month', clock.due_at at time zone calendar.zone)::date as month,
  clock.policy_id,
  coalesce(clock.team_id, lead.team_id) as team_id,
  coalesce(clock.owner_id, lead.owner_id) as owner_id,
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
left join bi.lead_current as lead using (journey_id)
join bi.calendar on calendar.is_default
group by 1, 2, 3, 4;

comment on view bi.sla_met_by_owner is
  'Share of SLA clocks met, by policy, team, owner and the month in which they were due. Anchor: sla_clock.due_at. Filter: clocks that ended or are overdue; running, paused and cancelled ones are shown and not counted. Definition: definition_version. The clocks behind it are in sla_clock.';
comment on column bi.sla_met_by_owner.month is
  'First date of the month of due_at, in the zone of the definition''s calendar. Null = not known, the clock is paused without limit.';
comment on column bi.sla_met_by_owner.policy_id is 'The policy of the definition.';
comment on column bi.sla_met_by_owner.team_id is 'Team of the lead when the clock started; where it had none, its present one. Null = none.';
comment on column bi.sla_met_by_owner.owner_id is 'Owner of the lead when the clock started; where it had none, its present one. Null = nobody.';
comment on column bi.sla_met_by_owner.clocks is 'Number of clocks counted: met + breached + overdue.';
comment on column bi.sla_met_by_owner.met is 'Number of clocks stopped at or before due_at, those logged late included.';
comment on column bi.sla_met_by_owner.met_logged_late is 'Number of those that were recorded only after due_at.';
comment on column bi.sla_met_by_owner.breached is 'Number of clocks stopped after due_at.';
comment on column bi.sla_met_by_owner.overdue is 'Number of clocks past due_at that still run.';
comment on column bi.sla_met_by_owner.sla_met is 'met / clocks, 0 to 1. Null = none was due.';
comment on column bi.sla_met_by_owner.running is 'Number of clocks that run and are not due yet, warned ones included.';
comment on column bi.sla_met_by_owner.paused is 'Number of clocks that are paused now.';
comment on column bi.sla_met_by_owner.cancelled is 'Number of clocks cancelled: the lead moved elsewhere or was erased.';
comment on column bi.sla_met_by_owner.definition_version is 'Definition(s) that the promoted version is made with.';
