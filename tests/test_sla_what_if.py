"""`leadlog sla what-if` against clocks counted by hand."""

import asyncio
import json
from pathlib import Path

import pytest

from schemas import records as r
from tests.feeding import HUMAN, at, commands_on, demo_request, given

pytestmark = pytest.mark.servers

PERIOD = ("--from", "2026-03-23", "--until", "2026-03-28", "--json")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file for the proposal."""
    return tmp_path / "policy.yaml"


def test_a_longer_target_avoids_breaches_and_another_calendar_adds_some(database: str, file: Path) -> None:
    """Reviewed after 5, 9 and 20 hours around the clock; 8 open hours were agreed."""
    events: list[r.Record] = []
    for hours in (5, 9, 20):
        subject = {"subject_id": f"crm:{hours}"}
        events += [
            r.LeadAssigned(**at(-0.5, f"o{hours}", **subject), owner_id="sam", team_id="emea"),
            demo_request(0, f"start{hours}", **subject),
            r.HandoffAccepted(**at(hours, f"stop{hours}", **subject), actor=HUMAN),
        ]
    asyncio.run(given(database, events))
    leadlog = commands_on(database)

    def teams(text: str) -> dict[str, dict[str, object]]:
        file.write_text(text)
        result = leadlog("sla", "what-if", "--policy", str(file), *PERIOD)
        assert result.exit_code == 0, result.output
        told: dict[str, dict[str, object]] = json.loads(result.output)["teams"]
        return told

    # Monday 10:00 UTC is 11:00 in Berlin, which closes at 17:00: 8 open hours end on Tuesday at 11:00.
    longer = teams("sla: [{id: handoff_review, target: 16h}]")["emea"]
    assert longer["before"] == {"clocks": 3, "breaches": 0, "alerts": 3, "alerts_at_night": 0}
    assert longer["after"] == {"clocks": 3, "breaches": 0, "alerts": 0, "alerts_at_night": 0}
    around = teams("sla: [{id: handoff_review, time: calendar}]")["emea"]
    assert (around["breaches_added"], around["breaches_avoided"]) == (2, 0)
    new_hours = teams(
        "calendars: {long: {zone: Europe/Berlin, weekly: {mon: [['00:00', '24:00']]}}}\n"
        "sla: [{id: handoff_review, calendar: long, warn_at: []}]"
    )["emea"]
    assert new_hours["after"] == {"clocks": 3, "breaches": 2, "alerts": 2, "alerts_at_night": 2}
    shown = leadlog("sla", "what-if", "--policy", str(file), *PERIOD[:-1]).output.splitlines()
    assert shown[1].split() == ["emea", "3", "0", "->", "2", "0", "2", "3", "->", "2", "0.00", "->", "0.40"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sla: [{id: nope, target: 1h}]", "expected one of handoff_review"),
        ("sla: [{id: handoff_review, stop: [{entered: won}]}]", "takes a replay"),
        ("sla: [{id: handoff_review, target: soon}]", "target"),
        ("sla: []", "one policy"),
        ("sla: [", "line 1"),
        ("sla: {id: handoff_review}", "sla: a mapping: expected a list"),
        ("sla: [handoff_review]", "sla[0]: handoff_review: expected a mapping"),
        ("sla: [{id: [handoff_review]}]", "sla[0].id"),
        ("sla: [{id: handoff_review, 4: 4h}]", "4 cannot be scored"),
        ("sla: [{id: handoff_review, target: 4h, target: 5h}]", "target"),
        ("sla: [{id: handoff_review}]\ncalendars: [office]", "calendars"),
        ("sla: [{id: handoff_review}]\ncalendar: {}", "did you mean calendars?"),
    ],
)
def test_what_cannot_be_scored_is_refused(database: str, file: Path, text: str, message: str) -> None:
    """With the reason and what is expected; exit 1. A file of another form ended in a traceback, and what was
    misspelt or said twice in a score of something else."""
    asyncio.run(given(database, []))
    file.write_text(text)
    result = commands_on(database)("sla", "what-if", "--policy", str(file))
    assert result.exit_code == 1
    assert message in result.output
