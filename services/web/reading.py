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
  and ($5 = '' or $5 in (first_campaign_id, last_campaign_before_mql_id))
  and ($6 = '' or journey_id in (select journey_id from bi.stage_visit where stage_role = $6))
  and ($7::timestamptz = '-infinity'
    or journey_id in (select journey_id from bi.stage_visit where visit_no = 1 and entered_at >= $7))
"""
LEADS = f"""
select journey_id, stage, stage_entered_at, handoff_status, owner_id, team_id, score,
  first_offer_id, last_offer_before_mql_id, last_event_at, is_parked
{WANTED}
order by last_event_at desc, journey_id
limit $8 offset $9
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
select handoff.journey_id, lead.owner_id, lead.team_id, handoff.ended_at, handoff.reason_code,
  extract(epoch from coalesce(handoff.ended_at, now()) - handoff.opened_at)::double precision
    as waiting_seconds,
  clock.policy_id, clock.state, clock.due_at, clock.seconds_left,
  lead.score, lead.last_offer_before_mql_id as offer_id, lead.last_campaign_before_mql_id as campaign_id,
  count(*) over () as total
from bi.handoff
join bi.lead_current as lead using (journey_id)
left join lateral (
  select policy_id, state, due_at, extract(epoch from due_at - now())::double precision as seconds_left
  from bi.sla_clock
  where journey_id = handoff.journey_id and state in ('running', 'warned', 'paused', 'overdue')
  order by due_at limit 1
) as clock on handoff.outcome is null
where coalesce(handoff.outcome, 'open') = $1 and ($2 = '' or lead.owner_id = $2)
  and ($3 = '' or lead.team_id = $3) and ($4 = '' or handoff.reason_code = $4)
  and coalesce(handoff.ended_at, handoff.opened_at) >= $5
  and coalesce(handoff.ended_at, handoff.opened_at) < $6
order by handoff.ended_at desc,
  case when clock.state = 'overdue' then 3 when clock.state is null then 2 else 1 end,
  abs(clock.seconds_left), handoff.opened_at desc, handoff.journey_id
limit $7
"""
ROWS_AT_MOST = 200
"""Of a list without pages; its first line says how many there are."""

REJECTIONS = """
select reason_code, count(*) as handoffs, count(*)::double precision / sum(count(*)) over () as share
from bi.handoff
where outcome = 'rejected' and ended_at >= $1
group by 1 order by 2 desc, 1
"""

# Most clocks start before anybody has the lead: then by who has it now, as in bi.sla_met_by_owner.
CLOCKS_WANTED = """
with clock as (
  select clock.*, coalesce(clock.owner_id, lead.owner_id) as owner,
    coalesce(clock.team_id, lead.team_id) as team
  from bi.sla_clock as clock
  left join bi.lead_current as lead using (journey_id)
),
wanted as (
  select * from clock
  where ($1 = '' or policy_id = $1) and ($2 = '' or owner = $2) and ($3 = '' or team = $3)
    and coalesce(due_at, started_at) >= $4
)
"""
CLOCKS = f"""
{CLOCKS_WANTED}
select journey_id, policy_id, state, started_at, due_at, stopped_at, late_seconds, owner, team,
  cancelled_reason, count(*) over () as total
from wanted
where cardinality($5::text[]) = 0 or state = any($5)
order by coalesce(due_at, started_at) desc, journey_id, policy_id limit $6
"""
OWNERS = f"""
{CLOCKS_WANTED}
select owner, team, count(*) filter (where state in ('met', 'met_logged_late')) as met,
  count(*) filter (where state = 'breached') as breached,
  count(*) filter (where state = 'overdue') as overdue,
  count(*) filter (where state in ('met', 'met_logged_late'))::double precision / count(*) as sla_met
from wanted
where state in ('met', 'met_logged_late', 'breached', 'overdue')
group by 1, 2 order by count(*) filter (where state in ('breached', 'overdue')) desc, 1, 2 limit $5
"""
OWNERS_AT_MOST = 50
POLICIES = "select distinct policy_id from bi.sla_clock order by 1"

DEALS = """
select opportunity.journey_id, opportunity.opportunity_id, opportunity.status, opportunity.closed_at,
  greatest(extract(epoch from coalesce(opportunity.closed_at, now()) - opportunity.opened_at), 0)
    ::double precision as open_seconds,
  opportunity.amount_minor, opportunity.adjusted_minor, opportunity.currency,
  opportunity.loss_reason, opportunity.is_shared, lead.owner_id,
  coalesce(lead.last_offer_before_mql_id, lead.first_offer_id) as offer_id,
  coalesce(lead.last_campaign_before_mql_id, lead.first_campaign_id) as campaign_id,
  count(*) over () as total
