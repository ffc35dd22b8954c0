"""A backtest counts what SQL counts over two versions that the projector has built, one with each definition;
what SQL cannot see (late facts) is guarded by small stories.
"""

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from projections import definition, identity, journey
from projections.business_time import zone_rules
from projections.rules import Entry, Rules
from schemas import records as r
from services.backtest import CANDIDATE, PRESENT, Changed, Tally, Trial, report
from services.store.pool import Connection, connect
from services.store.timeline import TimelineEntry
from services.store.versions import create_version
from tests import feeding
from tests import given as spec
from tests.feeding import DEFINITION, commands_on
from tests.live import let_feed
from tests.test_lead import made_up

CANDIDATE_TEXT = (
    DEFINITION.replace("version: 1", "version: 2")
    .replace("score_at_least: 50", "score_at_least: 35")
    .replace("[demo_request, contact_sales, pricing], within: 30d", "pricing, within: 30d")
    .replace("channel: paid_search", "channel: search_ads")
)
EVENTS = 8_000

HANDOFFS = "select coalesce(outcome, 'open'), count(*) from {v}.handoff group by 1"
LEADS = "select count(distinct journey_id) from {v}.handoff"
CUSTOMERS = """
select count(distinct journey_id) from {v}.handoff
where journey_id in (select journey_id from {v}.opportunity where status = 'won')
"""
MONTHS = """
select to_char(opened_at at time zone 'Europe/Berlin', 'YYYY-MM'), count(*) from {v}.handoff group by 1
"""
LOAD = """
select team_id, policy_id, extract(hour from started_at at time zone 'Europe/Berlin')::int, count(*)
from {v}.sla_clock group by 1, 2, 3
"""
DEALS = """
with counted as (
  select distinct on (opportunity_id) * from {v}.opportunity
  order by opportunity_id, first_event_at, first_event_sequence nulls first, first_event_id, journey_id
),
decided as (
  select status, closed_at,
    (select max(handoff.opened_at) from {v}.handoff
     where handoff.journey_id = counted.journey_id and handoff.opened_at <= counted.closed_at) as mql_at
  from counted where status <> 'open'
)
select
  count(*) filter (where status = 'won'),
  count(*) filter (where status = 'lost'),
  percentile_cont(0.5) within group (
    order by case when status = 'won' then extract(epoch from closed_at - mql_at) / 86400 end
  )
from decided where mql_at is not null
"""
ADDED = """
select count(distinct journey_id),
  count(distinct journey_id) filter (where journey_id not in (
    select journey_id from v0002.handoff where outcome in ('accepted', 'rejected')
    union select journey_id from v0002.opportunity
  ))
from v0002.handoff where journey_id not in (select journey_id from v0001.handoff)
"""
REMOVED = """
select count(distinct journey_id),
  count(distinct journey_id) filter (where outcome = 'accepted'),
  count(distinct journey_id) filter (
    where journey_id in (select journey_id from v0001.opportunity where status = 'won')
  )
from v0001.handoff where journey_id not in (select journey_id from v0002.handoff)
"""


async def built(dsn: str, events: list[r.Record]) -> None:
    """Both definitions fed with the events, the first one promoted."""
    connection = await connect(dsn)
    await feeding.prepare_database(dsn, connection, DEFINITION)
    async with connection.transaction():
        await let_feed(connection, await create_version(connection, [TimelineEntry(None, CANDIDATE_TEXT)]))
    await feeding.feed(connection, events)
    await connection.close()


async def counted(dsn: str) -> dict[str, Any]:
    """The numbers of a backtest, by SQL."""
    connection = await connect(dsn)
    numbers: dict[str, Any] = {
        "present": await counted_side(connection, "v0001"),
        "candidate": await counted_side(connection, "v0002"),
        "differing": {
            table.name: await differing_journeys(connection, table.name, table.columns)
            for table in journey.TABLES
        },
    }
    for name, query in (("added", ADDED), ("removed", REMOVED)):
        [numbers[name]] = map(tuple, await connection.fetch(query))
    await connection.close()
    return numbers


