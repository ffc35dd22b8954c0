"""SLA clocks: when they start, stop and are cancelled, what pauses, and which calendar measures them.

Guards the stored instants. Guarded elsewhere: business hours themselves, and the state of a clock now, which
is a view.
"""

from projections import identity, journey
from projections.definition import parse
from projections.rules import Entry, Rules
from schemas import records as r
from tests.given import (
    DEFINITION,
    HOUSE,
    MACHINE,
    PERSON,
    Cells,
    Spec,
    accepted,
    assigned,
    at,
    attribute,
    by_table,
    calendar,
    demo,
    erased,
    given,
    moved,
    opened,
    paused,
    rejected,
    resumed,
    rules,
    touch,
    won,
)

MQL = demo("mon 10:00")
CALL = {"direction": "outbound", "touch_type": "call", "by": PERSON, "id": "call"}


def clock(spec: Spec, policy: str) -> Cells:
    """The only clock of a policy."""
    [found] = [row for row in spec.table("sla_clock") if row["policy_id"] == policy]
    return found


def without_contact(text: str = DEFINITION) -> str:
    """The definition with the policy `review` alone."""
    begin, end = text.index("  - id: contact"), text.index("channels:")
    return text[:begin] + text[end:]


def test_a_clock_starts_at_a_real_entry() -> None:
    """Due and warnings are known at the start, in business time."""
    spec = given(assigned("mon 09:00", "ann", "emea"), MQL)
    review = clock(spec, "review")
    assert (review["started_at"], review["started_event_id"]) == (at("mon 10:00"), "demo mon 10:00")
    assert (review["due_at"], review["warn_at"]) == (at("mon 14:00"), at("mon 12:00"))
    assert (review["owner_id"], review["team_id"], review["calendar_id"]) == ("ann", "emea", "office")
    assert review["stopped_at"] is None
    assert review["business_seconds_used"] is None
    assert review["paused_seconds"] == 0


def test_every_warning_has_a_row() -> None:
    """One row per share, earliest first."""
    warnings = [w for w in given(MQL).table("sla_warning") if w["policy_id"] == "review"]
    assert [(w["share"], w["warn_at"]) for w in warnings] == [(0.5, at("mon 12:00")), (0.8, at("mon 13:12"))]


def test_a_policy_without_warnings_has_none() -> None:
    """An empty list is not the default."""
    spec = given(MQL).under(rules(without_contact().replace("warn_at: [0.5, 0.8]", "warn_at: []")))
    assert clock(spec, "review")["warn_at"] is None
    spec.then("sla_warning")


def test_a_clock_in_calendar_time_has_no_calendar() -> None:
    """Nights count, and the row names no calendar."""
    contact = clock(given(MQL), "contact")
    assert (contact["due_at"], contact["calendar_id"]) == (at("tue 10:00"), None)


def test_business_time_passes_over_night_and_holiday() -> None:
    """Three hours on Wednesday, none on the holiday, one on Friday."""
    assert clock(given(demo("wed 14:00")), "review")["due_at"] == at("fri 10:00")


def test_a_start_outside_hours_begins_at_the_next_opening() -> None:
    """The clock starts when it happened; its time when somebody can work."""
    review = clock(given(demo("fri 20:00")), "review")
    assert (review["started_at"], review["due_at"]) == (at("fri 20:00"), at("mon+1 13:00"))


def test_an_inferred_entry_starts_nothing() -> None:
    """A win out of nothing was never waiting for review."""
    given(won("mon 10:00")).then("sla_clock")


def test_a_second_start_while_it_runs_changes_nothing() -> None:
    """The first start counts."""
    spec = given(MQL, moved("mon 11:00", "SAL")).when(moved("mon 12:00", "MQL", "too soon"))
    assert clock(spec, "review")["started_at"] == at("mon 10:00")


def test_a_stop_by_record_says_when_and_how_much_was_used() -> None:
    """The stop's own recording time is kept, for what was met but logged late."""
    review = clock(given(MQL, accepted("tue 10:00", recorded="wed 10:00")), "review")
    assert (review["stopped_at"], review["stopped_event_id"]) == (at("tue 10:00"), "accepted tue 10:00")
    assert review["stopped_recorded_at"] == at("wed 10:00")
    assert review["business_seconds_used"] == 8 * 3600
    assert review["due_at"] == at("mon 14:00")
    assert review["cancelled_reason"] is None


