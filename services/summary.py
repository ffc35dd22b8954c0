"""The numbers of all leads that fit on one page, read from the views as any report would.

Promises: every number comes from the views of `bi` at one instant and one definition version, which is named
beside them; amounts of different currencies are never added, and a deal that several journeys share is
counted once.
"""

from collections.abc import Sequence
from typing import Any

from schemas.instants import rfc3339
from services.store.pool import Connection

FUNNEL = """
select stage.position, stage.name as stage, stage.role as stage_role,
  coalesce(reached.journeys, 0) as reached, coalesce(present.journeys, 0) as now
from bi.stage
left join (
  select stage_role, count(distinct journey_id) as journeys from bi.stage_visit group by stage_role
) as reached on reached.stage_role = stage.role
left join (
  select stage_role, count(*) as journeys from bi.lead_current group by stage_role
) as present on present.stage_role = stage.role
order by stage.position
"""

HANDOFFS = """
select coalesce(outcome, 'open') as outcome, count(*) as handoffs
from bi.handoff group by 1 order by 2 desc, 1
"""

SLA = """
select policy_id, state, count(*) as clocks
from bi.sla_clock group by 1, 2 order by 1, 3 desc, 2
"""

DEALS = """
select status, currency, count(*) as opportunities,
  sum(amount_minor)::bigint as amount_minor, sum(adjusted_minor)::bigint as adjusted_minor
from bi.opportunity where is_counted group by 1, 2 order by 1 desc, 2
"""

CREDIT = """
select credit.model, credit.channel, credit.currency, sum(credit.amount_minor)::bigint as amount_minor,
  sum(credit.weight) filter (where credit.kind = 'win') as wins
from bi.credit
join bi.opportunity using (journey_id, opportunity_id)
where opportunity.is_counted and credit.model = any($1)
group by 1, 2, 3 order by 1, 3, 4 desc, 2
"""

FAULTS = "select code, count(*) as events from bi.fault group by 1 order by 2 desc, 1"

FRESHNESS = """
select last_event_at, lag_seconds, events_behind, stale_journeys, parked_journeys, rebuild_running,
  definition_version
from bi.data_freshness where projection = 'lead_current'
"""

Rows = list[dict[str, Any]]


async def read_summary(connection: Connection, models: Sequence[str]) -> dict[str, Any]:
    """The page: lists of rows by section, `freshness` and `acceptance` as single values.

    Credit is shown for the attribution models named. Raises asyncpg.UndefinedTableError before the first
    version.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        freshness = (await _rows(connection, FRESHNESS))[0]
        handoffs = await _rows(connection, HANDOFFS)
        return {
            "definition_version": freshness.pop("definition_version"),
            "funnel": await _rows(connection, FUNNEL),
            "handoffs": handoffs,
            "acceptance": acceptance(handoffs),
            "sla": await _rows(connection, SLA),
            "opportunities": await _rows(connection, DEALS),
            "credit": await _rows(connection, CREDIT, list(models)),
            "faults": await _rows(connection, FAULTS),
            "freshness": freshness,
        }


def acceptance(handoffs: Rows) -> float | None:
    """Hand-offs that ended accepted, as a share of those that ended accepted or rejected."""
    count = {row["outcome"]: int(row["handoffs"]) for row in handoffs}
    accepted, rejected = count.get("accepted", 0), count.get("rejected", 0)
    return accepted / (accepted + rejected) if accepted + rejected else None


async def _rows(connection: Connection, query: str, *arguments: object) -> Rows:
    statement = await connection.prepare(query)
    instants = {each.name for each in statement.get_attributes() if each.type.name == "timestamptz"}
    return [
        {
            name: rfc3339(value) if name in instants and value is not None else value
            for name, value in row.items()
        }
        for row in await statement.fetch(*arguments)
    ]
