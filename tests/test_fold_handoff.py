"""Hand-offs: one per real entry into mql, and each of the ways in which it ends.

Guards outcome, flags, reason and owner. Guarded elsewhere: the faults of accepting and rejecting, clocks.
"""

import pytest

from schemas.records import Envelope
from tests.given import (
    DEFINITION,
    IMPORT,
    accepted,
    assigned,
    at,
    demo,
    given,
    lost,
    moved,
    opened,
    rejected,
    reopened,
    rules,
    touch,
    won,
)

MQL = demo("mon 09:00")


def test_a_lead_without_handoff_has_none() -> None:
    """Before mql there is nothing to accept."""
    given(touch("mon 09:00")).then_lead(handoff_status="none", handoff_reason=None)


def test_a_real_entry_into_mql_opens_one_with_owner_and_team() -> None:
    """The owner of the row is the one at its opening."""
    spec = given(assigned("mon 08:00", "ann", "emea"), MQL).when(assigned("mon 10:00", "bob"))
    spec.then(
        "handoff",
        {
            "opened_at": at("mon 09:00"),
            "opened_event_id": "demo mon 09:00",
            "owner_id": "ann",
            "team_id": "emea",
            "outcome": None,
            "ended_at": None,
        },
    )
    spec.then_lead(handoff_status="open", owner_id="bob", team_id=None)


def test_an_owner_assigned_by_the_opening_event_counts() -> None:
    """When the event that makes the lead an mql assigns it, the hand-off has that owner."""
    text = DEFINITION.replace(
        "enter: {touch: {offer_id: demo, direction: inbound, at_least: 1}}", "enter: {event: LeadAssigned}"
    )
    given(assigned("mon 09:00", "ann")).under(rules(text)).then("handoff", {"owner_id": "ann"})


def test_an_inferred_mql_opens_none() -> None:
    """Nobody was asked when mql was skipped."""
    given(won("mon 09:00")).then("handoff")


def test_accepted_by_sales() -> None:
    """HandoffAccepted ends it as accepted."""
    spec = given(MQL).when(accepted("mon 10:00"))
    spec.then(
        "handoff",
        {"outcome": "accepted", "ended_at": at("mon 10:00"), "ended_event_id": "accepted mon 10:00"},
    )
    spec.then_lead(handoff_status="accepted", flags="", stage="SQL")


def test_accepted_by_a_move_to_sql() -> None:
    """StageChanged to sql is an acceptance."""
    given(MQL, moved("mon 10:00", "SQL")).then("handoff", {"outcome": "accepted"})


def test_rejected_with_reason_and_date() -> None:
    """The reason and the date to try again are the rejection's."""
    spec = given(MQL).when(rejected("mon 10:00", "no_budget", recycle_until=at("fri 09:00")))
    spec.then("handoff", {"outcome": "rejected", "reason_code": "no_budget"})
    spec.then_lead(handoff_status="rejected", handoff_reason="no_budget", recycle_until=at("fri 09:00"))


def test_the_reason_of_the_last_rejection_stays() -> None:
    """A later acceptance does not hide why the lead was once rejected."""
    spec = given(MQL, rejected("mon 10:00")).when(demo("mon 11:00"), accepted("mon 12:00"))
    spec.then_lead(handoff_status="accepted", handoff_reason="no_need")
    spec.then("handoff", {"reason_code": "no_need"}, {"handoff_no": 2, "reason_code": None})


@pytest.mark.parametrize("event", [moved("mon 10:00", "Opportunity"), opened("mon 10:00"), won("mon 10:00")])
def test_any_other_move_above_sal_bypasses_it(event: Envelope) -> None:
    """Sales went on without deciding the hand-off."""
    given(MQL, event).then("handoff", {"outcome": "bypassed", "reason_code": None})


def test_a_reopened_deal_bypasses_it_where_there_is_no_opportunity_stage() -> None:
    """The move to sql is nobody's acceptance."""
    house = rules(DEFINITION.replace("  - {name: Opportunity, role: opportunity}\n", ""))
    spec = given(lost("mon 08:00"), moved("mon 09:00", "MQL"), reopened("mon 10:00")).under(house)
    spec.then("handoff", {"outcome": "bypassed"})


