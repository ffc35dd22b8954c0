"""Holds the models that everybody knows against an implementation of somebody else.

mam (`marketing-attribution-models` 2.1.1, needed by tests only) has no model "last non-direct"; what that
means is a last click over the path without its direct touches, so that is what it is asked for.
"""

import random

import polars
import pytest
from mam.core import MAM

from projections.attribution import DIRECT, Model, Path, evaluate, path_of

HOUR = 3_600_000_000
SEPARATOR = " > "
Journey = list[tuple[int, str]]
"""Touches as (whole hours before the win, channel), oldest first."""


def random_journeys(seed: int, count: int) -> list[Journey]:
    """Journeys of 1 to 9 touches on few channels, so that channels repeat and some are direct only."""
    rng = random.Random(seed)
    return [
        [
            (hours, rng.choice([DIRECT, DIRECT, "email", "paid_search", "referral"]))
            for hours in sorted((rng.randrange(2_000) for _ in range(rng.randint(1, 9))), reverse=True)
        ]
        for _ in range(count)
    ]


def path(journey: Journey) -> Path:
    won_at = 10**15
    times = [won_at - hours * HOUR for hours, _ in journey]
    return path_of(times, [channel for _, channel in journey], won_at, won_at, won_at)


def without_direct(journey: Journey) -> Journey:
    return [touch for touch in journey if touch[1] != DIRECT] or journey


def theirs(journeys: list[Journey], model: str) -> dict[str, float]:
    """What mam gives to each channel of each journey, as "number channel"."""
    frame = polars.DataFrame(
        {
            "journey_id": [str(number) for number in range(len(journeys))],
            "journey": [
                SEPARATOR.join(f"{number} {channel}" for _, channel in journey)
                for number, journey in enumerate(journeys)
            ],
            "hours": [SEPARATOR.join(str(float(hours)) for hours, _ in journey) for journey in journeys],
            "conversion": [True] * len(journeys),
        }
    )
    mam = MAM(frame, "journey", "journey", "conversion", time_till_conv_colname="hours")
    result = getattr(mam, f"run_{model}")().to_polars()
    return dict(zip(result["channels"].cast(polars.String), result["attribution"], strict=True))


def ours(journeys: list[Journey], model_id: str) -> dict[str, float]:
    """The same of our own, from the weights that the credit rows hold."""
    found: dict[str, float] = {}
    for number, journey in enumerate(journeys):
        ((weights, _),) = evaluate([Model(model_id, model_id)], path(journey), 0)
        for (_, channel), weight in zip(journey, weights, strict=True):
            found[f"{number} {channel}"] = found.get(f"{number} {channel}", 0.0) + weight
    return {key: weight for key, weight in found.items() if weight}


@pytest.mark.parametrize(
    ("model_id", "model"),
    [
        ("first", "first_click"),
        ("last", "last_click"),
        ("linear", "linear"),
        ("pos40", "position_based"),
        ("decay", "time_decay"),
    ],
)
def test_weights_agree_with_mam(model_id: str, model: str) -> None:
    """Every channel of 500 random journeys gets what mam gives it."""
    journeys = random_journeys(seed=1, count=500)
    assert ours(journeys, model_id) == pytest.approx(theirs(journeys, model), abs=1e-12)


def test_last_non_direct_is_mams_last_click_without_direct_touches() -> None:
    """Direct touches are passed over, unless there is nothing else."""
    journeys = random_journeys(seed=2, count=500)
    assert any(without_direct(journey) == journey and journey[-1][1] == DIRECT for journey in journeys)
    expected = theirs([without_direct(journey) for journey in journeys], "last_click")
    assert ours(journeys, "last_non_direct") == pytest.approx(expected, abs=1e-12)
