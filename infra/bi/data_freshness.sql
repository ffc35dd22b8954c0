create or replace view bi.data_freshness as
with version as (
  select version_no, label from promoted.version
),
lag as (
  select
    case when min(lag.measured_at) > now() - interval '60 seconds'
      then sum(greatest(lag.end_offset - coalesce(position.next_offset, 0), 0))::bigint
    end as events_behind,
    case when bool_and(lag.caught_up_at is not null)
      then greatest(extract(epoch from now() - min(lag.caught_up_at)), 0)::double precision
    end as lag_seconds
  from ops.lag
  left join log.position using (topic, partition)
),
journey as (
  select
    (select max(last_event_at) from promoted.lead_state) as last_event_at,
    (select count(*) from promoted.journey where is_stale)
      + (
        select count(*) from promoted.journey
        where not is_stale and reference_revision < (select revision from log.reference_revision)
          and not exists (
            select from ops.parked join version using (version_no) where parked.journey_id = journey.journey_id
          )
      ) as stale_journeys,
    (select count(*) from ops.parked join version using (version_no)) as parked_journeys,
    exists (select from ops.version where status = 'building' and not is_verification) as rebuild_running
)
select
  projection.name as projection,
  journey.last_event_at,
  lag.lag_seconds,
  lag.events_behind,
  journey.stale_journeys,
  journey.parked_journeys,
  journey.rebuild_running,
  version.label as definition_version
from (
  values
    ('lead_current'), ('lead_money'), ('stage_visit'), ('handoff'), ('sla_clock'), ('sla_warning'), ('opportunity'),
    ('credit'), ('fault'), ('touch'), ('campaign_exposure'), ('meeting'), ('content_request'), ('lead_attribute')
) as projection (name)
cross join version
cross join lag
cross join journey;

comment on view bi.data_freshness is
  'One row per projection: how fresh and how complete it is. All projections of a version are written together, so the rows differ in their name only.';
comment on column bi.data_freshness.projection is 'The view that shows the projection.';
comment on column bi.data_freshness.last_event_at is 'Latest instant (UTC) at which any event that counts happened; null = no events.';
comment on column bi.data_freshness.lag_seconds is
  'Seconds since everything published up to then had been read on every partition: the data is complete but for events younger than this. Null = never seen complete.';
comment on column bi.data_freshness.events_behind is
  'Number of published events not read yet; null = not known, since the projector has not reported for 60 seconds.';
comment on column bi.data_freshness.stale_journeys is 'Number of journeys whose rows wait to be brought up to what has been read.';
comment on column bi.data_freshness.parked_journeys is 'Number of journeys stopped by a defect in the code: their rows stay as they were.';
comment on column bi.data_freshness.rebuild_running is 'True = another version is being built beside this one; these numbers are not touched by it.';
comment on column bi.data_freshness.definition_version is 'Definition(s) that the promoted version is made with.';
