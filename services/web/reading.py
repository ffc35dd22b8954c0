"""What the pages show: lists that fit one, straight from the views of `bi`."""

from typing import Any, NamedTuple

from projections import definition
from projections.agreement.diff import diff
from projections.agreement.standing import why_unreadable
from services import definitions
from services.definitions import Standing
from services.store.pool import Connection
from services.store.reading import Rows, read_shown

LEADS_A_PAGE = 50
DRIFT_ROWS = 24

BASICS = """
select now() as read_at, version.label as definition_version, calendar.zone,
  freshness.lag_seconds, freshness.events_behind, freshness.stale_journeys, freshness.parked_journeys,
  freshness.rebuild_running
from promoted.version
join bi.data_freshness as freshness on freshness.projection = 'lead_current'
left join bi.calendar on calendar.is_default
"""

WANTED = """
from bi.lead_current
where ($1 = '' or stage_role = $1) and ($2 = '' or handoff_status = $2) and ($3 = '' or owner_id = $3)
  and ($4 = '' or $4 in (first_offer_id, last_offer_before_mql_id))
  and ($5 = '' or journey_id in (select journey_id from bi.stage_visit where stage_role = $5))
  and ($6::timestamptz = '-infinity'
    or journey_id in (select journey_id from bi.stage_visit where visit_no = 1 and entered_at >= $6))
"""
LEADS = f"""
select journey_id, stage, stage_entered_at, handoff_status, owner_id, team_id, score,
  first_offer_id, last_offer_before_mql_id, last_event_at, is_parked
{WANTED}
order by last_event_at desc, journey_id
limit $7 offset $8
"""
HOW_MANY_LEADS = f"select count(*) {WANTED}"

SAME_BEGINNING = """
select subject_id from bi.lead_subject
where subject_id >= $1 and subject_id < $1 || U&'\\+10FFFF'
order by subject_id limit 20
"""

STAGES = """
select stage.name, stage.role, role.is_success
from bi.stage
join bi.stage_role as role using (role)
order by stage.position
"""

HANDOFFS = """
with clock as (
  select distinct on (journey_id) journey_id, policy_id, state, due_at,
    extract(epoch from due_at - now())::double precision as seconds_left
  from bi.sla_clock
  where state in ('running', 'warned', 'paused', 'overdue')
  order by journey_id, due_at
)
select handoff.journey_id, lead.owner_id, lead.team_id, handoff.ended_at, handoff.reason_code,
  extract(epoch from coalesce(handoff.ended_at, now()) - handoff.opened_at)::double precision
    as waiting_seconds,
  clock.policy_id, clock.state, clock.due_at, clock.seconds_left,
  lead.score, lead.last_offer_before_mql_id as offer_id, lead.last_campaign_before_mql_id as campaign_id,
  count(*) over () as total
from bi.handoff
join bi.lead_current as lead using (journey_id)
left join clock on clock.journey_id = handoff.journey_id and handoff.outcome is null
where coalesce(handoff.outcome, 'open') = $1 and ($2 = '' or lead.owner_id = $2)
  and ($3 = '' or lead.team_id = $3) and coalesce(handoff.ended_at, handoff.opened_at) >= $4
order by handoff.ended_at desc,
  case when clock.state = 'overdue' then 3 when clock.state is null then 2 else 1 end,
  abs(clock.seconds_left), handoff.opened_at desc, handoff.journey_id
limit $5
"""
HANDOFFS_AT_MOST = 200

CAMPAIGNS = """
with pulled_in as (
  select last_campaign_before_mql_id as campaign_id, count(*) as mqls
  from bi.lead_current group by 1
),
began as (
  select first_campaign_id as campaign_id, count(*) as leads
  from bi.lead_current group by 1
)
select campaign.*, coalesce(began.leads, 0) as leads, coalesce(pulled_in.mqls, 0) as mqls,
  case when ends_at < now() then 'over' when starts_at > now() then 'to come' else 'running' end as phase
from bi.campaign
left join began using (campaign_id)
left join pulled_in using (campaign_id)
order by coalesce(ends_at < now(), false), case when ends_at < now() then ends_at end desc, starts_at,
  campaign_id
"""

TALKING_POINTS = """
select campaign_id, kind, body from bi.campaign_talking_point order by campaign_id, position
"""

# From the hand-offs, not from mql_acceptance: a date may be in the middle of a month.
ACCEPTANCE = """
select date_trunc('month', handoff.ended_at at time zone calendar.zone)::date as month,
  count(*) filter (where handoff.outcome = 'accepted') as accepted,
  count(*) filter (where handoff.outcome = 'rejected') as rejected,
  count(*) filter (where handoff.outcome = 'accepted')::double precision / count(*) as acceptance
from bi.handoff
join bi.calendar on calendar.is_default
where handoff.outcome in ('accepted', 'rejected') and handoff.ended_at >= $1
group by 1 order by 1 desc limit $2
"""
MONTHS = 12

CONVERSION = """
select segment, leads, immature_leads, converted, conversion, median_days
from bi.conversion_by_segment
where segment_kind = $1 and to_role = $2 and within_days = $3
order by leads desc, segment limit $4
"""
SEGMENTS_AT_MOST = 100

DRIFT = """
select week, compared_with, journeys, disagreeing, share, mql_here_only, mql_there_only
from bi.definition_drift order by week desc, compared_with limit $1
"""

MEETINGS = """
select event_id, held_at, kind, outcome, stage, actor_id from bi.meeting where journey_id = $1
order by held_at, event_id
"""

REQUESTS = """
select request_id, topic, asset_type, requested_at, requested_by, delivered_at, days_open
from bi.content_request where journey_id = $1 order by requested_at, request_id
"""


class Version(NamedTuple):
    """A version of the definition, and what it changed against the one before, in the trade's language."""

    standing: Standing
    changes: list[str]


async def read_basics(connection: Connection) -> dict[str, Any]:
    """What stands on every page: its instant, definition version, zone of the calendar, freshness."""
    [row] = await read_shown(connection, BASICS)
    return row


async def read_campaigns(connection: Connection) -> Rows:
    """The calendar, each campaign with its `points`: those to come and under way first."""
    campaigns = await read_shown(connection, CAMPAIGNS)
    points: dict[str, Rows] = {}
    for row in await read_shown(connection, TALKING_POINTS):
        points.setdefault(row["campaign_id"], []).append(row)
    return [row | {"points": points.get(row["campaign_id"], [])} for row in campaigns]


async def read_versions(connection: Connection) -> list[Version]:
    """Every version that was proposed, the latest first."""
    standings = await definitions.read_standings(connection)
    earlier = [None, *standings]
    return [Version(each, _changes(earlier[place], each)) for place, each in enumerate(standings)][::-1]


def _changes(before: Standing | None, after: Standing) -> list[str]:
    """Nothing where it cannot be said: the first, another name, one that this release cannot read."""
    if before is None or before.agreement.definition_id != after.agreement.definition_id:
        return []
    bodies = [each.agreement.proposals[0].body for each in (before, after) if each.agreement.proposals]
    if len(bodies) < 2 or any(map(why_unreadable, bodies)):
        return []
    return [change.sentence for change in diff(*map(definition.parse, bodies))]
