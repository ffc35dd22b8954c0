"""Opportunities, money and credit: what became of each deal, and which touches it goes to.

Guards rows and signs. Guarded elsewhere: the weights of each model, and how a deal moves the lead.
"""

from projections import identity, journey
from projections.definition import parse
from projections.rules import Entry, Rules
from schemas.records import Utm
from tests.given import (
    DAY,
    DEFINITION,
    Cells,
    Spec,
    adjusted,
    at,
    changed,
    churned,
    demo,
    erased,
    exposed,
    given,
    linked,
    lost,
    moved,
    opened,
    renewed,
    reopened,
    rules,
    touch,
    won,
)

PATH = (
    touch("mon 09:00"),
    touch("mon 10:00", campaign_id="spring"),
    linked("mon 10:30", "web:1"),
    demo("tue 09:00"),
)


def deal(spec: Spec) -> Cells:
    """The only deal."""
    [found] = spec.table("opportunity")
    return found


def amounts(spec: Spec, model: str, kind: str = "win") -> dict[str, int]:
    """Touch to amount of one model, for the rows of a kind."""
    rows = [row for row in spec.table("credit") if row["kind"] == kind]
    return {row["touch_event_id"]: row["amounts"][row["models"].index(model)] for row in rows}


def total(spec: Spec, model: str) -> int:
    """What all rows of a model come to."""
    return sum(row["amounts"][row["models"].index(model)] for row in spec.table("credit"))


def test_an_opened_deal_is_open() -> None:
    """With account and amount as told."""
    spec = given(opened("mon 09:00", account_id="acme", amount_minor=500, currency="EUR"))
    spec.then(
        "opportunity",
        {
            "status": "open",
            "account_id": "acme",
            "opened_at": at("mon 09:00"),
            "closed_at": None,
            "amount_minor": 500,
            "adjusted_minor": 0,
            "currency": "EUR",
            "first_event_id": "opened mon 09:00",
        },
    )
    spec.then_lead(open_opportunities=1, won_opportunities=0)


def test_opened_again_says_only_how_much() -> None:
    """Neither date nor account of the first opening change, nor the stage."""
    first = opened("mon 09:00", account_id="acme", amount_minor=500, currency="EUR")
    spec = given(first, moved("mon 10:00", "SQL", "mistake"))
    spec = spec.when(opened("mon 11:00", account_id="other", amount_minor=700, currency="EUR"))
    assert (deal(spec)["opened_at"], deal(spec)["account_id"]) == (at("mon 09:00"), "acme")
    assert deal(spec)["amount_minor"] == 700
    spec.then_lead(stage="SQL")


def test_opened_again_without_amount_changes_nothing() -> None:
    """Silence about money is no news."""
    spec = given(opened("mon 09:00", amount_minor=500, currency="EUR"), opened("mon 10:00"))
    assert deal(spec)["amount_minor"] == 500


def test_opened_after_the_end_says_only_when() -> None:
    """A late opening dates the deal; amount, account and stage stay those of the win or loss."""
    spec = given(won("mon 09:00")).when(
        opened("mon 10:00", account_id="acme", amount_minor=7, currency="USD")
    )
    found = deal(spec)
    assert (found["opened_at"], found["account_id"], found["amount_minor"]) == (at("mon 10:00"), None, 1000)
    spec.then_lead(stage="Customer")
    given(lost("mon 09:00"), opened("mon 10:00")).then_lead(stage="Lost", open_opportunities=0)


def test_changed_says_how_much_while_open() -> None:
    """After the decision the amount is the decided one."""
    spec = given(opened("mon 09:00"), changed("mon 10:00", amount_minor=5, currency="EUR"))
    assert deal(spec)["amount_minor"] == 5
    assert (
        deal(spec.when(won("mon 11:00"), changed("mon 12:00", amount_minor=9, currency="EUR")))[
            "amount_minor"
        ]
        == 1000
    )


def test_a_deal_known_from_a_change_alone_is_open() -> None:
    """Its opening may be late; the stage does not move."""
    spec = given(changed("mon 09:00", amount_minor=5, currency="EUR"))
    assert (deal(spec)["status"], deal(spec)["opened_at"]) == ("open", None)
    spec.then_lead(stage="Visitor", open_opportunities=1)
    spec.when(opened("mon 10:00")).then_lead(stage="Opportunity")


