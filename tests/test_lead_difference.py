"""One lead from two sides: under another definition, and as it was known once.

Guards that what Postgres is asked for is all that matters (the pure reading of the whole log gives the same),
and that each difference is explained by the events behind it.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from projections import definition
from projections.rules import Entry, Rules
from schemas import records as r
from schemas.instants import rfc3339
from services.lead_difference import Difference, as_known, compare, side_of
from tests import given as spec
from tests import live, test_live
from tests.comparison import rules_of
from tests.feeding import DEFINITION, HOUR, HUMAN, MONDAY_TEN, at, commands_on, demo_request, given
from tests.histories import DAY, MONDAY, SUBJECTS, random_case
from tests.test_live import Store

store = test_live.store
CASES = 12


def essence(found: Difference) -> tuple[Any, ...]:
    """What a difference says, the events by their ids."""
    told = [(each.event.event_id, each.before, each.after) for each in found.events]
    return (found.journey_ids, sorted(found.rows, key=repr), told)


def by_the_whole_log(events: Sequence[r.Record], timeline: Any, subject: str, when: int) -> Difference:
    """The difference as the pure reading of every record has it."""
    known = [event for event in events if event.recorded_at <= when]
    then = side_of(f"as known at {rfc3339(when)}", subject, known, rules_of(known, timeline))
    return compare(subject, then, side_of("today", subject, events, rules_of(events, timeline)))


@pytest.mark.servers
@pytest.mark.slow
async def test_as_known_is_the_fold_of_what_was_recorded_by_then(store: Store) -> None:
    """Links, unlinks, retractions of retractions, copies and erasures of random logs, at random moments; and
    nothing differs from now."""
    for seed in range(CASES):
        rng = Random(seed)
        events, timeline = random_case(seed, 60)
        await store.begin(timeline)
        for batch in live.cut(rng, live.on_topics(events)):
            await store.take(batch)
        async with store.pool.acquire() as connection:
            for subject in SUBJECTS:
                if not any(event.subject_id == subject for event in events):
                    continue
                when = MONDAY + rng.randrange(22 * DAY)
                found = await as_known(connection, subject, when, live.offline())
                assert essence(found) == essence(by_the_whole_log(events, timeline, subject, when)), (
                    seed,
                    subject,
                )
                now = await as_known(connection, subject, MONDAY + 999 * DAY, live.offline())
                assert (now.rows, now.events) == ([], []), (seed, subject)


def told(found: Difference) -> dict[str, tuple[str, str]]:
    """Event to what it does on either side."""
    return {each.event.event_id: (each.before, each.after) for each in found.events}


def as_known_at(when: str, *events: r.Record) -> Difference:
    """The difference between then and today, under the house's definition."""
    return by_the_whole_log(events, [(None, spec.DEFINITION)], spec.LEAD, spec.at(when))


def test_a_late_fact_was_not_known() -> None:
    """It says when it was recorded, and what it does today."""
    found = as_known_at(
        "tue 00:00",
        spec.touch("mon 09:00", id="visit"),
        spec.demo("mon 10:00", id="form", recorded="wed 10:00"),
    )
    assert told(found)["form"][0] == "not known yet: recorded 2026-06-03T10:00:00Z"
    assert "hand-off 1 opened" in told(found)["form"][1]
    [lead] = [row for row in found.rows if row.table == "lead_state"]
    assert lead.before is not None
    assert lead.after is not None
    assert (lead.before["stage"], lead.after["stage"], lead.sources["stage"]) == ("Visitor", "MQL", "form")


def test_what_was_taken_back_since_counted_then() -> None:
    """A retraction and its target are both explained."""
    found = as_known_at(
        "tue 00:00",
        spec.demo("mon 10:00", id="form"),
        spec.retracted("wed 10:00", "form", id="oops"),
    )
    assert told(found)["oops"] == ("not known yet: recorded 2026-06-03T10:00:00Z", "takes back form")
    assert told(found)["form"][1] == "taken back by oops"
    assert {row.table for row in found.rows if row.after is None} >= {"lead_state", "handoff"}


