"""Turns that random logs seldom take, one log each: `projections`, the oracle and the text agree.

Every case names the value that the rules give, so that both foldings could not be wrong in the same way.
"""

import json
from typing import Any

import msgspec

from schemas import records as r
from tests import oracle
from tests.comparison import Tables, differences, projected
from tests.histories import DAY, MINUTE, MONDAY

EIGHT = MONDAY + 480 * MINUTE
"""Monday 08:00 in UTC, 09:00 in Berlin."""
ROLES = [
    *["anonymous", "known", "engaged", "mql", "sal", "sql", "opportunity", "won"],
    *["recycled", "nurture", "disqualified", "lost", "churned"],
]
OFFICE = {
    "zone": "Europe/Berlin",
    "weekly": {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")},
    "holidays": [],
}
ALWAYS = {
    "zone": "UTC",
    "weekly": {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")},
    "holidays": [],
}
CALL: dict[str, Any] = {
    "id": "call",
    "start": [{"record": "TouchRecorded"}],
    "stop": [{"record": "MeetingHeld"}],
}
CALL |= {"target": "4h", "time": "business", "calendar": "office", "warn_at": [0.25, 0.8]}


def definition(version: int = 1, without: tuple[str, ...] = (), **changes: Any) -> str:
    body = {
        "definition_id": "d",
        "version": version,
        "rationale": "rare",
        "calendar": "office",
        "stages": [{"name": role, "role": role} for role in ROLES if role not in without],
        "calendars": {"office": OFFICE},
        "sla": [CALL],
    }
    return json.dumps(body | changes)


def event(name: str, minute: int, number: int, **fields: Any) -> r.Record:
    """A record of subject `s` at so many minutes after Monday 08:00, by a human."""
    at = EIGHT + minute * MINUTE
    envelope = {
        "event_id": f"e{number}",
        "subject_id": "s",
        "occurred_at": at,
        "recorded_at": at,
        "source": "test",
        "actor": {"kind": "human"},
    }
    return msgspec.convert(envelope | fields, r.RECORDS[name])


def touch(minute: int, number: int, **fields: Any) -> r.Record:
    own = {"touch_type": "call", "direction": "inbound", "channel": "web"}
    return event("TouchRecorded", minute, number, **(own | fields))


def pause(minute: int, number: int) -> r.Record:
    return event("ClockPaused", minute, number, reason_code="waiting")


def resume(minute: int, number: int) -> r.Record:
    return event("ClockResumed", minute, number, reason_code="back")


def won(minute: int, number: int, deal: str, amount: int = 100) -> r.Record:
    own = {"opportunity_id": deal, "amount_minor": amount, "currency": "EUR"}
    return event("OpportunityWon", minute, number, **own)


def lost(minute: int, number: int, deal: str) -> r.Record:
    return event("OpportunityLost", minute, number, opportunity_id=deal, reason_code="price")


def retraction(minute: int, number: int, target: int) -> r.Record:
    return event("EventRetracted", minute, number, target_event_id=f"e{target}", reason_code="mistake")


def agreed(log: list[r.Record], *versions: str) -> Tables:
    """The rows of a log, after a check that both readings give them; later versions start on Tuesday."""
    timeline: oracle.Timeline = [
        (None if n == 0 else MONDAY + n * DAY, text) for n, text in enumerate(versions)
    ]
    got = projected(log, timeline)
    lines = differences(oracle.tables(log, timeline), got)
    assert not lines, "\n".join(lines)
    return got


def only(tables: Tables, table: str) -> dict[str, Any]:
    (row,) = tables[table]
    return row


def test_a_churn_stays_the_last_word_when_a_later_win_is_lost() -> None:
    """A win that no longer counts does not hide the churn before it."""
    log = [won(0, 1, "a"), event("CustomerChurned", 1, 2), won(2, 3, "b"), lost(3, 4, "b")]
    assert only(agreed(log, definition()), "lead_state")["stage_role"] == "churned"


def test_a_renewal_after_a_churn_keeps_the_customer_when_a_deal_is_lost() -> None:
    """After churn and renewal, a lost second deal leaves the journey won."""
    log = [won(0, 1, "a"), event("CustomerChurned", 1, 2), event("CustomerRenewed", 2, 3)]
    log += [event("OpportunityOpened", 3, 4, opportunity_id="b"), lost(4, 5, "b")]
    assert only(agreed(log, definition()), "lead_state")["stage_role"] == "won"


def test_a_pause_after_max_pause_is_used_up_has_no_effect() -> None:
    """The second pause gets nothing, so the clock shows no open pause."""
    policy = CALL | {"max_pause": "30m"}
    log = [touch(0, 1), pause(10, 2), resume(60, 3), pause(90, 4)]
    clock = only(agreed(log, definition(sla=[policy])), "sla_clock")
    assert (clock["paused_seconds"], clock["paused_from"]) == (1800.0, None)
    assert clock["due_at"] == EIGHT + 270 * MINUTE


def test_the_last_pause_gets_what_max_pause_leaves() -> None:
    """Pauses of 20 minutes leave 10 of 30 to the open one."""
    policy = CALL | {"max_pause": "30m"}
    clock = only(
        agreed([touch(0, 1), pause(10, 2), resume(30, 3), pause(60, 4)], definition(sla=[policy])),
        "sla_clock",
    )
    assert clock["paused_until"] == EIGHT + 70 * MINUTE
    assert clock["due_at"] == EIGHT + 270 * MINUTE


def test_a_pause_at_the_due_instant_comes_too_late() -> None:
    """Paused exactly when due, the clock is due; paused a minute earlier, it is due at no known time."""
    late = only(agreed([touch(0, 1), pause(240, 2)], definition()), "sla_clock")
    early = only(agreed([touch(0, 1), pause(239, 2)], definition()), "sla_clock")
    assert (late["due_at"], late["paused_from"]) == (EIGHT + 240 * MINUTE, None)
    assert (early["due_at"], early["paused_from"]) == (None, EIGHT + 239 * MINUTE)


def test_an_open_pause_hides_only_the_warnings_not_reached() -> None:
    """The warning at a quarter was reached before the pause, the one at 80 % was not."""
    tables = agreed([touch(0, 1), pause(60, 2)], definition())
    assert {row["share"]: row["warn_at"] for row in tables["sla_warning"]} == {
        0.25: EIGHT + 60 * MINUTE,
        0.8: None,
    }


def test_a_pause_is_judged_with_the_calendar_of_its_time() -> None:
    """A pause that was in time under the old calendar stays when the new one puts the due instant first."""
    changed = event("CalendarChanged", 3000, 9, calendar_id="office", subject_id="office", **ALWAYS)
    log = [touch(420, 1), pause(900, 2), resume(960, 3), changed]
    clock = only(agreed(log, definition()), "sla_clock")
    assert clock["paused_seconds"] == 3600.0
    assert clock["due_at"] == EIGHT + 660 * MINUTE


def test_a_stop_in_a_pause_ends_the_pause() -> None:
    """Stopped while paused: the pause is closed, the time used leaves it out, the due instant is known."""
    clock = only(agreed([touch(0, 1), pause(60, 2), event("MeetingHeld", 120, 3, meeting_id="m", kind="x")],
                        definition()), "sla_clock")  # fmt: skip
    assert (clock["paused_seconds"], clock["business_seconds_used"]) == (3600.0, 3600.0)
    assert clock["due_at"] == EIGHT + 300 * MINUTE


def test_an_erasure_before_a_pause_forgets_the_pause() -> None:
    """A clock that is open at the end is cancelled at the erasure; what came after it is not measured."""
    erasure = event("SubjectErased", 30, 4, request_id="q")
    clock = only(agreed([touch(0, 1), pause(60, 2), resume(90, 3), erasure], definition()), "sla_clock")
    assert (clock["cancelled_reason"], clock["paused_seconds"]) == ("erased", 0.0)
    assert (clock["stopped_at"], clock["business_seconds_used"]) == (EIGHT + 30 * MINUTE, 1800.0)


def test_a_cycle_broken_from_outside_is_no_cycle() -> None:
    """Of three retractions in a ring one is retracted: the next is in force, and takes back the third."""
    ring = [retraction(1, 1, 2), retraction(2, 2, 3), retraction(3, 3, 1)]
    whole = agreed([touch(0, 9), *ring], definition())
    assert [row["code"] for row in whole["fault"]] == ["retraction_cycle"] * 3
    assert agreed([touch(0, 9), *ring, retraction(4, 4, 1)], definition())["fault"] == []


def test_a_link_brought_back_joins_again() -> None:
    """An unlink that is retracted itself takes nothing back."""
    link = event("SubjectsLinked", 1, 1, other_subject_id="t", evidence="manual")
    unlink = event("SubjectsUnlinked", 2, 2, link_event_id="e1", reason_code="mistake")
    log = [touch(0, 8), touch(0, 9, subject_id="t"), link, unlink]
    assert len(agreed(log, definition())["lead_state"]) == 2
    assert len(agreed([*log, retraction(3, 3, 2)], definition())["lead_state"]) == 1


def test_a_stage_that_a_version_drops_keeps_its_visit() -> None:
    """In a stage that the next version lacks, the journey stands by its role: sql is still ahead of it."""
    log = [event("StageChanged", 0, 1, to_stage="sal"), event("StageChanged", 3000, 2, to_stage="sql")]
    tables = agreed(log, definition(), definition(2, without=("sal",)))
    visits = sorted(tables["stage_visit"], key=lambda row: row["visit_no"])
    assert [row["stage"] for row in visits if not row["is_inferred"]] == ["anonymous", "sal", "sql"]


def test_a_reopened_deal_falls_back_where_there_is_no_opportunity_stage() -> None:
    """Without that stage the journey goes to the highest success stage below it."""
    log = [won(0, 1, "a"), event("OpportunityReopened", 1, 2, opportunity_id="a", reason_code="again")]
    assert only(agreed(log, definition(without=("opportunity",))), "lead_state")["stage_role"] == "sql"


def test_a_replaced_win_is_reversed_with_its_adjustments() -> None:
    """The reversal takes back win and refund, and only the second win counts."""
    refund = event("RevenueAdjusted", 2, 3, opportunity_id="a", delta_minor=-10, currency="EUR",
                   effective_at=EIGHT, reason_code="refund")  # fmt: skip
    tables = agreed([touch(0, 1), won(1, 2, "a"), refund, won(3, 4, "a", 70)], definition())
    booked = {(row["kind"], row["event_id"]): row["amounts"][0] for row in tables["credit"]}
    assert booked == {
        ("win", "e2"): 100,
        ("adjustment", "e3"): -10,
        ("reversal", "e4"): -90,
        ("win", "e4"): 70,
    }
    assert only(tables, "lead_money")["won_minor"] == 70


def test_a_reversal_takes_back_what_was_booked_and_not_a_new_split() -> None:
    """Two bookings of 100 gave the first of three touches 68: the reversal takes 68, where 200 gives 67."""
    upsell = event("RevenueAdjusted", 5, 5, opportunity_id="a", delta_minor=100, currency="EUR",
                   effective_at=EIGHT, reason_code="upsell")  # fmt: skip
    linear = {"models": [{"id": "linear"}]}
    log = [touch(0, 1), touch(1, 2), touch(2, 3), won(3, 4, "a"), upsell, lost(6, 6, "a")]
    tables = agreed(log, definition(attribution=linear))
    reversed_ = {
        row["touch_event_id"]: row["amounts"][0] for row in tables["credit"] if row["kind"] == "reversal"
    }
    assert reversed_ == {"e1": -68, "e2": -66, "e3": -66}


def test_the_lead_position_stands_at_the_first_known_entry() -> None:
    """A journey that goes back to known keeps the touch that first made it known."""
    log = [touch(0, 1), event("StageChanged", 1, 2, to_stage="engaged"), touch(2, 3)]
    log += [event("StageChanged", 3, 4, to_stage="known", reason_code="back"), touch(4, 5), won(5, 6, "a")]
    tables = agreed(log, definition())
    assert {row["touch_event_id"]: row["positions"] for row in tables["credit"]} == {
        "e1": "FT,LC",
        "e3": "",
        "e5": "CW",
    }


def test_a_fault_is_never_the_first_event() -> None:
    """A journey begins with its first event that counts."""
    log = [event("StageChanged", 0, 1, to_stage="nowhere"), touch(5, 2)]
    lead = only(agreed(log, definition()), "lead_state")
    assert (lead["stage_entered_event_id"], lead["event_count"], lead["fault_count"]) == ("e2", 1, 1)


def test_a_clock_is_started_by_the_last_of_the_stages_that_one_event_enters() -> None:
    """A first event enters anonymous and sql, and both start the clock: a move down from sql cancels it."""
    policy = CALL | {"start": [{"entered": "anonymous"}, {"entered": "sql"}]}
    log = [event("HandoffAccepted", 0, 1)]
    log += [event("StageChanged", 10, 2, to_stage="known", reason_code="back")]
    clock = only(agreed(log, definition(sla=[policy])), "sla_clock")
    assert (clock["cancelled_reason"], clock["stopped_event_id"]) == ("moved", "e2")


def test_a_clock_is_started_by_the_stage_when_record_and_stage_both_start_it() -> None:
    """Such a clock is cancelled by a move down, whatever the order of the items."""
    policy = CALL | {"start": [{"record": "StageChanged"}, {"entered": "mql"}]}
    log = [event("StageChanged", 0, 1, to_stage="mql")]
    log += [event("HandoffRejected", 10, 2, reason_code="no_need", return_to="recycled")]
    clock = only(agreed(log, definition(sla=[policy])), "sla_clock")
    assert (clock["cancelled_reason"], clock["stopped_event_id"]) == ("moved", "e2")