def test_lost_with_reason() -> None:
    """The reason is kept until the deal is open again."""
    spec = given(opened("mon 09:00"), lost("mon 10:00", why="price"))
    assert (deal(spec)["status"], deal(spec)["loss_reason"], deal(spec)["closed_at"]) == (
        "lost",
        "price",
        at("mon 10:00"),
    )
    again = deal(spec.when(reopened("mon 11:00")))
    assert (again["status"], again["loss_reason"], again["closed_at"]) == ("open", None, None)
    assert deal(given(lost("mon 10:00", why="")))["loss_reason"] is None


def test_money_is_summed_per_currency_for_wins_in_force() -> None:
    """Adjustments stand beside, never inside, what was won."""
    spec = given(
        won("mon 09:00", 100, "a"), won("mon 10:00", 50, "b", currency="USD"), won("mon 11:00", 30, "c")
    )
    spec = spec.when(adjusted("mon 12:00", -20, "a"), reopened("mon 13:00", "c"))
    spec.then(
        "lead_money",
        {"currency": "EUR", "won_minor": 100, "adjusted_minor": -20},
        {"currency": "USD", "won_minor": 50, "adjusted_minor": 0},
    )
    spec.then_lead(open_opportunities=1, won_opportunities=2)
    given(won("mon 09:00", 0)).then("lead_money", {"currency": "EUR", "won_minor": 0})


def test_renewal_and_churn_leave_deals_alone() -> None:
    """They are about the customer, not about a deal."""
    spec = given(won("mon 09:00"), churned("mon 10:00"), renewed("mon 11:00", amount_minor=9, currency="EUR"))
    spec.then("lead_money", {"won_minor": 1000, "adjusted_minor": 0})
    assert deal(spec)["status"] == "won"


def test_credit_of_a_win_goes_to_its_touches() -> None:
    """One row per eligible touch, with its positions and every model's share."""
    spec = given(*PATH, opened("tue 10:00"), won("wed 09:00", 1001))
    rows = spec.table("credit")
    assert [(row["touch_event_id"], row["positions"]) for row in rows] == [
        ("demo tue 09:00", "OC,CW"),
        ("touch mon 09:00", "FT"),
        ("touch mon 10:00", "LC"),
    ]
    assert rows[0]["models"] == ("first", "last", "linear", "w30")
    assert amounts(spec, "first") == {"demo tue 09:00": 0, "touch mon 09:00": 1001, "touch mon 10:00": 0}
    assert amounts(spec, "linear") == {"demo tue 09:00": 333, "touch mon 09:00": 334, "touch mon 10:00": 334}
    assert {(row["effective_at"], row["won_at"], row["event_id"]) for row in rows} == {
        (at("wed 09:00"), at("wed 09:00"), "won wed 09:00")
    }
    assert rows[2]["campaign_id"] == "spring"


def test_every_model_sums_to_the_amount() -> None:
    """To the minor unit, whatever the amount."""
    for amount in (0, 1, 7, 1001, -5):
        spec = given(*PATH, won("wed 09:00", amount))
        assert [total(spec, model) for model in ("first", "last", "linear", "w30")] == [amount] * 4


def test_a_win_without_touch_is_unattributed() -> None:
    """The whole amount stands on one row without touch."""
    given(won("mon 09:00", 77)).then(
        "credit",
        {
            "touch_event_id": "",
            "channel": "unattributed",
            "touched_at": None,
            "weights": (1.0,) * 4,
            "amounts": (77,) * 4,
        },
    )


def test_lookback_is_inclusive() -> None:
    """A touch exactly as old counts, a microsecond older does not."""
    win = won("mon+5 09:00")
    limit = win.occurred_at - 30 * DAY
    inside = touch("mon 09:00", id="inside", occurred_at=limit, recorded_at=limit)
    outside = touch("mon 09:00", id="outside", occurred_at=limit - 1, recorded_at=limit)
    assert set(amounts(given(outside, inside, win), "first")) == {"inside"}
    older = touch("mon 09:00", id="older", occurred_at=limit - 2, recorded_at=limit)
    last = touch("mon+5 09:00", id="last")  # at which the older ones are dropped
    short = parse(DEFINITION.replace("lookback: 30d", "lookback: 1d"))
    timeline = Rules([Entry(None, short), Entry(limit - DAY, parse(DEFINITION))])
    for rules_in_force in (rules(), timeline):
        spec = given(older, outside, inside, last, win).under(rules_in_force)
        assert set(amounts(spec, "first")) == {"inside", "last"}


