"""The stage machine and the visits: which stages a lead enters at an event, and how long it was in each.

Guards each row of the contract's table of moves. Guarded elsewhere: hand-offs, deals, faults.
"""

from itertools import pairwise

import pytest

from tests.given import (
    DEFINITION,
    HOUR,
    MACHINE,
    Spec,
    accepted,
    assigned,
    at,
    attribute,
    calendar,
    churned,
    demo,
    erased,
    given,
    linked,
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


def stages(spec: Spec) -> list[str]:
    """The visits in order; an inferred one in brackets."""
    return [f"({v['stage']})" if v["is_inferred"] else str(v["stage"]) for v in spec.table("stage_visit")]


def test_first_event_enters_the_lowest_stage() -> None:
    """Whatever it is, the first event makes a visit of the lowest success stage."""
    assert stages(given(resumed("mon 09:00"))) == ["Visitor"]


def test_first_event_then_has_its_own_effect() -> None:
    """A first event that moves makes two visits, the first of zero length."""
    spec = given(moved("mon 09:00", "Nurture", "too early"))
    spec.then(
        "stage_visit",
        {
            "stage": "Visitor",
            "left_at": at("mon 09:00"),
            "calendar_seconds": 0.0,
            "left_event_id": "moved mon 09:00",
        },
        {"stage": "Nurture", "left_at": None, "entered_event_id": "moved mon 09:00"},
    )


def test_lowest_stage_is_known_without_an_anonymous_one() -> None:
    """A definition that begins at known starts journeys there."""
    house = rules(DEFINITION.replace("  - {name: Visitor, role: anonymous}\n", ""))
    assert stages(given(touch("mon 09:00")).under(house)) == ["Known"]


@pytest.mark.parametrize("evidence", ["identified", "merged_in_crm", "import"])
def test_identifying_link_makes_a_lead_known(evidence: str) -> None:
    """A link that says who it is lifts a visitor to known."""
    spec = given(touch("mon 09:00")).when(linked("mon 10:00", "web:1", evidence))
    assert stages(spec) == ["Visitor", "Known"]


@pytest.mark.parametrize("evidence", ["same_email", "manual"])
def test_other_links_leave_a_visitor_anonymous(evidence: str) -> None:
    """A link by guess or by hand does not identify."""
    assert stages(given(linked("mon 10:00", "web:1", evidence))) == ["Visitor"]


def test_identifying_link_leaves_a_lead_in_a_detour() -> None:
    """A recycled lead that is identified stays recycled."""
    spec = given(moved("mon 09:00", "Recycled", "early")).when(linked("mon 10:00", "web:1"))
    assert stages(spec) == ["Visitor", "Recycled"]


def test_identifying_link_does_not_lower_a_lead() -> None:
    """A lead beyond known stays where it is."""
    assert stages(given(demo("mon 09:00"), linked("mon 10:00", "web:1")))[-1] == "MQL"


def test_skipped_stages_are_inferred_at_the_same_instant() -> None:
    """A jump leaves zero-length visits of the stages between, in role order."""
    spec = given(touch("mon 09:00")).when(demo("mon 10:00"))
    assert stages(spec) == ["Visitor", "(Known)", "(Engaged)", "MQL"]
    known = spec.table("stage_visit")[1]
    assert (known["entered_at"], known["left_at"], known["next_stage"]) == (
        at("mon 10:00"),
        at("mon 10:00"),
        "MQL",
    )


def test_stage_changed_moves_forward_without_reason() -> None:
    """Up needs no reason, and below sql no person."""
    assert stages(given(moved("mon 09:00", "SAL", by=MACHINE)))[-1] == "SAL"


def test_stage_changed_moves_out_of_every_detour() -> None:
    """From a detour a success stage needs no reason, not even the lowest."""
    for detour in ("Recycled", "Nurture", "Disqualified", "Lost", "Churned"):
        spec = given(moved("mon 10:00", detour, "why")).when(moved("mon 11:00", "Visitor"))
        assert stages(spec) == ["Visitor", detour, "Visitor"]


def test_stage_changed_backward_with_reason() -> None:
    """Down is legal with a reason, and rules do not lift the lead again at that event."""
    spec = given(touch("mon 09:00", touch_type="content_downloaded")).when(
        moved("mon 10:00", "Visitor", "mistake")
    )
    assert stages(spec) == ["Visitor", "(Known)", "Engaged", "Visitor"]
    assert stages(spec.when(resumed("mon 11:00"))) == ["Visitor", "(Known)", "Engaged", "Visitor", "Engaged"]


def test_stage_changed_to_the_present_stage_has_no_effect() -> None:
    """Saying again where the lead is makes no visit, not even for a machine at sql."""
    spec = given(accepted("mon 09:00")).when(moved("mon 10:00", "SQL", by=MACHINE))
    assert stages(spec)[-1] == "SQL"
    assert spec.table("fault") == []


def test_rule_enters_the_highest_stage_that_holds() -> None:
    """Engaged and mql both hold: mql is entered, engaged inferred."""
    spec = given(touch("mon 09:00", touch_type="content_downloaded", offer_id="demo"))
    assert stages(spec) == ["Visitor", "(Known)", "(Engaged)", "MQL"]


def test_a_stage_without_a_rule_is_passed_over() -> None:
    """A rule of known is asked below an engaged without one, and a known lead still rises by rule."""
    text = DEFINITION.replace(", enter: {score_at_least: 10}", "")
    text = text.replace("role: known}", "role: known, enter: {event: LeadAssigned}}")
    spec = given(touch("mon 09:00"), assigned("mon 10:00", "ann")).under(rules(text))
    assert stages(spec) == ["Visitor", "Known"]
    assert stages(spec.when(demo("mon 11:00"))) == ["Visitor", "Known", "(Engaged)", "MQL"]
    again = given(moved("mon 09:00", "Recycled", "early"), assigned("mon 10:00", "ann")).under(rules(text))
    assert stages(again) == ["Visitor", "Recycled", "Known"]


def test_a_move_forward_may_be_followed_by_a_rule() -> None:
    """The event's own effect comes first, and both stages are really entered at it."""
    text = DEFINITION.replace("enter: {score_at_least: 10}", "enter: {event: SubjectsLinked}")
    spec = given(touch("mon 09:00"), linked("mon 10:00", "web:1")).under(rules(text))
    assert stages(spec) == ["Visitor", "Known", "Engaged"]


def test_rules_do_not_move_a_lead_at_or_above_mql() -> None:
    """An mql rule that is true again changes nothing."""
    assert stages(given(demo("mon 09:00"), demo("mon 10:00"))).count("MQL") == 1


def test_rules_lift_from_recycled_and_nurture() -> None:
    """New interest brings a recycled lead back."""
    for detour in ("Recycled", "Nurture"):
        spec = given(touch("mon 09:00"), moved("mon 10:00", detour, "why")).when(demo("mon 11:00"))
        assert stages(spec) == ["Visitor", detour, "MQL"]


def test_rules_leave_other_detours_alone() -> None:
    """Disqualified, lost and churned leads are brought back by people only."""
    for detour in ("Disqualified", "Lost", "Churned"):
        spec = given(touch("mon 09:00"), moved("mon 10:00", detour, "why")).when(demo("mon 11:00"))
        assert stages(spec)[-1] == detour


def test_a_return_starts_predicates_again() -> None:
    """Points, touches and events from before a return no longer count, nor does what they would lose."""
    early = given(touch("mon 09:00"), moved("mon 10:00", "Recycled", "early"))
    early.then_lead(score=0)
    early.when(resumed("mon+2 09:00")).then_lead(score=0)
    house = rules(DEFINITION.replace("enter: {score_at_least: 10}", "enter: {event: TouchRecorded}"))
    early.when(resumed("mon 11:00")).under(house).then_lead(stage="Recycled")
    spec = early.when(touch("mon 11:00"))
    spec.then_lead(score=5, stage="Recycled")
    spec.when(touch("mon 12:00")).then_lead(score=10, stage="Engaged")


def test_a_new_pass_infers_only_mql_and_above() -> None:
    """After a return what lies below mql is not inferred again."""
    spec = given(demo("mon 09:00"), rejected("mon 10:00")).when(accepted("mon 11:00"))
    assert stages(spec)[5:] == ["(MQL)", "(SAL)", "SQL"]


def test_handoff_accepted_moves_to_sql_from_below_and_from_a_return() -> None:
    """Sales takes a lead from any stage before sql and from each return."""
    assert stages(given(touch("mon 09:00"), accepted("mon 10:00")))[-1] == "SQL"
    for detour in ("Recycled", "Nurture", "Disqualified"):
        assert stages(given(moved("mon 09:00", detour, "why"), accepted("mon 10:00")))[-1] == "SQL"


def test_handoff_accepted_leaves_a_lost_or_later_lead() -> None:
    """An acceptance of a lead at sql or above, lost or churned, is no move."""
    for stage in ("Lost", "Churned", "Opportunity", "Customer"):
        assert stages(given(moved("mon 09:00", stage, "why"), accepted("mon 10:00")))[-1] == stage


def test_handoff_rejected_moves_to_where_it_says() -> None:
    """The rejected lead goes to the stage of `return_to`."""
    for role, stage in (("recycled", "Recycled"), ("nurture", "Nurture"), ("disqualified", "Disqualified")):
        assert stages(given(demo("mon 09:00"), rejected("mon 10:00", return_to=role)))[-1] == stage


def test_opportunity_opened_lifts_from_every_detour_but_not_from_won() -> None:
    """A deal is a reason to be at opportunity, whatever came before, but for a customer."""
    for detour in ("Recycled", "Nurture", "Disqualified", "Lost", "Churned"):
        assert stages(given(moved("mon 09:00", detour, "why"), opened("mon 10:00")))[-1] == "Opportunity"
    assert stages(given(won("mon 09:00"), opened("mon 10:00", "second")))[-1] == "Customer"


def test_opportunity_opened_without_such_a_stage_is_no_move() -> None:
    """A tenant without the role opportunity keeps the lead where it is."""
    house = rules(DEFINITION.replace("  - {name: Opportunity, role: opportunity}\n", ""))
    assert stages(given(accepted("mon 09:00"), opened("mon 10:00")).under(house))[-1] == "SQL"


def test_reopened_without_opportunity_stage_goes_to_the_highest_below() -> None:
    """A win taken back leaves a tenant without the role opportunity at sql."""
    house = rules(DEFINITION.replace("  - {name: Opportunity, role: opportunity}\n", ""))
    assert stages(given(won("mon 09:00"), reopened("mon 10:00")).under(house))[-1] == "SQL"


def test_won_without_opening_infers_everything_between() -> None:
    """A win out of nothing is legal."""
    spec = given(won("mon 09:00"))
    assert stages(spec) == [
        "Visitor",
        *(f"({s})" for s in ("Known", "Engaged", "MQL", "SAL", "SQL", "Opportunity")),
        "Customer",
    ]


def test_lost_leads_to_lost_only_when_no_deal_is_left() -> None:
    """While another deal is open the lead stays; without any it is lost."""
    spec = given(opened("mon 09:00", "one"), opened("mon 10:00", "two")).when(lost("mon 11:00", "one"))
    assert stages(spec)[-1] == "Opportunity"
    assert stages(spec.when(lost("mon 12:00", "two")))[-1] == "Lost"


def test_lost_beside_a_won_deal_leads_back_to_won() -> None:
    """A customer who loses a later deal is still a customer."""
    spec = given(
        won("mon 09:00", deal="one"), moved("mon 10:00", "Opportunity", "upsell"), opened("mon 11:00", "two")
    )
    assert stages(spec.when(lost("mon 12:00", "two")))[-1] == "Customer"


def test_lost_after_a_churn_leads_back_to_churned() -> None:
    """A churned customer whose win-back fails is churned, not a customer."""
    spec = given(won("mon 09:00", deal="one"), churned("mon 10:00"), opened("mon 11:00", "two"))
    assert stages(spec)[-1] == "Opportunity"
    assert stages(spec.when(lost("mon 12:00", "two")))[-1] == "Churned"


def test_a_win_that_no_longer_counts_does_not_outlive_a_churn() -> None:
    """Lost after its own win, the win-back leaves the customer churned, and so does the next loss."""
    spec = given(won("mon 09:00", deal="one"), churned("mon 10:00"), won("mon 11:00", deal="two"))
    spec = spec.when(lost("mon 12:00", "two"))
    assert stages(spec)[-1] == "Churned"
    assert stages(spec.when(lost("mon 13:00", "three")))[-1] == "Churned"


def test_a_win_that_counts_outlives_a_churn_before_it() -> None:
    """Won back, the customer stays one when a third deal is lost."""
    spec = given(won("mon 09:00", deal="one"), churned("mon 10:00"), won("mon 11:00", deal="two"))
    spec = spec.when(opened("mon 12:00", "three"), lost("mon 13:00", "three"))
    assert stages(spec)[-1] == "Customer"


def test_lost_after_a_renewal_leads_to_won() -> None:
    """A renewal after the churn makes the customer one again."""
    spec = given(
        won("mon 09:00", deal="one"), churned("mon 10:00"), renewed("mon 11:00"), opened("mon 12:00", "two")
    )
    assert stages(spec.when(lost("mon 13:00", "two")))[-1] == "Customer"


def test_reopened_goes_to_opportunity_unless_another_deal_is_won() -> None:
    """A win or loss taken back leaves an open deal."""
    assert stages(given(opened("mon 09:00"), lost("mon 10:00"), reopened("mon 11:00")))[-1] == "Opportunity"
    assert stages(given(won("mon 09:00"), reopened("mon 10:00")))[-1] == "Opportunity"
    spec = given(won("mon 09:00", deal="one"), won("mon 10:00", deal="two"), reopened("mon 11:00", "two"))
    assert stages(spec)[-1] == "Customer"


def test_reopening_what_is_not_decided_has_no_effect() -> None:
    """Neither an open deal nor an unknown one moves the lead."""
    assert stages(given(touch("mon 09:00"), reopened("mon 10:00"))) == ["Visitor"]
    spec = given(opened("mon 09:00"), moved("mon 10:00", "SQL", "mistake"), reopened("mon 11:00"))
    assert stages(spec)[-1] == "SQL"


def test_churned_and_renewed() -> None:
    """A churn leaves won, a renewal brings back, and a renewal in between moves nothing."""
    spec = given(won("mon 09:00")).when(churned("mon 10:00"))
    assert stages(spec)[-1] == "Churned"
    assert stages(spec.when(renewed("mon 11:00"), renewed("mon 12:00")))[-2:] == ["Churned", "Customer"]
    aside = given(won("mon 09:00"), moved("mon 10:00", "Nurture", "upsell"), renewed("mon 11:00"))
    assert stages(aside)[-1] == "Nurture"


def test_a_role_that_the_definition_lacks_is_no_move() -> None:
    """Without churned and lost stages such events leave the lead where it is."""
    house = rules(
        DEFINITION.replace("  - {name: Churned, role: churned}\n", "").replace(
            "  - {name: Lost, role: lost}\n", ""
        )
    )
    assert stages(given(won("mon 09:00"), churned("mon 10:00")).under(house))[-1] == "Customer"
    assert stages(given(opened("mon 09:00"), lost("mon 10:00")).under(house))[-1] == "Opportunity"


def test_visits_that_are_not_inferred_tile_the_time_line() -> None:
    """Each is left when, and by the event with which, the next is entered."""
    spec = given(
        touch("mon 09:00"), demo("tue 09:00"), rejected("wed 09:00"), demo("fri 09:00"), won("fri 09:00")
    )
    visits = [v for v in spec.table("stage_visit") if not v["is_inferred"]]
    for left, entered in pairwise(visits):
        assert (left["left_at"], left["left_event_id"]) == (
            entered["entered_at"],
            entered["entered_event_id"],
        )
        assert left["next_stage"] == entered["stage"]
    assert visits[-1]["left_at"] is None


def test_a_visit_is_measured_in_calendar_and_business_time() -> None:
    """Nights, and the holiday of Thursday, are no business time."""
    spec = given(touch("wed 16:00")).when(moved("fri 10:00", "Nurture", "later"))
    visit = spec.table("stage_visit")[0]
    assert visit["calendar_seconds"] == 42 * 3600
    assert visit["business_seconds"] == 2 * 3600
    assert visit["reason_code"] == "later"


def test_a_visit_is_measured_by_the_calendar_as_of_its_end() -> None:
    """A calendar fact counts for visits closed at or after it, from their entry."""
    night = calendar("tue 12:00", {"mon": [["20:00", "22:00"]]})
    spec = given(touch("mon 09:00"), moved("tue 11:00", "Known"), moved("tue 12:00", "Engaged"))
    seconds = [v["business_seconds"] for v in spec.under(rules(DEFINITION, night)).table("stage_visit")]
    assert seconds == [10 * 3600, 0.0, None]


def test_reason_of_a_visit_is_that_of_the_leaving_event() -> None:
    """An empty reason is none; an inferred visit was left at once for the same reason."""
    spec = given(demo("mon 09:00"), moved("mon 10:00", "SAL", "")).when(moved("mon 11:00", "MQL", "too soon"))
    assert [v["reason_code"] for v in spec.table("stage_visit")[3:]] == [None, "too soon", None]
    skipping = given(moved("mon 09:00", "Engaged", "call"))
    assert [v["reason_code"] for v in skipping.table("stage_visit")] == ["call", "call", None]


def test_previous_stage_and_furthest_role() -> None:
    """The previous stage is the last real visit before; the furthest role stays."""
    spec = given(touch("mon 09:00"), demo("mon 10:00"), rejected("mon 11:00"))
    spec.then_lead(stage="Recycled", previous_stage="MQL", furthest_role="mql", stage_role="recycled")
    given(moved("mon 09:00", "Engaged"), moved("mon 10:00", "SAL")).then_lead(previous_stage="Engaged")


def test_rule_with_not_holds_without_any_touch() -> None:
    """A predicate is asked at every event, also one that changes no counter."""
    text = DEFINITION.replace(
        "enter: {score_at_least: 10}", "enter: {not: {attribute: {name: bot, is: true}}}"
    )
    spec = given(attribute("mon 09:00", "bot", True)).under(rules(text))
    assert stages(spec) == ["Visitor"]
    assert stages(spec.when(attribute("mon 10:00", "bot", None)))[-1] == "Engaged"


def test_an_erasure_changes_no_visit() -> None:
    """Erasing the subject leaves every interval as it was."""
    events = (touch("mon 09:00"), demo("mon 10:00"), accepted("mon 11:00", note="Ann says yes"))
    assert given(*events, erased("mon 12:00")).table("stage_visit") == given(*events).table("stage_visit")
    assert at("mon 10:00") - at("mon 09:00") == HOUR