from bi.opportunity
join bi.lead_current as lead using (journey_id)
where opportunity.is_counted and ($1 = '' or opportunity.status = $1) and ($2 = '' or lead.owner_id = $2)
  and ($3 = '' or coalesce(opportunity.currency, 'none') = $3)
  and coalesce(opportunity.closed_at, opportunity.opened_at, '-infinity') >= $4
order by coalesce(opportunity.closed_at, opportunity.opened_at) desc nulls last, opportunity.opportunity_id
limit $5
"""

CREDIT = """
select credit.journey_id, credit.opportunity_id, credit.kind, credit.won_at, credit.touched_at,
  credit.channel, credit.campaign_id, credit.offer_id, credit.positions, credit.weight,
  credit.amount_minor, credit.currency, count(*) over () as total,
  sum(credit.amount_minor) over ()::bigint as sum_minor
from bi.credit
join bi.opportunity using (journey_id, opportunity_id)
where opportunity.is_counted and credit.model = $1 and ($2 = '' or credit.channel = $2)
  and credit.currency = $3 and credit.won_at >= $4
order by credit.won_at desc, credit.journey_id, credit.opportunity_id, credit.touched_at
limit $5
"""
CURRENCIES = "select distinct currency from bi.credit order by 1"

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
select campaign_id, kind, body from bi.campaign_talking_point
where campaign_id = any($1) order by campaign_id, position
"""

# From the hand-offs, not from mql_acceptance: a date may be in the middle of a month.
ACCEPTANCE = """
select date_trunc('month', handoff.ended_at at time zone calendar.zone)::date as month,
  count(*) filter (where handoff.outcome = 'accepted') as accepted,
  count(*) filter (where handoff.outcome = 'rejected') as rejected,
  count(*) filter (where handoff.outcome = 'accepted')::double precision / count(*) as acceptance,
  (date_trunc('month', min(handoff.ended_at) at time zone calendar.zone) + interval '1 month - 1 day')::date
    as until
from bi.handoff
join bi.calendar on calendar.is_default
where handoff.outcome in ('accepted', 'rejected') and handoff.ended_at >= $1
group by 1, calendar.zone order by 1 desc limit $2
"""
MONTHS = 12

CONVERSION = """
select segment, leads, immature_leads, converted, conversion, median_days, leads < 20 as is_small
from bi.conversion_by_segment
where segment_kind = $1 and to_role = $2 and within_days = $3
order by $4 <> 'most leads' and leads < 20,
  case when $4 = 'fastest' then median_days end,
  case when $4 = 'best conversion' then conversion end desc nulls last,
  leads desc, segment
limit $5
"""
SEGMENTS_AT_MOST = 100

DRIFT = """
select week, compared_with, journeys, disagreeing, share, mql_here_only, mql_there_only
from bi.definition_drift order by week desc, compared_with limit $1
"""

MET_CAMPAIGNS = """
select campaign_id, name, last_seen_at, exposures, inbound_touches, is_first, is_last_before_mql
from bi.lead_campaign where journey_id = $1
order by is_last_before_mql desc, is_first desc, last_seen_at desc, campaign_id limit $2
"""
MET_CAMPAIGNS_AT_MOST = 5

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
    return await _with_points(connection, await read_shown(connection, CAMPAIGNS))


async def read_met_campaigns(connection: Connection, journey_id: str) -> Rows:
    """The campaigns that a lead met, each with its `points`: those that pulled it in, then the latest."""
    found = await read_shown(connection, MET_CAMPAIGNS, journey_id, MET_CAMPAIGNS_AT_MOST)
    return await _with_points(connection, found)


async def _with_points(connection: Connection, campaigns: Rows) -> Rows:
    points: dict[str, Rows] = {}
    for row in await read_shown(connection, TALKING_POINTS, [each["campaign_id"] for each in campaigns]):
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
