"""Guards how a win is shared: each model of the contract, exact sums, money to the minor unit.

`test_attribution_mam.py` holds the common models against somebody else's code; which touches are asked, and
the rows, are held by the tests of the credit projection.
"""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.attribution import (
    DEFAULT_MODEL_IDS,
    Model,
    Path,
    eligible,
    evaluate,
    path_of,
    split,
    weights,
)

DAY = 86_400_000_000
WON_AT = 1_800_000_000_000_000
VECTORS = json.loads((File(__file__).parent / "vectors" / "attribution.json").read_text())
HOUSE = Model("custom", "house", shares=(25, 25, 40, 0, 10))
ALL_MODELS = [*(Model(model_id, model_id) for model_id in DEFAULT_MODEL_IDS), HOUSE]


def at(days: float) -> int:
    """The instant so many days before the win."""
    return WON_AT - round(days * DAY)


def path_of_days(days: list[float], known: float, opened: float | None, channels: Sequence[str] = ()) -> Path:
    """Touches so many days before the win, one of `channels` each."""
    times = [at(day) for day in days]
    opened_at = None if opened is None else at(opened)
    return path_of(times, list(channels or "x" * len(days)), at(known), opened_at, WON_AT)


def vector_path(case: dict[str, Any]) -> tuple[list[str], Path]:
    """The eligible touches of a vector in order: their ids, and the path."""
    touches = sorted(case["touches"], key=lambda touch: -float(touch["days_before_win"]))
    times = [at(touch["days_before_win"]) for touch in touches]
    lookback = round(case.get("lookback_days", 365) * DAY)
    chosen = [touches[index] for index in eligible(times, WON_AT, lookback)]
    days = [float(touch["days_before_win"]) for touch in chosen]
    known, opened = case["known_days"], case["opened_days"]
    channels = [touch["channel"] for touch in chosen]
    path = path_of([at(day) for day in days], channels, at(known), at(opened), WON_AT)
    return [touch["event_id"] for touch in chosen], path


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['model']}: {case['why']}")
def test_weights_of_the_contract(case: dict[str, Any]) -> None:
    """Each worked example gives its weights to 1e-12, touches without weight left out or 0."""
    ids, path = vector_path(case)
    model = Model(case["model"], "m", half_life=round(case.get("half_life_days", 7) * DAY))
    ((found, _),) = evaluate([model], path, 0)
    expected = [case["weights"].get(event_id, 0) for event_id in ids]
    assert found == pytest.approx(expected, abs=1e-12)
    assert [float(weight) for weight in weights(model, path)] == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("case", VECTORS["money"], ids=lambda case: case["why"])
def test_money_of_the_contract(case: dict[str, Any]) -> None:
    """Each worked example gives its amounts in minor units."""
    if "weights" in case:
        shares = [Fraction(str(weight)) for weight in case["weights"]]
    else:
        path = path_of_days([3, 2, 1], known=3, opened=1)
        shares = weights(Model(case["model"], "m"), path)
    assert split(case["amount_minor"], shares) == case["amounts"]


@st.composite
def paths(draw: st.DrawFn) -> Path:
    """Any path: equal instants, positions before all touches, never opened, opened after the win."""
    times = sorted(draw(st.lists(st.integers(at(400), WON_AT), min_size=1, max_size=12)))
    channels = draw(st.lists(st.sampled_from(["direct", "a", "b"]), min_size=len(times), max_size=len(times)))
    moments = st.integers(at(410), WON_AT + DAY)
    return path_of(times, channels, draw(moments), draw(st.none() | moments), WON_AT)


shares = st.lists(st.integers(0, 40), min_size=5, max_size=5).filter(any).map(tuple)