def test_a_touch_at_the_instant_of_the_win_counts_wherever_it_sorts() -> None:
    """Also when its event comes after the win, after an adjustment and after the reversal."""
    late = touch("wed 09:00", id="zzz")
    spec = given(*PATH, won("wed 09:00", 1001), adjusted("wed 09:00", 9, id="won wed 09:00 +"), late)
    assert amounts(spec, "last") == {**dict.fromkeys(amounts(spec, "last"), 0), "zzz": 1001}
    assert amounts(spec, "last", "adjustment")["zzz"] == 9
    undone = spec.when(reopened("wed 09:00", id="won wed 09:00 ++"))
    assert amounts(undone, "last", "reversal")["zzz"] == -1010
    assert sorted(amounts(undone, "linear", "reversal").values()) == [-254, -252, -252, -252]


def test_a_touch_at_the_instant_of_a_later_win_leaves_earlier_wins_alone() -> None:
    """It counts for the win of its instant only, however many there were before."""
    wins = (won("tue 09:30", deal="first"), won("tue 12:00", deal="second", id="a win"))
    spec = given(touch("mon 09:00"), *wins, touch("tue 12:00", id="z touch"))
    credited = {(row["opportunity_id"], row["touch_event_id"]) for row in spec.table("credit")}
    earliest = "touch mon 09:00"
    assert credited == {("first", earliest), ("second", earliest), ("second", "z touch")}


def test_only_configured_touches_count() -> None:
    """Outbound, other types and exposures are left out by default."""
    events = (
        touch("mon 09:00", direction="outbound"),
        touch("mon 10:00", touch_type="chat"),
        exposed("mon 11:00"),
    )
    assert set(amounts(given(*events, won("tue 09:00")), "first")) == {""}


def test_configured_exposures_count_as_touches() -> None:
    """On the channel that the rules give them."""
    text = DEFINITION.replace("  lookback: 30d", "  lookback: 30d\n  exposures: [impression]")
    text = text.replace("channels:\n", "channels:\n  - {match: {channel: display}, channel: paid}\n")
    [row] = given(exposed("mon 09:00"), won("tue 09:00")).under(rules(text)).table("credit")
    assert (row["touch_event_id"], row["channel"], row["campaign_id"]) == (
        "exposed mon 09:00",
        "paid",
        "spring",
    )


def test_a_channel_rule_by_utm_decides_where_credit_goes() -> None:
    """What the rule asks of a touch is remembered until the win."""
    rule = "{match: {utm_source: google, utm_medium: cpc, utm_campaign: brand}, channel: paid}"
    house = rules(DEFINITION.replace("channels:\n", f"channels:\n  - {rule}\n"))
    found = touch("mon 09:00", utm=Utm(source="google", medium="cpc", campaign="brand"))
    given(found, won("tue 09:00")).under(house).then("credit", {"channel": "paid"})


def test_channels_and_touches_are_those_of_the_version_in_force_at_the_win() -> None:
    """Touches on either side of the switch are chosen and classified by the rules after it."""
    second = DEFINITION.replace("version: 1", "version: 2").replace(
        "channel: newsletter}, channel: email", "channel: web}, channel: site"
    )
    second = second.replace("touch_type: [page_view, form_submitted,", "touch_type: [page_view, chat,")
    timeline = Rules([Entry(None, parse(DEFINITION)), Entry(at("tue 00:00"), parse(second))])
    events = (touch("mon 09:00"), demo("mon 10:00"), touch("tue 10:00", touch_type="chat"), won("wed 09:00"))
    rows = given(*events).under(timeline).table("credit")
    assert [row["touch_event_id"] for row in rows] == ["touch mon 09:00", "touch tue 10:00"]
    assert (rows[0]["channel"], rows[0]["definition_version"]) == ("site", "house@1+house@2")


