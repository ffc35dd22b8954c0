"""Identity: which copies count, what was taken back, who is one person, and what an erasure leaves.

Guards the contract's section on input for any order of arrival. Guarded elsewhere: the live path's way to it
in SQL.
"""

from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import given as over
from hypothesis import strategies as st

from projections import identity, journey
from projections.history import redact
from projections.identity import Naming, Resolution, components, resolve_retractions
from schemas import records as r
from schemas.content import content_hash
from tests.given import (
    HOUSE,
    LEAD,
    PERSON,
    accepted,
    at,
    attribute,
    by_table,
    calendar,
    demo,
    erased,
    given,
    linked,
    moved,
    opened,
    rejected,
    retracted,
    touch,
    unlinked,
    won,
)
from tests.histories import THEMES, logs


def rows(*copies: r.Envelope) -> dict[str, dict[str, set[tuple[object, ...]]]]:
    """Journey to its rows; journeys that have none are left out."""
    found = {}
    for journey_id, history in identity.journeys(copies).items():
        of_journey = by_table(journey.rows(journey.fold(history, HOUSE), HOUSE))
        if any(of_journey.values()):
            found[journey_id] = of_journey
    return found


def faults(*copies: r.Envelope) -> dict[tuple[str, int], str]:
    """Event and copy number to fault."""
    return {
        (fault.event.event_id, fault.copy_no): fault.fault.code
        for history in identity.journeys(copies).values()
        for fault in history.faults
    }


def test_equal_copies_are_one_event_with_the_earliest_recording() -> None:
    """A copy sent again changes nothing, wherever it arrives."""
    late = accepted("mon 10:00", recorded="tue 10:00")
    early = accepted("mon 10:00", recorded="mon 11:00")
    spec = given(demo("mon 09:00"), late, early)
    spec.then("fault")
    [review] = [row for row in spec.table("sla_clock") if row["policy_id"] == "review"]
    assert review["stopped_recorded_at"] == at("mon 11:00")


def test_of_different_contents_the_earliest_recorded_counts() -> None:
    """The others are conflicts, numbered by rank."""
    first = touch("mon 09:00", id="x")
    second = touch("mon 08:00", id="x", recorded="mon 09:01")
    third = touch("mon 07:00", id="x", recorded="mon 09:02")
    spec = given(third, first, second)
    spec.then_lead(first_touch_at=at("mon 09:00"), event_count=1, fault_count=2)
    assert faults(first, second, third) == {("x", 2): "conflict", ("x", 3): "conflict"}


def test_contents_recorded_together_are_ranked_by_their_hash() -> None:
    """So that the order stays when the text is erased."""
    copies = [touch("mon 09:00", id="x", channel=channel) for channel in ("a", "b", "c")]
    assert identity.ranked(copies) == sorted(copies, key=content_hash)


def test_a_conflict_shows_in_the_journey_of_its_own_subject() -> None:
    """A losing copy under another subject makes no lead, only a fault."""
    loser = touch("mon 09:00", id="x", subject="web:9", recorded="mon 10:00")
    found = rows(touch("mon 09:00", id="x"), loser)
    assert found["web:9"]["lead_state"] == set()
    assert len(found["web:9"]["fault"]) == 1
    assert found[LEAD]["fault"] == set()


def test_a_copy_that_does_not_count_retracts_and_links_nothing_but_erases() -> None:
    """What was overwritten cannot come back; a target, or who is the same person, is that of the other."""
    name = attribute("mon 09:00", "email", "kim@example.com", id="mail")
    retractions = [
        retracted("tue 09:00", "nothing", id="x"),
        retracted("tue 09:00", "mail", id="x", recorded="wed 09:00"),
    ]
    links = [
        linked("tue 09:00", "web:1", id="y"),
        linked("tue 09:00", "web:2", id="y", recorded="wed 09:00"),
    ]
    erasures = [touch("tue 09:00", id="z"), erased("tue 09:00", id="z", recorded="wed 09:00")]
    copies = [name, touch("mon 09:00", subject="web:2", id="other"), *retractions, *links, *erasures]
    found = identity.journeys(copies, ["email"])
    assert found.keys() == {LEAD, "web:2"}
    [kept] = [event for event in found[LEAD].events if isinstance(event, r.AttributeChanged)]
    assert kept.value is None


def test_reference_facts_belong_to_no_journey() -> None:
    """A calendar is no lead."""
    assert identity.journeys([calendar("mon 09:00", {"mon": [["09:00", "17:00"]]})]) == {}


def test_faults_of_copies_stand_in_one_order() -> None:
    """Whatever came first: equal journeys are equal states."""
    copies = [touch("mon 09:00", id=name, channel=channel) for name in "xy" for channel in ("a", "b")]
    assert identity.journeys(copies) == identity.journeys(reversed(copies))