def test_a_stop_item_asks_direction_and_actor() -> None:
    """Only a person's outbound touch is a contact."""
    spec = given(MQL, touch("mon 11:00"), touch("mon 12:00", **{**CALL, "by": MACHINE}))
    assert clock(spec, "contact")["stopped_at"] is None
    assert clock(given(MQL, touch("mon 11:00", **CALL)), "contact")["stopped_event_id"] == "call"


def test_an_inferred_entry_stops() -> None:
    """An opportunity out of mql has passed sql."""
    review = clock(given(MQL, opened("mon 11:00")), "review")
    assert (review["stopped_at"], review["cancelled_reason"]) == (at("mon 11:00"), None)


def test_a_move_away_cancels() -> None:
    """Neither mql, nor a stop, nor above: nobody has to review any more."""
    spec = given(MQL, moved("mon 11:00", "Nurture", "early"))
    review = clock(spec, "review")
    assert (review["cancelled_reason"], review["stopped_at"]) == ("moved", at("mon 11:00"))
    assert review["business_seconds_used"] == 3600
    assert review["due_at"] == at("mon 14:00")


def test_a_move_above_does_not_cancel() -> None:
    """A lead at sal still waits for its first contact."""
    assert clock(given(MQL, moved("mon 11:00", "SAL")), "contact")["cancelled_reason"] is None


def test_a_stop_and_a_move_away_at_one_event_is_a_stop() -> None:
    """A rejection is a review, although it moves the lead to a detour."""
    review = clock(given(MQL, rejected("mon 11:00")), "review")
    assert (review["cancelled_reason"], review["stopped_at"]) == (None, at("mon 11:00"))


def test_nothing_is_above_a_detour() -> None:
    """A clock started by a detour is cancelled by every other stage."""
    text = without_contact().replace("start: [{entered: mql}]", "start: [{entered: nurture}]")
    spec = given(moved("mon 10:00", "Nurture", "early"), moved("mon 11:00", "Known")).under(rules(text))
    assert clock(spec, "review")["cancelled_reason"] == "moved"


def test_a_detour_is_above_no_stage() -> None:
    """Nurture cancels also a clock that the lowest stage started."""
    text = without_contact().replace("start: [{entered: mql}]", "start: [{entered: anonymous}]")
    spec = given(touch("mon 10:00"), moved("mon 11:00", "Nurture", "early")).under(rules(text))
    assert clock(spec, "review")["cancelled_reason"] == "moved"


def test_an_inferred_entry_cancels_nothing() -> None:
    """A version that brings in sal infers it, below sql, while the clock of sql runs."""
    second = without_contact().replace("start: [{entered: mql}]", "start: [{entered: sql}]")
    second = second.replace(", {entered: sql}]", "]").replace("version: 1", "version: 2")
    first = second.replace("  - {name: SAL, role: sal}\n", "").replace("version: 2", "version: 1")
    timeline = [Entry(None, parse(first)), Entry(at("mon 11:00"), parse(second))]
    spec = given(moved("mon 10:00", "SQL"), moved("mon 12:00", "Opportunity")).under(Rules(timeline))
    assert [visit["stage"] for visit in spec.table("stage_visit") if visit["is_inferred"]][-1] == "SAL"
    assert clock(spec, "review")["cancelled_reason"] is None


def test_a_clock_belongs_to_the_last_stage_that_started_it() -> None:
    """One event that enters two such stages starts the clock of the second: a move back between them
    cancels it."""
    text = without_contact().replace(
        "start: [{entered: mql}]", "start: [{entered: anonymous}, {entered: mql}]"
    )
    spec = given(MQL, moved("mon 11:00", "Engaged", "too soon")).under(rules(text))
    assert clock(spec, "review")["cancelled_reason"] == "moved"


