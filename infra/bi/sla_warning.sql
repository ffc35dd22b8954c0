create or replace view bi.sla_warning as
select
  journey_id,
  policy_id,
  clock_no::bigint as clock_no,
  share,
  warn_at,
  (select label from promoted.version) as definition_version
from promoted.sla_warning;

comment on view bi.sla_warning is 'One row per warning of a clock: when a share of its target is used up.';
comment on column bi.sla_warning.journey_id is 'The person.';
comment on column bi.sla_warning.policy_id is 'The policy of the clock.';
comment on column bi.sla_warning.clock_no is 'Number of the clock, as in sla_clock.';
comment on column bi.sla_warning.share is 'Share of the target, 0 to 1 (0.8 = four fifths used).';
comment on column bi.sla_warning.warn_at is 'Instant (UTC) at which the share is used up; null = not known while paused without limit.';
comment on column bi.sla_warning.definition_version is 'Definition(s) that the row is made with.';
