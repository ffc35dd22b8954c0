"""The lead's row: score, touches, offers, owner and counts after the last folded event; and faults.

Guards each fault that depends on the journey, and that a faulted event has no effect at all.
"""

import pytest

from projections.definition import parse
from projections.rules import Entry, Rules
from schemas import records as r
from tests.given import (
    DEFINITION,
    MACHINE,
    Spec,
    accepted,
    adjusted,
    assigned,
    at,
    changed,
    churned,
    demo,
    exposed,
    given,
    lost,
    moved,
    opened,
    rejected,
    renewed,
    reopened,
    resumed,
    rules,
    touch,
    won,
)


def fault_codes(spec: Spec) -> dict[str, str]:
    """Event to fault."""
    return {row["event_id"]: row["code"] for row in spec.table("fault")}


def test_score_expires_inclusive_at_the_last_folded_event() -> None:
    """Points count to the microsecond of their expiry, as seen by the last event."""
    spec = given(touch("mon 09:00"))
    spec.when(resumed("mon+1 09:00")).then_lead(score=5)
    spec.when(resumed("mon+1 09:01")).then_lead(score=0)
    spec.when(touch("tue 09:00"), resumed("mon+1 09:01")).then_lead(score=5)


def test_points_without_expiry_stay() -> None:
    """A line without `expires_after` counts for ever, also for a touch that gets no credit."""
    push = touch("mon 09:00", touch_type="content_downloaded", direction="outbound")
    given(push, resumed("mon+50 09:00")).then_lead(score=10)


def test_exposures_never_score() -> None:
    """What was only seen is not counted."""
    given(exposed("mon 09:00")).then_lead(score=0, first_touch_at=None, event_count=1)


def test_a_switch_counts_anew_with_the_version_in_force() -> None:
    """Touches since the last return are scored by the new lines, also one that gets no credit; before the
    first valid_from the first counts."""
    second = DEFINITION.replace("version: 1", "version: 2").replace(
        "page_view, points: 5", "page_view, points: 50"
    )
    timeline = Rules([Entry(at("tue 00:00"), parse(DEFINITION)), Entry(at("wed 00:00"), parse(second))])
    spec = given(exposed("mon 08:00"), touch("mon 09:00", direction="outbound")).under(timeline)
    spec.then_lead(score=5, stage="Visitor", definition_version="house@1+house@2")
    spec.when(resumed("tue 09:00")).then_lead(score=5)
    spec.when(resumed("wed 00:00")).then_lead(score=50, stage="Engaged")
    spec.when(resumed("wed 00:00"), resumed("tue+1 00:00")).then_lead(score=0)


def test_a_switch_does_not_bring_back_what_a_return_forgot() -> None:
    """Counted anew is only what came since."""
    second = DEFINITION.replace("version: 1", "version: 2")
    timeline = Rules([Entry(None, parse(DEFINITION)), Entry(at("wed 00:00"), parse(second))])
    spec = given(touch("mon 09:00"), moved("mon 10:00", "Recycled", "early"), touch("tue 09:00"))
    spec.when(resumed("wed 09:00")).under(timeline).then_lead(score=5)


def test_a_visit_keeps_the_name_it_was_entered_under() -> None:
    """A renaming version compares by role and renames nothing that was."""
    second = DEFINITION.replace("version: 1", "version: 2").replace("name: MQL", "name: Qualified")
    timeline = Rules([Entry(None, parse(DEFINITION)), Entry(at("tue 00:00"), parse(second))])
    spec = given(demo("mon 09:00"), moved("wed 09:00", "Qualified")).under(timeline)
    spec.then_lead(stage="MQL", stage_role="mql")
    spec.when(moved("wed 10:00", "SAL"), moved("wed 11:00", "Qualified", "no")).then_lead(stage="Qualified")


def test_first_and_last_touch_of_any_direction() -> None:
    """Outbound touches are touches."""
    spec = given(touch("mon 09:00", direction="outbound"), touch("tue 09:00"), resumed("wed 09:00"))
    spec.then_lead(
        first_touch_at=at("mon 09:00"), last_touch_at=at("tue 09:00"), last_event_at=at("wed 09:00")
    )


def test_the_offer_that_pulled_the_lead_in() -> None:
    """First and last before mql come from inbound touches with an offer, each with its own campaign."""
    spec = given(
        touch("mon 08:00", campaign_id="no offer"),
        touch("mon 09:00", direction="outbound", offer_id="pushed"),
        touch("mon 10:00", offer_id="paper", campaign_id="winter"),
        demo("tue 09:00", campaign_id="spring"),
        touch("wed 09:00", offer_id="after"),
    )
    spec.then_lead(
        first_offer_id="paper",
        first_campaign_id="winter",
        last_offer_before_mql_id="demo",
        last_campaign_before_mql_id="spring",
    )


def test_without_mql_there_is_no_offer_before_it() -> None:
    """Only an entry into mql makes a last offer before it."""
    given(touch("mon 10:00", offer_id="paper")).then_lead(
        first_offer_id="paper", last_offer_before_mql_id=None
    )