def test_who_was_two_leads_then_may_be_one_today() -> None:
    """Events of the other subject were of another lead; the link is the reason."""
    found = as_known_at(
        "tue 00:00",
        spec.touch("mon 09:00", id="own"),
        spec.demo("mon 10:00", id="other", subject="a:1"),
        spec.linked("wed 10:00", "a:1", id="link"),
    )
    assert found.journey_ids == ("crm:1", "a:1")
    assert told(found)["other"][0] == "of another lead"
    assert told(found)["link"][0] == "not known yet: recorded 2026-06-03T10:00:00Z"


def test_of_a_lead_that_came_later_nothing_was_known() -> None:
    """Everything is new."""
    found = as_known_at("sun 00:00", spec.touch("mon+1 09:00", id="visit"))
    assert found.journey_ids == (None, "crm:1")
    assert all(row.before is None for row in found.rows)


def test_another_definition_is_explained_by_the_events_that_it_reads_otherwise() -> None:
    """Rows are paired by what does not shift: a visit more before others leaves those alone."""
    events = [
        spec.touch("mon 09:00", id="one"),
        spec.touch("mon 10:00", id="two"),
        spec.demo("mon 11:00", id="form"),
    ]
    early = spec.DEFINITION.replace("score_at_least: 10", "score_at_least: 5")
    sides = (
        side_of(name, spec.LEAD, events, Rules([Entry(None, definition.parse(text))]))
        for name, text in (("now", spec.DEFINITION), ("early", early))
    )
    found = compare(spec.LEAD, *sides)
    assert told(found) == {
        "one": ("enters Visitor; score 5", "enters Engaged; score 5; skipped Known"),
        "two": ("stage Visitor -> Engaged; score 5 -> 10; skipped Known", "score 5 -> 10"),
    }
    assert {row.table for row in found.rows} == {"stage_visit"}
    assert ("mql", "form") not in {row.key for row in found.rows}


STORY: list[r.Record] = [
    demo_request(0, "form"),
    r.HandoffAccepted(**at(1, "accepted"), actor=HUMAN),
    r.OpportunityWon(
        **(at(2, "won") | {"recorded_at": MONDAY_TEN + 50 * HOUR}),
        opportunity_id="deal",
        amount_minor=90_000,
        currency="EUR",
    ),
]


@pytest.mark.servers
def test_the_command_shows_both_differences(database: str, tmp_path: Path) -> None:
    """As text and as JSON; credit by model where only attribution differs."""
    asyncio.run(given(database, STORY))
    leadlog = commands_on(database)
    file = tmp_path / "candidate.yaml"
    file.write_text(DEFINITION.replace("lookback: 365d", "lookback: 1h").replace("version: 1", "version: 2"))
    found = json.loads(leadlog("lead", "crm:1", "--definition", str(file), "--json").stdout)
    assert {row["table"] for row in found["rows"]} == {"credit"}
    assert found["after"]["label"] == "default@2"
    assert "900.00 EUR" in leadlog("lead", "won", "--definition", str(file)).stdout
    text = leadlog("lead", "crm:1", "--as-known", "2026-03-24").stdout
    assert "not known yet: recorded 2026-03-25T12:00:00Z" in text
    assert "Customer" in text
    assert leadlog("lead", "crm:1", "--as-known", "2026-04-01").stdout.endswith("Nothing differs.\n")


@pytest.mark.servers
def test_what_cannot_be_compared_is_refused(database: str, tmp_path: Path) -> None:
    """An unknown id, a time that is none, a file with faults, both questions at once."""
    asyncio.run(given(database, STORY))
    leadlog = commands_on(database)
    file = tmp_path / "wrong.yaml"
    file.write_text("version: 1\n")
    assert leadlog("lead", "crm:9", "--as-known", "2026-04-01").exit_code == 1
    soon = leadlog("lead", "crm:1", "--as-known", "soon")
    assert (soon.exit_code, "'soon'" in soon.stderr) == (2, True)
    assert "is no definition" in leadlog("lead", "crm:1", "--definition", str(file)).stderr
    both = leadlog("lead", "crm:1", "--definition", str(file), "--as-known", "2026-04-01")
    assert both.exit_code == 2