async def counted_side(connection: Connection, version: str) -> dict[str, Any]:
    """What one version says."""

    async def rows(query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.fetch(query.format(v=version))]

    [(won, lost, median)] = await rows(DEALS)
    return {
        "leads": (await rows(LEADS))[0][0],
        "customers": (await rows(CUSTOMERS))[0][0],
        "handoffs": dict(await rows(HANDOFFS)),
        "mqls_per_month": dict(await rows(MONTHS)),
        "won": won,
        "lost": lost,
        "median_days_to_won": pytest.approx(median),
        "sla_load": {row[:3]: row[3] for row in await rows(LOAD)},
    }


async def differing_journeys(connection: Connection, table: str, columns: tuple[str, ...]) -> set[str]:
    """Journeys with other rows in a table, names of the definition apart."""
    names = ", ".join(name for name in columns if name not in ("definition_version", "message"))
    one, other = (f"(select {names} from {v}.{table})" for v in ("v0001", "v0002"))
    query = (
        f"select distinct journey_id from (({one} except {other}) union all ({other} except {one})) differing"
    )
    return {row["journey_id"] for row in await connection.fetch(query)}


@pytest.mark.servers
@pytest.mark.slow
def test_the_numbers_are_those_that_sql_counts(database: str, tmp_path: Path) -> None:
    """Every kind of journey there is: hand-offs, deals shared by journeys, clocks, and who changes; and no
    other process sees anything of it."""
    asyncio.run(built(database, made_up(7, EVENTS)))
    before = asyncio.run(activity(database))
    file, export = tmp_path / "candidate.yaml", tmp_path / "changed.csv"
    file.write_text(CANDIDATE_TEXT)
    leadlog = commands_on(database)
    result = leadlog(
        "definition", "backtest", str(file), "--processes", "2", "--json", "--export", str(export)
    )
    assert result.exit_code == 0, result.output
    numbers, wanted = json.loads(result.stdout), asyncio.run(counted(database))
    for side in (PRESENT, CANDIDATE):
        found = numbers[side]
        found["sla_load"] = {
            (each["team_id"], each["policy_id"], each["hour"]): each["clocks"] for each in found["sla_load"]
        }
        assert {name: found[name] for name in wanted[side]} == wanted[side]
        assert found["won"] > 5
    assert tuple(numbers["added"].values()) == wanted["added"]
    assert tuple(numbers["removed"].values()) == wanted["removed"]
    assert wanted["differing"]["touch"]
    assert min(wanted["added"][0], wanted["removed"][0]) > 3
    changed = list(csv.DictReader(export.open()))
    assert {row["journey_id"] for row in changed} == set().union(*wanted["differing"].values())
    for table, journeys in wanted["differing"].items():
        assert {row["journey_id"] for row in changed if table in row["tables"].split(", ")} == journeys
    assert numbers["differing"] == {
        table: len(found) for table, found in wanted["differing"].items() if found
    }
    assert asyncio.run(activity(database)) == before


async def activity(dsn: str) -> list[tuple[str, int]]:
    """Every table with the number of rows ever written to it."""
    connection = await connect(dsn)
    rows = await connection.fetch(
        "select schemaname || '.' || relname, n_tup_ins + n_tup_upd + n_tup_del "
        "from pg_stat_user_tables order by 1"
    )
    await connection.close()
    return [tuple(row) for row in rows]


@pytest.mark.servers
def test_the_page_says_what_changes_and_what_is_not_known(database: str, tmp_path: Path) -> None:
    """Readable without the numbers' names: sentences, ranges, months, hours, journeys."""
    asyncio.run(
        feeding.given(
            database, [feeding.demo_request(0, "form"), feeding.demo_request(1, "web", subject_id="crm:2")]
        )
    )
    file = tmp_path / "candidate.yaml"
    file.write_text(
        DEFINITION.replace(
            "offer_id: [demo_request, contact_sales, pricing], within", "offer_id: pricing, within"
        )
    )
    text = commands_on(database)("definition", "backtest", str(file), "--processes", "1").stdout
    assert "2 leads, 2 events" in text
    assert "MQL now needs 1 form_submitted for offer pricing" in text
    assert "Only default@1: 2, of which sales accepted 0 and 0 became customers." in text
    assert "no longer MQL 2" in text
    assert "2026-03" in text


def test_a_file_with_faults_is_not_tried(tmp_path: Path) -> None:
    """Its faults are told instead."""
    file = tmp_path / "wrong.yaml"
    file.write_text("version: 1\n")
    result = commands_on("postgresql://nobody@127.0.0.1:9/none")("definition", "backtest", str(file))
    assert result.exit_code == 1
    assert "definition_id" in result.stderr


