"""The oracle is right where the answer was computed apart from it: the checked values of `tests/vectors`."""

import json
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests import oracle_credit, oracle_time

VECTORS = Path(__file__).parent / "vectors"
TIME = json.loads((VECTORS / "business_time.json").read_text())
CREDIT = json.loads((VECTORS / "attribution.json").read_text())
DAY = 86_400_000_000
LOOKBACK_DAYS = 365


def instant(text: str) -> int:
    return oracle_time.micros(datetime.fromisoformat(text))


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [str(case.get("why", case.get("start"))) for case in cases]


def eligible(case: dict[str, Any]) -> list[dict[str, Any]]:
    lookback = case.get("lookback_days", LOOKBACK_DAYS)
    return [touch for touch in case["touches"] if touch["days_before_win"] <= lookback]


def model_of(case: dict[str, Any]) -> dict[str, Any]:
    return {"id": case["model"]} | (
        {"half_life": f"{case['half_life_days']}d"} if "half_life_days" in case else {}
    )


@pytest.mark.parametrize("case", TIME["cases"], ids=names(TIME["cases"]))
def test_due_is_the_earliest_instant_with_the_target_elapsed(case: dict[str, Any]) -> None:
    """A clock that starts at `start` is due at `due`, and then exactly the target has elapsed."""
    calendar, start = TIME["calendars"][case["calendar"]], instant(case["start"])
    target = case["target_minutes"] * oracle_time.MINUTE
    assert oracle_time.due(calendar, start, target, []) == instant(case["due"])
    assert oracle_time.elapsed(calendar, start, instant(case["due"])) == target


@pytest.mark.parametrize("case", TIME["elapsed"], ids=names(TIME["elapsed"]))
def test_night_shifts_count_real_minutes_across_a_clock_change(case: dict[str, Any]) -> None:
    """A window that spans a change of the zone is as long as it really was."""
    elapsed = oracle_time.elapsed(
        TIME["calendars"][case["calendar"]], instant(case["from"]), instant(case["to"])
    )
    assert elapsed == case["minutes"] * oracle_time.MINUTE


@pytest.mark.parametrize("case", TIME["paused"], ids=names(TIME["paused"]))
def test_a_pause_moves_the_due_instant(case: dict[str, Any]) -> None:
    """Business time inside a pause does not count."""
    pauses: list[oracle_time.Pause] = [(instant(since), instant(until)) for since, until in case["pauses"]]
    target = case["target_minutes"] * oracle_time.MINUTE
    due = oracle_time.due(TIME["calendars"][case["calendar"]], instant(case["start"]), target, pauses)
    assert due == instant(case["due"])


@pytest.mark.parametrize("case", CREDIT["cases"], ids=names(CREDIT["cases"]))
def test_weights_of_the_worked_paths(case: dict[str, Any]) -> None:
    """Every model gives the weights that were worked out by hand."""
    touches = sorted(eligible(case), key=lambda touch: -touch["days_before_win"])
    times = [-round(touch["days_before_win"] * DAY) for touch in touches]
    channels = [touch["channel"] for touch in touches]
    path = oracle_credit.path_of(times, channels, -case["known_days"] * DAY, -case["opened_days"] * DAY, 0)
    weights = oracle_credit.weights_of(model_of(case), path)
    got = {touch["event_id"]: float(weight) for touch, weight in zip(touches, weights, strict=True)}
    assert got == pytest.approx(case["weights"], abs=1e-12)


@pytest.mark.parametrize("case", CREDIT["money"], ids=names(CREDIT["money"]))
def test_money_is_split_to_the_minor_unit(case: dict[str, Any]) -> None:
    """The parts are those of the largest remainder, with ties to the earlier touch."""
    shares = case.get("weights") or [1] * len(case["touches"])
    exact = [Fraction(str(share)) for share in shares]
    parts = oracle_credit.split(case["amount_minor"], [share / sum(exact) for share in exact])
    assert parts == case["amounts"]
