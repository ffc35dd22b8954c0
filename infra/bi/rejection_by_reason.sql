create or replace view bi.rejection_by_reason as
select
  date_trunc('month', handoff.ended_at at time zone calendar.zone)::date as month,
  handoff.reason_code,
  count(*) as rejected,
  count(*)::double precision
    / sum(count(*)) over (partition by date_trunc('month', handoff.ended_at at time zone calendar.zone)::date)
    as share,
  (select label collate "C" from promoted.version) as definition_version
from bi.handoff
join bi.calendar on calendar.is_default
where handoff.outcome = 'rejected'
group by 1, 2;

comment on view bi.rejection_by_reason is
  'Why sales rejected hand-offs, by month of the decision. Anchor: handoff.ended_at. Filter: outcome rejected. Definition: definition_version. The hand-offs behind it are in handoff.';
comment on column bi.rejection_by_reason.month is 'First date of the month, in the zone of the definition''s calendar.';
comment on column bi.rejection_by_reason.reason_code is 'Reason of the rejection, one of the definition''s.';
comment on column bi.rejection_by_reason.rejected is 'Number of hand-offs rejected for it in the month.';
comment on column bi.rejection_by_reason.share is 'rejected / all rejected in the month, 0 to 1.';
comment on column bi.rejection_by_reason.definition_version is 'Definition(s) that the promoted version is made with.';
