"""Markov reports: held against a published implementation, and against a walk over all steps of the chain."""

import random
from collections import Counter, defaultdict

import polars
import pytest
from mam.core import MAM
from mam.models.markov import MarkovModel

from projections.markov import Path, removal_effects, report

CHANNELS = ("direct", "email", "paid_search", "referral", "social")
SEPARATOR = " > "
FAR = 400
"""Steps after which no random path of these is still under way, but for less than 1e-12."""


def random_paths(seed: int, count: int) -> list[Path]:
    """Paths of 1 to 8 touches; e-mail helps, social does not."""
    rng = random.Random(seed)
    paths = []
    for _ in range(count):
        channels = [rng.choice(CHANNELS) for _ in range(rng.randint(1, 8))]
        chance = 0.2 + 0.3 * ("email" in channels) - 0.1 * ("social" in channels)
        paths.append(Path(channels, rng.random() < chance))
    return paths


def merged(channels: list[str]) -> list[str]:
    return [name for place, name in enumerate(channels) if place == 0 or channels[place - 1] != name]


def mams_effects(paths: list[Path]) -> dict[str, float]:
    """What mam makes of them."""
    frame = polars.DataFrame(
        {
            "journey_id": [str(number) for number in range(len(paths))],
            "journey": [SEPARATOR.join(path.channels) for path in paths],
            "time_till_end": [SEPARATOR.join("0.0" for _ in path.channels) for path in paths],
            "conversion": [path.is_converted for path in paths],
        }
    )
    model = MarkovModel()
    model.calculate(MAM(frame, "journey", "journey", "conversion").unified_df)
    effects: dict[str, float] = model.removal_effect_df["removal_effect"].to_dict()
    return effects


def walked(paths: list[Path], order: int, without: str | None) -> float:
    """P(conversion), by letting everybody take one step after the other until nobody is left."""
    steps: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for path in paths:
        channels = merged(list(path.channels))
        for place, channel in enumerate([*channels, "(won)" if path.is_converted else "(lost)"]):
            steps[tuple(channels[max(place - order, 0) : place])][channel] += 1
    here: dict[tuple[str, ...], float] = {(): 1.0}
    won = 0.0
    for _ in range(FAR):
        there: dict[tuple[str, ...], float] = defaultdict(float)
        for state, weight in here.items():
            for channel, count in steps[state].items():
                part = weight * count / steps[state].total()
                if channel == "(won)":
                    won += part
                elif channel not in ("(lost)", without):
                    there[(*state, channel)[-order:]] += part
        here = there
    return won


def test_order_one_agrees_with_mam() -> None:
    """The removal effect of every channel over 2,000 random paths."""
    paths = random_paths(1, 2_000)
    effects = {line.channel: line.removal_effect for line in report(paths, 1).channels}
    assert effects == pytest.approx(mams_effects(paths), abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_closed_form_is_where_a_walk_ends(order: int) -> None:
    """Step by step the chain comes to the same probabilities, with and without each channel."""
    paths = random_paths(order + 10, 300)
    whole = walked(paths, order, None)
    for line in report(paths, order).channels:
        expected = 1 - walked(paths, order, line.channel) / whole
        assert line.removal_effect == pytest.approx(expected, abs=1e-9)


def test_a_chain_worked_out_by_hand() -> None:
    """Without a, the b of the second path is left; without b, the a of the third; both carry the first."""
    paths = [Path(["a", "b"], True), Path(["b"], True), Path(["a"], True), Path(["a"], False)]
    found = {line.channel: line for line in report(paths, 1).channels}
    # From the start 3/4 to a, 1/4 to b; from a 1/3 to b, 1/3 won, 1/3 lost; b always wins: 3/4 in all.
    assert found["a"].removal_effect == pytest.approx(1 - (1 / 4) / (3 / 4))
    assert found["b"].removal_effect == pytest.approx(1 - (3 / 4 * 1 / 3) / (3 / 4))
    assert (found["a"].paths, found["a"].conversions, found["b"].paths) == (3, 2, 2)
    assert found["a"].credit == pytest.approx(1.5)


def test_neighbours_are_one_step() -> None:
    """Coming by the same channel again and again changes nothing."""
    once = [Path(["a", "b"], True), Path(["b"], False)]
    again = [Path(["a", "a", "b", "b", "b"], True), Path(["b", "b"], False)]
    assert report(again, 2) == report(once, 2)


def test_a_longer_memory_sees_what_came_before() -> None:
    """Order 2 knows that b converts after a only; order 1 mixes both."""
    paths = [Path(["a", "b"], True), Path(["c", "b"], False)] * 10
    assert removal_effects(paths, 1)["a"] == pytest.approx(0.5)
    assert removal_effects(paths, 2)["a"] == pytest.approx(1.0)
    assert removal_effects(paths, 2)["c"] == pytest.approx(0.0)


def test_all_conversions_are_shared_out() -> None:
    """Credits and what no touch may claim sum to the conversions."""
    paths = [*random_paths(5, 500), Path([], True), Path([], True), Path([], False)]
    found = report(paths, 2)
    assert (found.paths, found.unattributed) == (503, 2)
    assert found.conversions == sum(path.is_converted for path in paths)
    assert sum(line.credit for line in found.channels) + 2 == pytest.approx(found.conversions)
    assert sum(line.share for line in found.channels) == pytest.approx(1)


def test_a_path_without_channels_changes_no_share() -> None:
    """Conversions that no touch may claim say nothing of the channels."""
    paths = random_paths(6, 50)
    assert report([*paths, Path([], True), Path([], False)], 1).channels == report(paths, 1).channels


def test_a_path_counts_once_for_each_channel_on_it() -> None:
    """Wherever it stands and however often; channels by name."""
    found = report([Path(["c", "a", "c"], True), Path(["c", "a", "b"], False)], 2).channels
    assert [(line.channel, line.paths, line.conversions) for line in found] == [
        ("a", 2, 1),
        ("b", 1, 0),
        ("c", 2, 1),
    ]


def test_without_conversions_nothing_is_shared() -> None:
    """No path, or none that converts, is no error."""
    assert report([], 1).channels == []
    [line] = report([Path(["a"], False)], 1).channels
    assert (line.removal_effect, line.share, line.credit) == (0, 0, 0)
