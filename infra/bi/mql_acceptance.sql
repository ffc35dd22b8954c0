create or replace view bi.mql_acceptance as
select
  date_trunc('month', coalesce(handoff.ended_at, handoff.opened_at) at time zone calendar.zone)::date as month,
  count(*) filter (where handoff.outcome = 'accepted') as accepted,
  count(*) filter (where handoff.outcome = 'rejected') as rejected,
  count(*) filter (where handoff.outcome = 'accepted')::double precision
    / nullif(count(*) filter (where handoff.outcome in ('accepted', 'rejected')), 0) as acceptance,
  count(*) filter (where handoff.outcome = 'bypassed') as bypassed,
  count(*) filter (where handoff.outcome = 'withdrawn') as withdrawn,
  count(*) filter (where handoff.outcome is null) as open,
  (select label collate "C" from promoted.version) as definition_version
from bi.handoff
join bi.calendar on calendar.is_default
group by 1;

comment on view bi.mql_acceptance is
  'MQL acceptance = accepted / (accepted + rejected), by month of the decision. Anchor: handoff.ended_at, for those still open opened_at. Filter: all hand-offs; bypassed, withdrawn and open ones are shown and not part of the share. Definition: definition_version. The hand-offs behind it are in handoff.';
comment on column bi.mql_acceptance.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.mql_acceptance.accepted is 'Number of hand-offs that sales accepted in the month.';
comment on column bi.mql_acceptance.rejected is 'Number of hand-offs that sales rejected in the month.';
comment on column bi.mql_acceptance.acceptance is 'accepted / (accepted + rejected), 0 to 1. Null = nothing was decided.';
comment on column bi.mql_acceptance.bypassed is 'Number of hand-offs that ended in the month by a move above sal without a decision.';
comment on column bi.mql_acceptance.withdrawn is 'Number of hand-offs that ended in the month by a move below mql or to a detour.';
comment on column bi.mql_acceptance.open is 'Number of hand-offs opened in the month that wait for a decision now.';
comment on column bi.mql_acceptance.definition_version is 'Definition(s) that the promoted version is made with.';