def test_a_retraction_works_before_and_after_its_target_and_under_any_subject() -> None:
    """It acts by the id that it names alone."""
    kept = touch("mon 09:00")
    for when, subject in (("mon 08:00", LEAD), ("tue 08:00", LEAD), ("tue 08:00", "web:9")):
        assert rows(kept, demo("mon 10:00"), retracted(when, "demo mon 10:00", subject=subject)) == rows(kept)


def test_retracting_removes_every_copy_of_an_id() -> None:
    """Its conflicts are gone too."""
    copies = (touch("mon 09:00", id="x"), touch("mon 08:00", id="x", recorded="mon 10:00"))
    assert rows(*copies, retracted("tue 09:00", "x")) == {}


def test_retracting_a_retraction_restores() -> None:
    """And so on along the chain."""
    events = (demo("mon 09:00"), retracted("mon 10:00", "demo mon 09:00", id="one"))
    assert rows(*events) == {}
    assert rows(*events, retracted("mon 11:00", "one", id="two")) == rows(demo("mon 09:00"))
    assert (
        rows(*events, retracted("mon 11:00", "one", id="two"), retracted("mon 12:00", "two", id="three"))
        == {}
    )


def test_retractions_on_a_cycle_have_no_effect() -> None:
    """Each is shown with its fault; also one that names itself."""
    ring = (
        retracted("mon 09:00", "b", id="a"),
        retracted("mon 10:00", "c", id="b"),
        retracted("mon 11:00", "a", id="c"),
    )
    assert faults(*ring) == {
        ("a", 1): "retraction_cycle",
        ("b", 1): "retraction_cycle",
        ("c", 1): "retraction_cycle",
    }
    assert faults(retracted("mon 09:00", "self", id="self")) == {("self", 1): "retraction_cycle"}


def test_a_cycle_that_is_broken_from_outside_is_none() -> None:
    """Retracting one event of it gives the rows of a log without that event."""
    ring = (retracted("mon 09:00", "b", id="a"), retracted("mon 10:00", "a", id="b"))
    assert faults(*ring, retracted("tue 09:00", "a", id="breaker")) == faults(ring[1])


def test_reference_facts_and_erasures_cannot_be_retracted() -> None:
    """The retraction is shown with its fault, the fact counts on."""
    fact = calendar("mon 09:00", {"mon": [["09:00", "17:00"]]})
    assert faults(fact, retracted("tue 09:00", fact.event_id, id="no")) == {("no", 1): "not_retractable"}
    erasure = erased("mon 09:00")
    assert faults(erasure, retracted("tue 09:00", erasure.event_id, id="no")) == {
        ("no", 1): "not_retractable"
    }
    assert identity.journeys([erasure, retracted("tue 09:00", erasure.event_id)])[LEAD].erased == [erasure]


def test_a_control_from_the_future_has_no_effect() -> None:
    """Neither a retraction, nor a link, nor an erasure counts before its time."""
    future = {"recorded": "mon 08:00"}
    assert faults(demo("mon 09:00"), retracted("mon 10:00", "demo mon 09:00", **future)) == {
        ("retracted mon 10:00", 1): "from_the_future"
    }
    assert set(
        identity.journeys([linked("mon 10:00", "web:1", **future), touch("mon 09:00", subject="web:1")])
    ) == {
        LEAD,
        "web:1",
    }
    assert identity.journeys([erased("mon 10:00", **future)])[LEAD].erased == []
    early = retracted("mon 10:00", "demo mon 09:00", **future)
    assert identity.journeys([demo("mon 09:00"), early])[LEAD].events == [demo("mon 09:00")]


def test_linked_subjects_are_one_journey_named_by_the_smallest() -> None:
    """Their events are sorted together; the link is an event of its own."""
    spec = given(demo("mon 10:00", subject="web:1"), touch("mon 09:00", subject="web:0"))
    spec = spec.when(linked("mon 11:00", "web:1"), linked("mon 12:00", "web:0", subject="web:1"))
    spec.then("lead_state", {"journey_id": LEAD, "first_touch_at": at("mon 09:00"), "event_count": 4})


def test_unlinking_gives_the_rows_of_a_log_without_the_link() -> None:
    """Nothing of it is left, and retracting the unlink brings it back."""
    events = (touch("mon 09:00"), demo("mon 10:00", subject="web:1"))
    link, unlink = linked("mon 11:00", "web:1", id="link"), unlinked("mon 12:00", "link", id="unlink")
    assert rows(*events, link, unlink) == rows(*events)
    assert rows(*events, link, unlink, retracted("mon 13:00", "unlink")) == rows(*events, link)


def test_an_unlink_takes_back_links_only() -> None:
    """Naming another event it removes nothing."""
    assert rows(demo("mon 09:00"), unlinked("mon 10:00", "demo mon 09:00")) == rows(demo("mon 09:00"))


def test_components_take_the_smallest_id_by_bytes() -> None:
    """Whatever the order of links; unlinked subjects are their own journey."""
    links = [("b", "c"), ("é", "c"), ("z", "Z")]
    expected = {"b": "b", "c": "b", "é": "b", "z": "Z", "Z": "Z", "alone": "alone"}
    for seed in range(5):
        Random(seed).shuffle(links)
        assert components(["alone"], links) == expected