def test_a_touch_at_the_instant_of_the_mql_entry_is_before_it() -> None:
    """Also if its event sorts after the one that entered."""
    spec = given(demo("mon 09:00"), touch("mon 09:00", offer_id="paper", id="zzz"))
    spec.then_lead(last_offer_before_mql_id="paper")


def test_the_latest_mql_entry_decides() -> None:
    """After a return the offer of the second time counts."""
    spec = given(
        demo("mon 09:00"), rejected("mon 10:00"), touch("tue 09:00", offer_id="paper"), demo("tue 10:00")
    )
    spec.then_lead(first_offer_id="demo", last_offer_before_mql_id="demo")
    spec.when(rejected("tue 11:00"), touch("wed 09:00", offer_id="paper"), accepted("wed 10:00")).then_lead(
        last_offer_before_mql_id="paper"
    )


def test_assignment_replaces_owner_and_team() -> None:
    """Both, also when the team is not told."""
    given(assigned("mon 09:00", "ann", "emea"), assigned("mon 10:00", "bob")).then_lead(
        owner_id="bob", team_id=None
    )


@pytest.mark.parametrize(
    ("code", "before", "event"),
    [
        ("unknown_stage", (), moved("tue 09:00", "Nowhere")),
        ("move_without_reason", (demo("mon 09:00"),), moved("tue 09:00", "Known")),
        ("move_without_reason", (), moved("tue 09:00", "Nurture", "")),
        ("sql_without_reviewer", (), moved("tue 09:00", "SQL", by=MACHINE)),
        ("sql_without_reviewer", (demo("mon 09:00"),), accepted("tue 09:00", by=MACHINE)),
        ("no_open_handoff", (touch("mon 09:00"),), rejected("tue 09:00")),
        ("unknown_reason_code", (demo("mon 09:00"),), rejected("tue 09:00", "bad hair")),
        ("note_missing", (demo("mon 09:00"),), rejected("tue 09:00", "other", note="")),
        ("money_without_currency", (), opened("tue 09:00", amount_minor=5)),
        ("money_without_currency", (), won("tue 09:00", currency="")),
        ("money_without_currency", (), changed("tue 09:00", amount_minor=5)),
        ("money_without_currency", (), renewed("tue 09:00", amount_minor=1)),
        ("money_without_currency", (won("mon 09:00"),), churned("tue 09:00", amount_minor=1)),
        ("money_without_currency", (won("mon 09:00"),), adjusted("tue 09:00", 5, currency="")),
        ("no_win_to_adjust", (touch("mon 09:00"),), adjusted("tue 09:00", 5)),
        ("no_win_to_adjust", (opened("mon 09:00"),), adjusted("tue 09:00", 5)),
        ("no_win_to_adjust", (won("mon 09:00"), reopened("mon 10:00")), adjusted("tue 09:00", 5)),
        ("currency_mismatch", (won("mon 09:00"),), adjusted("tue 09:00", 5, currency="USD")),
        ("not_a_customer", (opened("mon 09:00"),), churned("tue 09:00")),
        ("not_a_customer", (lost("mon 09:00"),), renewed("tue 09:00")),
        ("from_the_future", (), touch("tue 09:00", recorded="tue 08:54")),
    ],
)
def test_a_faulted_event_is_shown_and_has_no_effect(
    code: str, before: tuple[r.Envelope, ...], event: r.Envelope
) -> None:
    """The rows are those without it, but for the fault and its count."""
    spec = given(*before, event)
    assert fault_codes(spec) == {event.event_id: code}
    for table in ("stage_visit", "handoff", "sla_clock", "opportunity", "credit", "lead_money"):
        assert spec.table(table) == given(*before).table(table)
    counted = [{**row, "fault_count": 1} for row in given(*before).table("lead_state")]
    assert spec.table("lead_state") == counted


def test_a_journey_with_nothing_but_faults_has_only_those() -> None:
    """It has no lead row, and a later first event is the first."""
    spec = given(moved("mon 09:00", "Nowhere"))
    spec.then("lead_state")
    spec.when(touch("tue 09:00")).then_lead(event_count=1, fault_count=1, first_touch_at=at("tue 09:00"))


def test_a_customer_once_may_churn_although_the_win_was_taken_back() -> None:
    """Ever won is enough."""
    assert fault_codes(given(won("mon 09:00"), reopened("mon 10:00"), churned("mon 11:00"))) == {}


def test_return_to_a_stage_that_is_not_there_comes_first() -> None:
    """Of several faults the first in the contract's order is shown."""
    house = rules(DEFINITION.replace("  - {name: Nurture, role: nurture}\n", ""))
    spec = given(rejected("mon 09:00", "bad hair", "nurture")).under(house)
    assert fault_codes(spec) == {"rejected mon 09:00": "unknown_stage"}


def test_other_with_a_note_is_a_reason() -> None:
    """The note explains it."""
    given(demo("mon 09:00"), rejected("mon 10:00", "other", note="moved away")).then_lead(
        handoff_reason="other"
    )


def test_five_minutes_ahead_is_no_fault() -> None:
    """The tolerance is inclusive."""
    assert fault_codes(given(touch("tue 09:00", recorded="tue 08:55"))) == {}