@settings(max_examples=300, deadline=None)
@given(paths(), st.integers(-(10**15), 10**15), shares, st.integers(1, 400 * DAY))
def test_every_model_gives_away_exactly_everything(
    path: Path, amount: int, custom: tuple[int, ...], half_life: int
) -> None:
    """Weights sum to 1 and are never negative; amounts are whole, sum to the amount, and mirror a refund."""
    models = [*ALL_MODELS, Model("custom", "c", shares=custom), Model("decay", "d", half_life=half_life)]
    mirrored = evaluate(models, path, -amount)
    for model, (floats, amounts), (_, refund) in zip(
        models, evaluate(models, path, amount), mirrored, strict=True
    ):
        exact = weights(model, path)
        assert sum(exact) == 1
        assert min(exact) >= 0
        assert floats == pytest.approx([float(weight) for weight in exact], abs=1e-11)
        assert sum(amounts) == amount
        assert amounts == split(amount, exact)
        assert refund == [-part for part in amounts]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10**12),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=9).filter(lambda w: sum(w) > 0),
)
def test_a_split_is_never_a_minor_unit_off(amount: int, parts: list[int]) -> None:
    """Largest remainder: every part is its exact share rounded down or up."""
    exact = [Fraction(part, sum(parts)) for part in parts]
    for part, share in zip(split(amount, exact), exact, strict=True):
        assert abs(part - amount * share) < 1


def test_what_is_left_goes_to_the_largest_remainder() -> None:
    """Not to the largest part: of 2.2 and 1.8 it is the second that is rounded up."""
    assert split(4, [Fraction(55, 100), Fraction(45, 100)]) == [2, 2]


def test_a_tie_goes_to_the_earlier_touch() -> None:
    """Equal remainders: the unit that is left goes to the first of them."""
    assert split(1, [Fraction(1, 2), Fraction(1, 2)]) == [1, 0]
    assert split(-1, [Fraction(1, 2), Fraction(1, 2)]) == [-1, 0]


def test_weights_that_do_not_sum_to_one_are_refused() -> None:
    """A sum that would lose or invent money is an error that says so."""
    with pytest.raises(ValueError, match="expected exactly 1"):
        split(100, [Fraction(1, 3), Fraction(1, 3)])


def test_positions_are_inclusive_and_take_the_last_touch_of_a_moment() -> None:
    """A touch at the very instant of the known entry holds LC; of two at one instant it is the later in
    order."""
    path = path_of_days([30, 20, 20, 10], known=20, opened=15)
    assert path.positions() == ["FT", "", "LC,OC", "CW"]


def test_positions_that_nothing_holds() -> None:
    """Known before the first touch and never opened: neither LC nor OC."""
    assert path_of_days([5, 3], known=9, opened=None).positions() == ["FT", "CW"]


def test_lead_conversion_without_such_a_touch_is_the_first() -> None:
    """`lc` falls back to FT."""
    path = path_of_days([5, 3], known=9, opened=1)
    assert weights(Model("lc", "lc"), path) == [1, 0]


def test_lead_conversion_is_the_touch_that_made_the_lead_known() -> None:
    """`lc` gives all to LC, neither to the first nor to the last touch."""
    path = path_of_days([5, 4, 3, 2], known=3.5, opened=1)
    assert weights(Model("lc", "lc"), path) == [0, 1, 0, 0]


def test_last_non_direct_passes_over_one_direct_touch_after_another() -> None:
    """The last touch of another channel gets all, at whatever distance from the end."""
    found = [
        weights(Model("last_non_direct", "l"), path_of_days([5, 4, 3, 2], 9, None, list(channels)))
        for channels in (["a", "b", "direct", "direct"], ["a", "b", "c", "direct"], ["direct", "a", "b", "c"])
    ]
    assert found == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_eligible_touches_are_inclusive_on_both_ends() -> None:
    """Exactly `lookback` before the win and the win's own instant count; a microsecond beyond does not."""
    times = [at(30) - 1, at(30), at(1), WON_AT, WON_AT, WON_AT + 1]
    assert list(eligible(times, WON_AT, 30 * DAY)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("model", "shares"),
    [("pos40", (40, 20, 40)), ("j", (20, 20, 60)), ("inverse_j", (60, 20, 20))],
)
def test_short_paths_have_no_middle(model: str, shares: tuple[int, int, int]) -> None:
    """One touch gets all, two share as the ends do, from three on there is a middle."""
    first, middle, last = (Fraction(share, 100) for share in shares)
    paths = [path_of_days(days, 9, None) for days in ([5.0], [5.0, 3.0], [5.0, 3.0, 1.0])]
    found = [weights(Model(model, model), path) for path in paths]
    assert found == [[1], [first / (first + last), last / (first + last)], [first, middle, last]]