def test_a_closed_set_of_names_is_resolved_without_records() -> None:
    """What the live path asks: ids, what they are, what they name."""
    named = {
        "touch": Naming("TouchRecorded"),
        "r1": Naming("EventRetracted", "touch"),
        "r2": Naming("EventRetracted", "unknown"),
        "link": Naming("SubjectsLinked"),
        "u1": Naming("SubjectsUnlinked", "link"),
        "u2": Naming("SubjectsUnlinked", "touch"),
        "u3": Naming("SubjectsUnlinked", "fact"),
        "fact": Naming("CalendarChanged"),
        "r3": Naming("EventRetracted", "fact"),
    }
    resolution = resolve_retractions(named)
    assert resolution == Resolution(frozenset({"touch", "link"}), frozenset(), frozenset({"r3"}))


def test_what_a_retraction_names_waits_for_all_that_name_it() -> None:
    """`taking` would take the touch back, but is taken back itself, at the end of a longer chain."""
    named = {
        "touch": Naming("TouchRecorded"),
        "taking": Naming("EventRetracted", "touch"),
        "unlink": Naming("SubjectsUnlinked", "taking"),
        "r1": Naming("EventRetracted", "taking"),
        "r2": Naming("EventRetracted", "r1"),
        "r3": Naming("EventRetracted", "r2"),
    }
    assert resolve_retractions(named).removed == {"taking", "r2"}


def test_what_two_took_back_lets_go_of_its_target_once() -> None:
    """`taken` names `taking`, which waits for `r4` too, and that for a chain."""
    named = {
        "touch": Naming("TouchRecorded"),
        "taking": Naming("EventRetracted", "touch"),
        "taken": Naming("EventRetracted", "taking"),
        "r1": Naming("EventRetracted", "taken"),
        "r2": Naming("EventRetracted", "taken"),
        "r4": Naming("EventRetracted", "taking"),
        "r5": Naming("EventRetracted", "r4"),
        "r6": Naming("EventRetracted", "r5"),
    }
    assert resolve_retractions(named).removed == {"taken", "taking", "r5"}


def test_erasure_redacts_personal_values_and_changes_no_row() -> None:
    """Texts, attendees, properties, personal attributes and the subject as actor are gone."""
    events = (
        touch("mon 09:00", url="https://x/?mail=zoe", properties={"mail": "zoe"}, by=r.Actor("human", LEAD)),
        attribute("mon 09:30", "email", "zoe@example.org"),
        attribute("mon 09:40", "country", "DE"),
        demo("mon 10:00"),
        rejected("mon 11:00", "other", note="Zoe left"),
    )
    [history] = identity.journeys([*events, erased("tue 09:00")], personal={"email"}).values()
    shown = msgspec.json.encode(history.events).decode()
    assert "zoe" not in shown.lower()
    assert LEAD not in [event.actor.id for event in history.events]
    assert '"DE"' in shown
    assert PERSON in [event.actor for event in history.events]
    left = rows(*events)[LEAD]
    assert rows(*events, erased("tue 09:00"))[LEAD]["lead_state"] == left["lead_state"]


def test_an_erasure_redacts_only_its_subject() -> None:
    """Another subject of the same journey keeps what it said."""
    link = linked("mon 08:00", "web:1")
    note = accepted("mon 09:00", subject="web:1", note="hello")
    [history] = identity.journeys([link, note, erased("tue 09:00")]).values()
    assert note in history.events


def test_a_text_that_was_not_given_stays_missing() -> None:
    """So that what is missing after an erasure was missing before."""
    for note in (None, ""):
        assert redact(accepted("mon 09:00", note=note), ()).note == note


@pytest.mark.parametrize(
    "event", [moved("mon 11:00", "SAL"), opened("mon 11:00"), won("mon 11:00"), rejected("mon 11:00")]
)
def test_retracting_any_event_gives_the_rows_without_it(event: r.Envelope) -> None:
    """Whatever it had moved, opened or won."""
    events = (touch("mon 09:00"), demo("mon 10:00"), accepted("mon 12:00"))
    assert rows(*events, event, retracted("tue 09:00", event.event_id)) == rows(*events)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@over(st.sampled_from(sorted(THEMES)).flatmap(logs), st.data())
def test_retracting_any_event_of_any_log_gives_the_rows_without_it(
    log: list[r.Record], data: st.DataObject
) -> None:
    """Also links, retractions, unlinks and events on a cycle; but for what cannot be retracted."""
    assume(log)
    target = data.draw(st.sampled_from(sorted({event.event_id for event in log})))
    copies = [event for event in log if event.event_id == target]
    if type(identity.ranked(copies)[0]).__name__ in identity.PERMANENT:
        return
    assert rows(*log, retracted("mon 09:00", target, id="the last word")) == rows(
        *(event for event in log if event.event_id != target)
    )
