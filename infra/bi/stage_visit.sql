create or replace view bi.stage_visit as
with calendar as materialized (
  select
    chosen.calendar_no,
    chosen.covers_from,
    now() <= chosen.covers_until as is_covered,
    coalesce(latest.open_micros, 0) as open_micros
  from promoted.calendar as chosen
  left join lateral (
    select open_micros_before + (extract(epoch from least(now(), closes_at) - opens_at) * 1000000)::bigint as open_micros
    from promoted.calendar_window
    where calendar_no = chosen.calendar_no and opens_at <= now()
    order by opens_at desc
    limit 1
  ) as latest on true
  where chosen.measures_visits and (chosen.valid_from is null or chosen.valid_from <= now())
  order by chosen.valid_from desc nulls last
  limit 1
)
select
  visit.journey_id,
  visit.visit_no::bigint as visit_no,
  visit.stage,
  visit.stage_role,
  visit.entered_at,
  visit.left_at,
  visit.next_stage,
  visit.reason_code,
  visit.is_inferred,
  visit.left_at is null as is_open,
  visit.entered_event_id,
  visit.left_event_id,
  case
    when visit.left_at is null then greatest(extract(epoch from now() - visit.entered_at), 0)::double precision
    else visit.calendar_seconds
  end as calendar_seconds,
  case
    when visit.left_at is not null then visit.business_seconds
    else (
      select greatest(open_micros - coalesce((
          select open_micros_before + (extract(epoch from least(visit.entered_at, closes_at) - opens_at) * 1000000)::bigint
          from promoted.calendar_window
          where calendar_no = calendar.calendar_no and opens_at <= visit.entered_at
          order by opens_at desc
          limit 1
        ), 0), 0) / 1000000::double precision
      from calendar
      where is_covered and visit.entered_at >= covers_from
    )
  end as business_seconds,
  visit.definition_version
from promoted.stage_visit as visit;

comment on view bi.stage_visit is
  'One row per stay of a journey in a stage. The visits that are not inferred follow each other without gap from the first event on.';
comment on column bi.stage_visit.journey_id is 'The person.';
comment on column bi.stage_visit.visit_no is 'Number of the visit in its journey, from 1, in order of time.';
comment on column bi.stage_visit.stage is 'Name of the stage as it was when entered.';
comment on column bi.stage_visit.stage_role is 'Fixed role of the stage; survives renaming.';
comment on column bi.stage_visit.entered_at is 'Instant (UTC) of entering.';
comment on column bi.stage_visit.left_at is 'Instant (UTC) of leaving = entering the next stage; null = still there.';
comment on column bi.stage_visit.next_stage is 'Name of the stage entered next; null = still there.';
comment on column bi.stage_visit.reason_code is 'Reason given by the event that ended the visit; null = none given.';
comment on column bi.stage_visit.is_inferred is 'True = the lead skipped this stage: a visit of no length, so that every lead at a later stage is counted here too.';
comment on column bi.stage_visit.is_open is 'True = the lead is in this stage now; its seconds are counted up to now.';
comment on column bi.stage_visit.entered_event_id is 'The event that led into the stage.';
comment on column bi.stage_visit.left_event_id is 'The event that led out of it; null = still there.';
comment on column bi.stage_visit.calendar_seconds is 'Seconds around the clock from entering to leaving (open: to now). Medians: take is_open = false only and say so.';
comment on column bi.stage_visit.business_seconds is
  'Seconds inside the opening hours of the definition''s calendar from entering to leaving (open: to now). Null = an open visit outside the years for which the calendar is laid out.';
comment on column bi.stage_visit.definition_version is 'Definition(s) that the row is made with.';