def test_an_adjustment_keeps_the_weights_of_the_win() -> None:
    """Later touches get nothing of it; it counts from its own date."""
    spec = given(*PATH, won("wed 09:00", 900), touch("wed 10:00")).when(
        adjusted("wed 11:00", -300, effective_at=at("fri 09:00"))
    )
    assert amounts(spec, "linear", "adjustment") == dict.fromkeys(amounts(spec, "linear"), -100)
    assert sorted(amounts(spec, "w30", "adjustment").values()) == [-150, -150, 0]
    adjustments = [row for row in spec.table("credit") if row["kind"] == "adjustment"]
    assert {(row["event_id"], row["effective_at"]) for row in adjustments} == {
        ("adjusted wed 11:00", at("fri 09:00"))
    }
    assert deal(spec)["adjusted_minor"] == -300


def test_a_reversal_takes_back_win_and_adjustments() -> None:
    """A win that no longer counts comes to nothing in every model."""
    for undoing in (reopened("fri 09:00"), lost("fri 09:00")):
        spec = given(*PATH, won("wed 09:00", 1001), adjusted("wed 10:00", -100), undoing)
        assert [total(spec, model) for model in ("first", "last", "linear", "w30")] == [0] * 4
        reversals = [row for row in spec.table("credit") if row["kind"] == "reversal"]
        assert len(reversals) == 3
        assert {(row["event_id"], row["effective_at"]) for row in reversals} == {
            (undoing.event_id, at("fri 09:00"))
        }
        assert deal(spec)["adjusted_minor"] == 0
        spec.then("lead_money")
        assert spec.when(lost("fri 10:00")).table("credit") == spec.table("credit")


def test_a_second_win_replaces_the_first() -> None:
    """The first is reversed at the second; only the second counts."""
    spec = given(*PATH, won("wed 09:00", 1000), won("fri 09:00", 600))
    assert total(spec, "linear") == 600
    assert sum(amounts(spec, "linear", "reversal").values()) == -1000
    assert (deal(spec)["amount_minor"], deal(spec)["closed_at"]) == (600, at("fri 09:00"))
    spec.then_lead(won_opportunities=1)


def test_a_loss_that_is_reopened_has_no_credit_to_take_back() -> None:
    """Reversals are of wins only."""
    given(*PATH, opened("tue 10:00"), lost("tue 11:00"), reopened("tue 12:00")).then("credit")


def test_a_win_after_reopening_is_evaluated_again() -> None:
    """With the touches of the time between."""
    spec = given(
        *PATH, won("wed 09:00", 1000), reopened("wed 10:00"), touch("wed 11:00"), won("fri 09:00", 1000)
    )
    assert total(spec, "linear") == 1000
    assert amounts(spec, "last", "win")["touch wed 11:00"] == 1000


def test_known_entry_may_be_inferred() -> None:
    """A lead that jumps to mql was known at that instant: LC is the touch that made it so."""
    spec = given(touch("mon 09:00"), demo("tue 09:00"), touch("wed 09:00"), won("fri 09:00"))
    positions = {row["touch_event_id"]: row["positions"] for row in spec.table("credit")}
    assert positions == {"touch mon 09:00": "FT", "demo tue 09:00": "LC", "touch wed 09:00": "CW"}


def test_without_a_known_stage_the_first_event_stands_for_the_entry() -> None:
    """LC is the last touch at or before it."""
    house = rules(DEFINITION.replace("  - {name: Known, role: known}\n", ""))
    spec = given(touch("mon 09:00"), touch("tue 09:00"), won("fri 09:00")).under(house)
    positions = {row["touch_event_id"]: row["positions"] for row in spec.table("credit")}
    assert positions == {"touch mon 09:00": "FT,LC", "touch tue 09:00": "CW"}


def test_old_touches_are_dropped_from_the_state_without_changing_a_row() -> None:
    """A long journey keeps what a win may still credit, and little more."""
    long = [touch(f"mon+{week} 09:00") for week in range(60)]
    history = identity.journeys(long)["crm:1"]
    state = journey.fold(history, rules())
    assert len(state.touches.kept) < 15
    assert len(given(*long, won("mon+59 10:00")).table("credit")) == 5


def test_an_erasure_changes_no_amount() -> None:
    """Credit and money stay."""
    events = (*PATH, won("wed 09:00", 1001), adjusted("wed 10:00", -100))
    for table in ("credit", "lead_money", "opportunity"):
        assert given(*events, erased("fri 09:00")).table(table) == given(*events).table(table)