STRICTER = spec.DEFINITION.replace("version: 1", "version: 2").replace("at_least: 1", "at_least: 2")
LOOSER = spec.DEFINITION.replace("version: 1", "version: 2").replace("offer_id: demo, ", "")


def tried(text: str, *events: r.Record) -> tuple[dict[str, Any], list[Changed]]:
    """The numbers of a candidate beside the house's definition, and who changes."""
    rules = {
        PRESENT: spec.HOUSE,
        CANDIDATE: Rules([Entry(None, definition.parse(text))]),
    }
    trial, tally = Trial(rules, zone_rules("UTC")), Tally()
    found = [trial.count(history, tally) for history in identity.journeys(events).values()]
    return report(tally), [each for each in found if each]


def test_what_became_of_leads_that_were_never_worked_is_unknown() -> None:
    """Two that were handed over, one accepted and won, one rejected; two more that only the candidate hands
    over: they are a range, not losses. One of those whom sales took anyway is known."""
    worked: list[r.Record] = [
        *(spec.demo("mon 09:00", subject="a", id="a1"), spec.accepted("mon 10:00", subject="a", id="a2")),
        *(spec.won("tue 09:00", subject="a", id="a3"), spec.demo("mon 09:00", subject="b", id="b1")),
        spec.rejected("mon 10:00", subject="b", id="b2"),
    ]
    unworked: list[r.Record] = [spec.touch("mon 09:00", subject=name, id=name) for name in "cd"]
    taken: list[r.Record] = [
        spec.touch("mon 09:00", subject="e", id="e1"),
        spec.accepted("mon 10:00", subject="e", id="e2"),
    ]
    numbers, changed = tried(LOOSER, *worked, *unworked, *taken)
    assert numbers["added"] == {"leads": 3, "unknown": 2}
    assert numbers[PRESENT]["acceptance"] == {"if_all_lost": 0.5, "as_their_peers": 0.5}
    assert numbers[CANDIDATE]["acceptance"] == {"if_all_lost": 2 / 5, "as_their_peers": 2 / 3}
    assert numbers[CANDIDATE]["win_rate"] == {"if_all_lost": 1 / 3, "as_their_peers": 1.0}
    assert numbers[CANDIDATE]["conversion"] == {"if_all_lost": 1 / 5, "as_their_peers": 1 / 3}
    assert numbers[CANDIDATE]["unknown_share"] == 2 / 5
    assert {each.journey_id: each.change for each in changed} == dict.fromkeys("cde", "new MQL")


def test_leads_that_the_candidate_leaves_out_are_shown_with_what_became_of_them() -> None:
    """So that nobody trades customers for a better rate without seeing it."""
    numbers, changed = tried(
        STRICTER,
        *(spec.demo("mon 09:00", subject="a", id="a1"), spec.accepted("mon 10:00", subject="a", id="a2")),
        *(spec.won("tue 09:00", subject="a", id="a3"), spec.demo("mon 09:00", subject="b", id="b1")),
    )
    assert numbers["removed"] == {"leads": 2, "accepted": 1, "customers": 1}
    assert [each.change for each in changed] == ["no longer MQL", "no longer MQL"]
    assert numbers[CANDIDATE]["acceptance"] == {"if_all_lost": None, "as_their_peers": None}


def test_a_decision_rests_on_late_facts_if_it_would_not_have_been_made_without_them() -> None:
    """A second form, recorded two days late, makes the candidate's MQL; the first, in time, the present's."""
    numbers, _ = tried(
        STRICTER,
        spec.demo("mon 09:00", id="in time"),
        spec.demo("mon 11:00", id="late", recorded="wed 12:00"),
    )
    for side, late in ((PRESENT, 0), (CANDIDATE, 1)):
        assert (numbers[side]["decisions"], numbers[side]["late_decisions"]) == (1, late)


def test_another_candidate_of_the_same_meaning_changes_no_journey() -> None:
    """The name of a definition is no difference."""
    numbers, changed = tried(spec.DEFINITION.replace("version: 1", "version: 2"), spec.demo("mon 09:00"))
    assert changed == []
    assert numbers["differing"] == {}
    assert numbers[PRESENT] == numbers[CANDIDATE]
