"""What the facts about definitions come to, and where each version stands. How the projector takes a date up
is guarded in `test_schedule`, the commands in `test_definition_command`.
"""

from random import Random

import msgspec
import pytest

from projections import definition
from projections.agreement import facts
from projections.agreement.standing import DefinitionFact, agreements, schedules, why_not
from schemas.records import Actor, Micros
from services.definitions import Refused, Timeline, standing, start_of
from tests import given as spec

NOW, DATE, DAY = spec.at("mon 09:00"), spec.at("wed 00:00"), spec.DAY
ANN = Actor("human", "ann")
TEXT = spec.DEFINITION
HOUSE = definition.parse(TEXT)
DECIDED: list[DefinitionFact] = [
    facts.proposed(HOUSE, "why", ANN, NOW),
    facts.approved("house", 1, "sales", ANN, NOW + 1),
    facts.approved("house", 1, "marketing", ANN, NOW + 2),
    facts.activated("house", 1, DATE, ANN, NOW + 3),
]
OTHER = Timeline([(None, "other@1")], NOW - DAY)


def status(said: list[DefinitionFact], timeline: Timeline = OTHER, at: Micros = NOW + DAY) -> str:
    """In one word or two."""
    [known] = [each for each in agreements(said).values() if each.label == "house@1"]
    built = [f"leadlog:house@1:activated:{NOW + 3}"]
    return standing(known, timeline, built, at).status


def test_a_version_goes_from_proposed_to_in_force_and_out_again() -> None:
    """Each decision moves it on; the promoted timeline and the date decide the rest."""
    scheduled = Timeline([(None, "other@1"), (DATE, "house@1")], NOW)
    replaced = Timeline([*scheduled.entries, (DATE + DAY, "other@2")], NOW)
    assert [status(DECIDED[:count]) for count in (1, 2, 3)] == ["proposed", "proposed", "approved"]
    assert status(DECIDED, scheduled, DATE - 1) == "scheduled"
    assert status(DECIDED, scheduled, DATE) == "in force"
    assert status(DECIDED, replaced, DATE + DAY) == "was in force"


def test_a_version_that_a_replay_put_in_force_was_so_after_another_one() -> None:
    """The activation that the switch wrote tells."""
    promoted = facts.activated("house", 1, None, ANN, NOW + 3)
    assert status([*DECIDED[:3], promoted], Timeline([(None, "house@1")], NOW)) == "in force"
    assert status([*DECIDED[:3], promoted]) == "was in force"


def test_a_restating_activation_that_no_promotion_wrote_is_named() -> None:
    """It has no effect, and the version stands where it stood."""
    foreign = facts.activated("house", 1, None, ANN, NOW + 9)
    known = agreements([*DECIDED[:3], foreign])["house@1"]
    found = standing(known, OTHER, [], NOW + DAY)
    assert found.status == "approved"
    assert found.notes == [
        f"leadlog:house@1:activated:{NOW + 9} has no effect (not_built): no replay was promoted with it"
    ]


def test_a_second_proposal_with_other_content_has_no_effect() -> None:
    """The first by recording time is the version, whatever its place on the topic; the other is named."""
    other = msgspec.structs.replace(
        facts.proposed(HOUSE, "why", ANN, NOW - 1), event_id="crm:1", body="x", recorded_at=NOW + 5
    )
    known = agreements([other, *DECIDED])["house@1"]
    assert known.proposals[0].body == TEXT
    assert standing(known, OTHER, [], NOW).notes == ["crm:1 has no effect: other content than the first"]
    too_late = msgspec.structs.replace(other, recorded_at=DATE + 1)
    assert schedules([too_late, *DECIDED]) == {DATE: (DATE, "house@1", TEXT)}


def test_of_two_versions_for_one_date_the_one_activated_last_counts() -> None:
    """Not the one of the higher number, nor the one proposed last."""
    second = definition.parse(TEXT.replace("version: 1", "version: 2"))
    agreed: list[DefinitionFact] = [
        facts.proposed(second, "why", ANN, NOW),
        facts.approved("house", 2, "sales", ANN, NOW + 1),
        facts.approved("house", 2, "marketing", ANN, NOW + 2),
    ]
    for after, label in ((1, "house@1"), (4, "house@2")):
        said = [*DECIDED, *agreed, facts.activated("house", 2, DATE, ANN, NOW + after)]
        assert schedules(said)[DATE].label == label


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (DECIDED[3:], "a proposal and the approval of marketing and the approval of sales is missing"),
        ([*DECIDED[:2], DECIDED[3]], "the approval of marketing is missing"),
        (
            [*DECIDED[:3], facts.activated("house", 1, DATE, ANN, DATE + 1)],
            "not all of it was recorded before its date: it would change the past, which needs a replay",
        ),
    ],
)
def test_a_date_that_does_not_count_says_why(said: list[DefinitionFact], reason: str) -> None:
    """What lacks, or that it came too late."""
    [known] = agreements(said).values()
    assert why_not(known, known.activations[0]) == reason


def test_a_version_whose_text_is_no_definition_is_refused_with_its_fault() -> None:
    """By line, as for a file."""
    broken = msgspec.structs.replace(DECIDED[0], body="definition_id: house")
    found = standing(agreements([broken, *DECIDED[1:]])["house@1"], OTHER, [], NOW)
    assert found.status == "refused"
    assert found.notes[0].startswith("it is no definition: line 1: ")
    assert schedules([broken, *DECIDED[1:]]) == {}


def test_the_facts_come_to_the_same_in_any_order() -> None:
    """Arrival decides nothing."""
    again = facts.activated("house", 1, DATE + DAY, ANN, NOW + 4)
    said = [*DECIDED, again, facts.activated("house", 1, DATE, ANN, NOW + 5)]
    for seed in range(10):
        shuffled = list(said)
        Random(seed).shuffle(shuffled)
        assert schedules(shuffled) == schedules(said)
    assert schedules(said).keys() == {DATE, DATE + DAY}


@pytest.mark.parametrize("late", range(4))
def test_what_was_not_recorded_by_its_date_does_not_count(late: int) -> None:
    """Each of proposal, approvals and activation; at the very date it still does."""
    in_time, too_late = (
        [*DECIDED[:late], msgspec.structs.replace(DECIDED[late], recorded_at=at), *DECIDED[late + 1 :]]
        for at in (DATE, DATE + 1)
    )
    assert list(schedules(in_time)) == [DATE]
    assert schedules(too_late) == {}


def test_a_date_begins_in_the_zone_of_the_definition() -> None:
    """Midnight there; an instant is taken as it is; anything else is refused with an example."""
    berlin = definition.parse(TEXT.replace("zone: UTC", "zone: Europe/Berlin"))
    assert start_of("2026-06-01", berlin) == spec.MONDAY - 2 * spec.HOUR
    assert start_of("2026-06-01T00:00:00Z", berlin) == spec.MONDAY
    with pytest.raises(Refused, match="2026-01-31"):
        start_of("next week", berlin)