def test_a_clock_started_by_a_record_is_not_cancelled_by_moves() -> None:
    """It waits for its stop, wherever the lead goes."""
    text = without_contact().replace("start: [{entered: mql}]", "start: [{record: LeadAssigned}]")
    spec = given(assigned("mon 10:00", "ann"), moved("mon 11:00", "Nurture", "early")).under(rules(text))
    assert clock(spec, "review")["stopped_at"] is None


def test_an_event_stops_before_it_starts() -> None:
    """A record that is start and stop ends one clock and starts the next."""
    text = without_contact().replace("start: [{entered: mql}]", "start: [{record: LeadAssigned}]")
    text = text.replace("{record: HandoffRejected}", "{record: LeadAssigned}")
    spec = given(assigned("mon 10:00", "ann"), assigned("mon 11:00", "bob")).under(rules(text))
    spec.then(
        "sla_clock",
        {"clock_no": 1, "stopped_at": at("mon 11:00"), "owner_id": "ann"},
        {"clock_no": 2, "started_at": at("mon 11:00"), "owner_id": "bob"},
    )


def test_a_filter_sees_the_state_after_the_event() -> None:
    """The attribute that the starting event sets is already there."""
    text = without_contact().replace("start: [{entered: mql}]", "start: [{record: AttributeChanged}]")
    text = text.replace("target: 4h", "target: 4h\n    filter: {attribute: {name: country, is: DE}}")
    other = given(attribute("mon 10:00", "country", "FR")).under(rules(text))
    other.then("sla_clock")
    other.when(attribute("mon 11:00", "country", "DE")).then("sla_clock", {"started_at": at("mon 11:00")})


def test_a_pause_moves_due_and_later_warnings() -> None:
    """The time inside does not count, in the policy's own time."""
    spec = given(MQL, paused("mon 13:00"), resumed("tue 12:00"))
    review = clock(spec, "review")
    assert (review["due_at"], review["warn_at"]) == (at("tue 13:00"), at("mon 12:00"))
    assert (review["paused_seconds"], review["paused_from"]) == (23 * 3600, None)


def test_an_open_pause_hides_what_is_not_reached() -> None:
    """Without a bound nobody knows when it will be due; a warning that has passed stays."""
    review = clock(given(MQL, paused("mon 13:00")), "review")
    assert (review["due_at"], review["warn_at"], review["paused_seconds"]) == (None, at("mon 12:00"), 0.0)
    assert (review["paused_from"], review["paused_until"]) == (at("mon 13:00"), None)
    warnings = [w["warn_at"] for w in given(MQL, paused("mon 13:00")).table("sla_warning")]
    assert warnings[1:] == [at("mon 12:00"), None]


def test_pauses_before_an_open_one_are_all_shown() -> None:
    """An hour and two hours lie behind it; how long it will be itself is not known."""
    spec = given(MQL, paused("mon 10:15"), resumed("mon 11:15"), paused("mon 12:00"), resumed("mon 14:00"))
    review = clock(spec.when(paused("mon 15:00")), "review")
    assert (review["paused_seconds"], review["paused_from"]) == (3 * 3600, at("mon 15:00"))


def test_max_pause_bounds_the_sum_of_pauses() -> None:
    """After six hours in all the clock runs on, whatever is said."""
    spec = given(MQL, paused("mon 12:00"), resumed("mon 16:00"), paused("mon 20:00"))
    contact = clock(spec, "contact")
    assert (contact["paused_until"], contact["due_at"]) == (at("mon 22:00"), at("tue 16:00"))
    assert contact["paused_seconds"] == 4 * 3600
    later = clock(spec.when(resumed("mon 23:00"), paused("mon 23:30")), "contact")
    assert (later["due_at"], later["paused_seconds"], later["paused_from"]) == (
        at("tue 16:00"),
        6 * 3600,
        None,
    )


def test_a_second_pause_while_paused_changes_nothing() -> None:
    """Nor does a resumption of what runs."""
    assert clock(given(MQL, resumed("mon 12:00")), "contact") == clock(given(MQL), "contact")
    spec = given(MQL, paused("mon 12:00"), resumed("mon 13:00"))
    spec = spec.when(paused("mon 14:00"), paused("mon 15:00"), resumed("mon 16:00"), resumed("mon 17:00"))
    contact = clock(spec, "contact")
    assert (contact["paused_seconds"], contact["due_at"]) == (3 * 3600, at("tue 13:00"))