def test_moves_below_mql_or_to_a_detour_withdraw_it() -> None:
    """Marketing took it back, or the lead was lost."""
    for event in (
        moved("mon 10:00", "Known", "mistake"),
        moved("mon 10:00", "Nurture", "early"),
        lost("mon 10:00"),
    ):
        spec = given(MQL, event)
        spec.then("handoff", {"outcome": "withdrawn"})
        spec.then_lead(handoff_status="withdrawn")


def test_a_move_to_sal_and_back_leaves_it_open() -> None:
    """Between mql and sal sales still decides, and no second hand-off opens."""
    spec = given(MQL, moved("mon 10:00", "SAL")).when(moved("mon 11:00", "MQL", "too soon"))
    spec.then("handoff", {"outcome": None, "opened_at": at("mon 09:00")})


def test_the_same_rule_true_again_opens_no_second() -> None:
    """More interest while it is open changes nothing."""
    given(MQL, demo("mon 10:00")).then("handoff", {"handoff_no": 1})


def test_a_second_entry_after_a_decision_opens_a_second() -> None:
    """Each real entry into mql is one hand-off."""
    spec = given(MQL, rejected("mon 10:00"), demo("mon 11:00"))
    spec.then("handoff", {"outcome": "rejected"}, {"outcome": None, "opened_at": at("mon 11:00")})
    spec = spec.when(accepted("mon 12:00"))
    spec.then("handoff", {"outcome": "rejected", "ended_at": at("mon 10:00")}, {"outcome": "accepted"})
    spec.then_lead(flags="")


def test_accepted_without_mql_is_taken_and_flagged() -> None:
    """Sales takes whom it wants; the flag shows that marketing had not offered."""
    spec = given(touch("mon 09:00"), accepted("mon 10:00"))
    spec.then("handoff")
    spec.then_lead(handoff_status="accepted", flags="accepted_without_mql", stage="SQL")


def test_accepted_after_a_bypass_is_taken_without_move() -> None:
    """A late acceptance of an opportunity is kept as status and flag."""
    spec = given(MQL, opened("mon 10:00"), accepted("mon 11:00"))
    spec.then_lead(handoff_status="accepted", flags="accepted_without_mql", stage="Opportunity")


def test_accepting_again_has_no_effect() -> None:
    """Not even a flag, whoever says it again."""
    spec = given(MQL, accepted("mon 10:00"), accepted("mon 11:00", by=IMPORT))
    spec.then_lead(handoff_status="accepted", flags="", stage_entered_event_id="accepted mon 10:00")


def test_accepted_by_import_is_flagged() -> None:
    """An import says that somebody accepted, not who."""
    given(MQL, accepted("mon 10:00", by=IMPORT)).then_lead(
        handoff_status="accepted", flags="reviewer_unknown"
    )
    given(MQL, moved("mon 10:00", "SQL", by=IMPORT)).then_lead(flags="reviewer_unknown")
    given(MQL, moved("mon 10:00", "SAL", by=IMPORT)).then_lead(flags="")


def test_flags_are_sorted_and_stay() -> None:
    """Two flags stand in one text, each once."""
    spec = given(moved("mon 09:00", "SQL", by=IMPORT), moved("mon 10:00", "Nurture", "later"))
    spec.when(accepted("mon 11:00", by=IMPORT)).then_lead(flags="accepted_without_mql,reviewer_unknown")


def test_an_accepted_lead_stays_accepted_under_a_stricter_rule() -> None:
    """The mql rule of another definition does not undo what a person decided."""
    text = DEFINITION.replace(
        "offer_id: demo, direction: inbound, at_least: 1", "offer_id: gold, at_least: 3"
    )
    spec = given(MQL, accepted("mon 10:00")).under(rules(text))
    spec.then_lead(stage="SQL", handoff_status="accepted", flags="accepted_without_mql")
