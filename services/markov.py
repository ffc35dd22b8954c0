"""The Markov report over all closed journeys, read from the views as any report would.

Promises: one path per deal that was won or lost by the report's date, with the touches up to its close; one
per journey without a deal that was quiet by then, up to its last event. Touches are those that may get credit
by the definition in force at that date. Deals count once, by what is known of them today: one that was
reopened since is not closed. Leaves what is made of the paths to `projections.markov`.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from projections import markov
from projections.business_time import DAY
from projections.definition import Attribution
from schemas.records import Micros
from services.store.pool import Connection
from services.store.timeline import calendar_facts, rules_of
from services.store.versions import promoted_version

REPORT_DATE = """
select asked.on_date, least((asked.on_date + 1)::timestamp at time zone calendar.zone, now()) as ends_at
from bi.calendar
cross join lateral (
  select least($1::date, (now() at time zone calendar.zone)::date) as on_date
) as asked
where calendar.is_default
"""

CLOSED = """
with last_event as (
  select lead.journey_id,
    case
      when lead.last_event_at < $1 then lead.last_event_at
      else (
        select max(event.occurred_at)
        from bi.lead_subject as subject
        join log.event using (subject_id)
        where subject.journey_id = lead.journey_id
          and event.status is null and event.occurred_at < $1
          and event.record_name not in ('EventRetracted', 'SubjectsUnlinked', 'SubjectErased')
          and not exists (select from bi.fault where fault.event_id = event.event_id and fault.copy_no = 1)
      )
    end as happened_at
  from bi.lead_current as lead
),
closed as (
  select journey_id, opportunity_id, status = 'won' as is_converted, closed_at as ended_at
  from bi.opportunity
  where is_counted and closed_at < $1
  union all
  select journey_id, null, false, happened_at
  from last_event
  where happened_at <= $1 - $2::bigint * interval '1 microsecond'
    and not exists (
      select from bi.opportunity
      where opportunity.journey_id = last_event.journey_id
        and coalesce(least(opportunity.opened_at, opportunity.closed_at), '-infinity') < $1
    )
),
contact as (
  select journey_id, event_id, channel, touched_at, source_sequence
  from bi.touch
  where ($4::text[] is null or direction = any($4)) and ($5::text[] is null or touch_type = any($5))
  union all
  select journey_id, event_id, channel, exposed_at, null
  from bi.campaign_exposure
  where exposure_type = any($6)
)
select
  closed.is_converted,
  coalesce(
    array_agg(
      contact.channel order by contact.touched_at, contact.source_sequence nulls first, contact.event_id
    ) filter (where contact.event_id is not null),
    array[]::text[]
  ) as channels
from closed
left join contact
  on contact.journey_id = closed.journey_id
  and contact.touched_at <= closed.ended_at
  and contact.touched_at >= closed.ended_at - $3::bigint * interval '1 microsecond'
group by closed.journey_id, closed.opportunity_id, closed.is_converted
"""


async def read_report(
    connection: Connection, order: int, as_of: date | None, quiet_days: int
) -> dict[str, Any]:
    """The report as of the end of a date in the zone of the definition's calendar, the largest credit first.

    `as_of` None or later is today. A journey without a deal is closed once it had no event for `quiet_days`.
    Raises NothingPromoted before the first version.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        [(on_date, ends_at)] = await connection.fetch(REPORT_DATE, as_of)
        promoted = await promoted_version(connection)
        rules = rules_of(promoted.timeline, await calendar_facts(connection))
        paths = await _paths(connection, ends_at, quiet_days, rules.at(ends_at).attribution)
    found = markov.report(paths, order)
    return {
        "model": "markov",
        "order": order,
        "as_of": on_date.isoformat(),
        "quiet_days": quiet_days,
        "definition_version": promoted.label,
        "paths": found.paths,
        "conversions": found.conversions,
        "unattributed": found.unattributed,
        "channels": [line._asdict() for line in sorted(found.channels, key=lambda line: -line.credit)],
    }


async def _paths(
    connection: Connection, ends_at: Micros, quiet_days: int, attribution: Attribution
) -> list[markov.Path]:
    rows = await connection.fetch(
        CLOSED,
        ends_at,
        quiet_days * DAY,
        attribution.lookback,
        _values(attribution.touches.direction),
        _values(attribution.touches.touch_type),
        _values(attribution.exposures),
    )
    return [markov.Path(row["channels"], row["is_converted"]) for row in rows]


def _values(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)