def test_pauses_of_one_policy_leave_others_alone() -> None:
    """A pause, or its end, that names a policy is meant for it."""
    spec = given(MQL, paused("mon 12:00", "review"))
    assert clock(spec, "contact")["paused_from"] is None
    assert clock(spec, "review")["paused_from"] == at("mon 12:00")
    both = given(MQL, paused("mon 11:00"), resumed("mon 12:00", "contact"))
    assert clock(both, "contact")["paused_from"] is None
    assert clock(both, "review")["paused_from"] == at("mon 11:00")


def test_a_pause_at_or_after_due_or_before_the_start_has_no_effect() -> None:
    """What is due is due; what has not started cannot be paused."""
    assert clock(given(MQL, paused("mon 14:00", "review")), "review")["paused_from"] is None
    assert clock(given(paused("mon 09:00"), MQL), "review")["paused_from"] is None


def test_a_stop_during_a_pause_ends_it() -> None:
    """Due is what it would have been had the clock run on from the stop."""
    review = clock(given(MQL, paused("mon 12:00"), accepted("tue 10:00")), "review")
    assert (review["business_seconds_used"], review["paused_seconds"]) == (2 * 3600, 22 * 3600)
    assert (review["due_at"], review["paused_from"]) == (at("tue 12:00"), None)


def test_a_pause_that_ended_before_the_stop_keeps_its_end() -> None:
    """What was worked after it counts."""
    review = clock(given(MQL, paused("mon 11:00"), resumed("mon 12:00"), accepted("mon 13:00")), "review")
    assert (review["business_seconds_used"], review["paused_seconds"]) == (2 * 3600, 3600)
    assert review["due_at"] == at("mon 15:00")


def test_an_open_clock_is_measured_from_its_start_by_a_later_calendar() -> None:
    """Also when the fact comes after the journey's last event; of several the last one counts."""
    late = calendar("tue 09:00", {day: [["12:00", "13:00"]] for day in ("mon", "tue", "wed", "fri")})
    early = calendar("mon 08:00", {"mon": [["10:00", "11:00"]]})
    spec = given(MQL).under(rules(DEFINITION, late, early))
    assert clock(spec, "review")["due_at"] == at("fri 13:00")


def test_a_calendar_fact_after_the_last_event_needs_no_other_fold() -> None:
    """The state that was folded before it was known shows the rows of one that knew it."""
    late = calendar("tue 09:00", {day: [["12:00", "13:00"]] for day in ("mon", "tue", "wed", "fri")})
    known = rules(DEFINITION, late)
    for events in ([MQL], [MQL, paused("mon 11:00")], [MQL, erased("tue 08:00")]):
        [history] = identity.journeys(events).values()
        before, after = journey.fold(history, HOUSE), journey.fold(history, known)
        assert by_table(journey.rows(before, known)) == by_table(journey.rows(after, known))


def test_a_closed_clock_keeps_the_calendar_of_its_end() -> None:
    """A fact at the instant of the stop counts before it, a later one does not."""
    hours = {day: [["10:00", "11:00"]] for day in ("mon", "tue", "wed", "fri")}
    events = (MQL, accepted("mon 12:00"))
    kept = clock(given(*events).under(rules(DEFINITION, calendar("mon 12:01", hours))), "review")
    assert (kept["due_at"], kept["business_seconds_used"]) == (at("mon 14:00"), 2 * 3600)
    changed = clock(given(*events).under(rules(DEFINITION, calendar("mon 12:00", hours))), "review")
    assert (changed["due_at"], changed["business_seconds_used"]) == (at("fri 11:00"), 3600)


def test_a_pause_is_judged_by_the_calendar_as_of_the_pause() -> None:
    """Later facts move due before the pause, yet the pause happened."""
    early = calendar("wed 09:00", {"mon": [["00:00", "24:00"]]})
    spec = given(demo("mon 16:00"), paused("mon 22:00", "review")).under(rules(DEFINITION, early))
    review = clock(spec, "review")
    assert (review["paused_from"], review["due_at"]) == (at("mon 22:00"), at("mon 20:00"))


