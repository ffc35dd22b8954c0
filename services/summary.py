"""The numbers of all leads that fit on one page, read from the views as any report would.

Promises: every number comes from the views of `bi` at one instant and one definition version, which is named
beside them; amounts of different currencies are never added, and a deal that several journeys share is
counted once. With a date, each section counts from it by the instant that its number is about: first event,
decision, due, entry, close, win, fault.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from services.store.pool import Connection
from services.store.reading import read_shown
from services.store.timeline import entries_of
from services.store.versions import promoted_version

MODELS = ("first", "linear", "last_non_direct")
"""Attribution models shown unless others are asked for: both ends, and all alike."""

SINCE = """
select coalesce($1::date, '-infinity')::timestamp at time zone zone from bi.calendar where is_default
"""

UNTIL = """
select coalesce($1::date + 1, 'infinity')::timestamp at time zone zone from bi.calendar where is_default
"""

# `in`, not a join: Postgres takes the leads for few, and would look each one up by itself.
FUNNEL = """
with lead as (
  select journey_id from bi.stage_visit where visit_no = 1 and entered_at >= $1
),
reached as (
  select stage_role, count(*) as journeys
  from (
    select distinct journey_id, stage_role from bi.stage_visit
    where $1 = '-infinity' or journey_id in (select journey_id from lead)
  ) as once
  group by stage_role
),
present as (
  select stage_role, count(*) as journeys
  from bi.lead_current
  where $1 = '-infinity' or journey_id in (select journey_id from lead)
  group by stage_role
),
funnel as (
  select stage.position, stage.name as stage, stage.role as stage_role, stage_role.is_success,
    coalesce(reached.journeys, 0) as reached, coalesce(present.journeys, 0) as now
  from bi.stage
  join bi.stage_role using (role)
  left join reached on reached.stage_role = stage.role
  left join present on present.stage_role = stage.role
)
select stage, stage_role, reached,
  case when is_success then reached::double precision / nullif(lag(reached) over (order by position), 0) end
    as of_previous,
  now
from funnel order by position
"""

HANDOFFS = """
select coalesce(outcome, 'open') as outcome, count(*) as handoffs
from bi.handoff
where coalesce(ended_at, opened_at) >= $1
group by 1 order by 2 desc, 1
"""

ACCEPTANCE = """
select count(*) filter (where outcome = 'accepted')::double precision / nullif(count(*), 0)
from bi.handoff
where outcome in ('accepted', 'rejected') and ended_at >= $1
"""

SLA = """
with clock as (
  select policy_id, state, state in ('met', 'met_logged_late') as is_met,
    state in ('met', 'met_logged_late', 'breached', 'overdue') as is_counted
  from bi.sla_clock
  where coalesce(due_at, started_at) >= $1
)
select policy_id,
  count(*) filter (where is_met)::double precision / nullif(count(*) filter (where is_counted), 0) as sla_met,
  count(*) filter (where is_counted) as clocks,
  count(*) filter (where is_met) as met,
  count(*) filter (where state = 'met_logged_late') as met_logged_late,
  count(*) filter (where state = 'breached') as breached,
  count(*) filter (where state = 'overdue') as overdue,
  count(*) filter (where state in ('running', 'warned')) as running,
  count(*) filter (where state = 'paused') as paused,
  count(*) filter (where state = 'cancelled') as cancelled
from clock group by policy_id order by policy_id
"""

TIME_IN_STAGE = """
select stage.name as stage, stage.role as stage_role,
  count(*) filter (where not is_open) as closed_visits,
  count(*) filter (where is_open) as open_visits,
  percentile_cont(0.5) within group (order by calendar_seconds) filter (where not is_open)
    as closed_median_seconds,
  ops.kaplan_meier_median(array_agg(calendar_seconds), array_agg(is_open)) as median_seconds,
  ops.kaplan_meier_median(array_agg(business_seconds), array_agg(is_open)) as median_business_seconds,
  count(*) < 20 as is_small
from bi.stage_visit
join bi.stage on stage.role = stage_visit.stage_role
where not is_inferred and entered_at >= $1
group by stage.position, stage.name, stage.role order by stage.position
"""

DEALS = """
select status, currency, count(*) as opportunities,
  sum(amount_minor)::bigint as amount_minor, sum(adjusted_minor)::bigint as adjusted_minor
from bi.opportunity
where is_counted and coalesce(closed_at, opened_at, '-infinity') >= $1
group by 1, 2 order by 1 desc, 2
"""

CREDIT = """
select credit.model, credit.channel, credit.currency, sum(credit.amount_minor)::bigint as amount_minor,
  round(
    sum(case credit.kind when 'win' then credit.weight when 'reversal' then -credit.weight end)::numeric, 9
  )::double precision as deals
from bi.credit
join bi.opportunity using (journey_id, opportunity_id)
where opportunity.is_counted and credit.won_at >= $1 and credit.model = any($2)
group by 1, 2, 3 order by 1, 3, 4 desc, 2
"""

FAULTS = "select code, count(*) as events from bi.fault where occurred_at >= $1 group by 1 order by 2 desc, 1"

FRESHNESS = """
select last_event_at, lag_seconds, events_behind, stale_journeys, parked_journeys, rebuild_running,
  definition_version
from bi.data_freshness where projection = 'lead_current'
"""


async def known_models(connection: Connection) -> list[str]:
    """The attribution models of all definitions that the promoted version is made with.

    Raises NothingPromoted before the first version.
    """
    entries = entries_of((await promoted_version(connection)).timeline)
    return list(dict.fromkeys(model.name for each in entries for model in each.definition.attribution.models))


async def begin_of(connection: Connection, since: date | None) -> int:
    """The instant from which a date counts: its beginning where the definition's calendar is."""
    begin: int = await connection.fetchval(SINCE, since)
    return begin


async def end_of(connection: Connection, until: date | None) -> int:
    """The instant up to which a date counts, with all of that date."""
    end: int = await connection.fetchval(UNTIL, until)
    return end


async def read_summary(connection: Connection, models: Sequence[str], since: date | None) -> dict[str, Any]:
    """The page: the numbers, with `freshness` and definition version beside them.

    Raises asyncpg.UndefinedTableError before the first version.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        freshness = (await read_shown(connection, FRESHNESS))[0]
        return {
            "definition_version": freshness.pop("definition_version"),
            **await read_numbers(connection, models, since),
            "freshness": freshness,
        }


async def read_numbers(connection: Connection, models: Sequence[str], since: date | None) -> dict[str, Any]:
    """Lists of rows by section, `acceptance` as a single value, in the caller's transaction.

    Credit is shown for the attribution models named. `since` is a date in the zone of the definition's
    calendar; None = everything.
    """
    begin = await begin_of(connection, since)
    return {
        "since": since.isoformat() if since else None,
        "funnel": await read_shown(connection, FUNNEL, begin),
        "handoffs": await read_shown(connection, HANDOFFS, begin),
        "acceptance": await connection.fetchval(ACCEPTANCE, begin),
        "sla": await read_shown(connection, SLA, begin),
        "time_in_stage": await read_shown(connection, TIME_IN_STAGE, begin),
        "opportunities": await read_shown(connection, DEALS, begin),
        "credit": await read_shown(connection, CREDIT, begin, list(models)),
        "faults": await read_shown(connection, FAULTS, begin),
    }