def test_u50_knows_two_positions() -> None:
    """Half to the first touch, half to the one that made the lead known."""
    path = path_of_days([40, 35, 30, 20], known=30, opened=20)
    assert weights(Model("u50", "u50"), path) == [Fraction(1, 2), 0, Fraction(1, 2), 0]


def test_w30_gives_nothing_to_touches_after_the_last_position() -> None:
    """The middle of w30 ends with the opportunity."""
    path = path_of_days([40, 35, 30, 20, 10], known=30, opened=20)
    tenth = Fraction(1, 10)
    assert weights(Model("w30", "w30"), path) == [3 * tenth, tenth, 3 * tenth, 3 * tenth, 0]


def test_w30_ends_with_the_lead_conversion_of_a_deal_that_was_never_opened() -> None:
    """FT and LC share all but the 10 of what lies between them, and nothing is left for touches after LC;
    likewise where the lead was known only after the opening."""
    never = path_of_days([40, 35, 30, 20], known=30, opened=None)
    assert weights(Model("w30", "w30"), never) == [Fraction(45, 100), Fraction(10, 100), Fraction(45, 100), 0]
    late = path_of_days([40, 35, 30, 20], known=30, opened=40)
    assert weights(Model("w30", "w30"), late) == [Fraction(60, 100), Fraction(10, 100), Fraction(30, 100), 0]


def test_custom_shares_of_positions_that_nothing_holds_go_to_the_held() -> None:
    """25/25/40 with no LC: FT and OC keep their proportion, the middle its 10."""
    path = path_of_days([40, 30, 20], known=50, opened=20)
    held = Fraction(90, 100)
    expected = [held * Fraction(25, 65), Fraction(10, 100), held * Fraction(40, 65)]
    assert weights(HOUSE, path) == expected


def test_custom_without_any_held_position() -> None:
    """With a middle share the middle gets all; without one the first touch, as in `lc`."""
    path = path_of_days([4, 2], known=9, opened=None)
    assert weights(Model("custom", "c", shares=(0, 60, 0, 0, 40)), path) == [Fraction(1, 2), Fraction(1, 2)]
    assert weights(Model("custom", "c", shares=(0, 60, 40, 0, 0)), path) == [1, 0]


def test_decay_of_touches_much_older_than_the_half_life() -> None:
    """Nothing underflows to a division by zero, however old the touches and short the half-life."""
    path = path_of_days([300, 299, 299], known=300, opened=1)
    ((floats, amounts),) = evaluate([Model("decay", "d", half_life=1)], path, 101)
    assert floats == [0.0, 0.5, 0.5]
    assert amounts == [0, 51, 50]


def test_decay_counts_fractions_of_a_half_life() -> None:
    """Half a half-life apart: the older touch weighs 1/sqrt(2) of the newer."""
    path = path_of_days([3.5, 0], known=3, opened=1)
    ((floats, _),) = evaluate([Model("decay", "d")], path, 0)
    assert floats[0] / floats[1] == pytest.approx(0.5**0.5, abs=1e-15)


def test_decay_splits_money_by_twelve_decimals() -> None:
    """The shares are 0.4142135623730950... and 0.5857864376269049..."""
    path = path_of_days([3.5, 0], known=3, opened=1)
    ((_, amounts),) = evaluate([Model("decay", "d")], path, 10**15)
    assert amounts == [414_213_562_373_000, 585_786_437_627_000]