def test_a_calendar_fact_wins_over_those_of_later_definitions() -> None:
    """A definition that brings its own office does not undo what was said about it."""
    hours = {"mon": [["10:00", "11:00"]], "tue": [["10:00", "11:00"]]}
    timeline = [
        Entry(None, parse(DEFINITION)),
        Entry(at("tue 00:00"), parse(DEFINITION.replace("version: 1", "version: 2"))),
    ]
    spec = given(demo("wed 10:00")).under(Rules(timeline, [calendar("mon 00:00", hours)]))
    assert clock(spec, "review")["due_at"] == at("tue+2 11:00")


def test_a_clock_keeps_the_policy_of_its_start() -> None:
    """Target and stops are those of the version in force at the start."""
    second = without_contact().replace("version: 1", "version: 2").replace("target: 4h", "target: 1h")
    timeline = [Entry(None, parse(DEFINITION)), Entry(at("mon 11:00"), parse(second))]
    spec = given(MQL, moved("mon 12:00", "SAL")).under(Rules(timeline))
    assert clock(spec, "review")["due_at"] == at("mon 14:00")
    assert clock(spec, "contact")["stopped_at"] is None


def test_erasure_cancels_what_is_still_running() -> None:
    """At the first erasure, by that erasure; clocks that ended stay as they were."""
    erasures = (erased("mon 12:00", recorded="mon 12:05"), erased("mon 13:00"))
    spec = given(MQL, touch("mon 11:00", **CALL), *erasures)
    review = clock(spec, "review")
    assert (review["cancelled_reason"], review["stopped_at"]) == ("erased", at("mon 12:00"))
    assert (review["stopped_event_id"], review["stopped_recorded_at"]) == (
        "erased mon 12:00",
        at("mon 12:05"),
    )
    assert review["business_seconds_used"] == 2 * 3600
    assert clock(spec, "contact")["cancelled_reason"] is None


def test_erasure_before_the_start_cancels_at_the_start() -> None:
    """A clock never ends before it began."""
    review = clock(given(erased("mon 09:00"), MQL), "review")
    assert (review["cancelled_reason"], review["stopped_at"]) == ("erased", at("mon 10:00"))


def test_erasure_ends_an_open_pause() -> None:
    """What lies after the erasure is no part of the clock."""
    review = clock(given(MQL, paused("mon 11:00"), resumed("mon 13:00"), erased("mon 12:00")), "review")
    assert (review["paused_seconds"], review["business_seconds_used"]) == (3600, 3600)
    assert review["due_at"] == at("mon 15:00")


def test_a_pause_after_the_erasure_never_was() -> None:
    """The clock ended before it: due is what it was."""
    review = clock(given(MQL, paused("mon 13:00"), erased("mon 12:00")), "review")
    assert (review["due_at"], review["paused_seconds"]) == (at("mon 14:00"), 0)


def test_a_warning_is_floored_to_the_microsecond() -> None:
    """0.3 of one second and a bit is not rounded up."""
    text = (
        without_contact()
        .replace("target: 4h", "target: 1s")
        .replace("warn_at: [0.5, 0.8]", "warn_at: [0.3333333]")
    )
    warning = given(MQL).under(rules(text)).table("sla_warning")[0]
    assert warning["warn_at"] - at("mon 10:00") == 333_333


def test_a_target_of_zero_is_due_at_once() -> None:
    """Also outside hours."""
    text = without_contact().replace("target: 4h", "target: 0s")
    assert clock(given(demo("fri 20:00")).under(rules(text)), "review")["due_at"] == at("fri 20:00")


def test_a_pause_of_an_unknown_policy_changes_nothing() -> None:
    """It is no fault either: the policy may belong to another definition."""
    spec = given(MQL, paused("mon 11:00", "no such policy"))
    assert clock(spec, "review")["paused_from"] is None
    assert spec.table("fault") == []
    assert isinstance(spec.events[1], r.ClockPaused)
