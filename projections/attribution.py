"""Attribution: how the touches before a win share it, exactly and to the minor unit.

Promises: weights are exact fractions that sum to 1, amounts are integers that sum to the amount, on every machine the
same. Leaves the credit rows, their reversals and adjustments to `projections.credit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from schemas.records import Micros


@dataclass(frozen=True, slots=True)
class Model:
    """An attribution model. `half_life` in microseconds is decay's; `shares` (first, lead, opportunity, close, middle) custom's."""

    model_id: str
    name: str
    half_life: int = 7 * 86_400_000_000
    shares: tuple[Fraction, ...] = ()


class Path(NamedTuple):
    """The eligible touches of one win, oldest first, and which of them hold LC and OC (indexes; None = no touch).

    FT is always touch 0 and CW the last. Never empty. Plain values only, so it can be stored in a state.
    """

    times: tuple[Micros, ...]
    channels: tuple[str, ...]
    lead: int | None
    opportunity: int | None
    won_at: Micros

    def positions(self) -> list[str]:
        """Per touch the positions it holds, as in the credit row: comma-separated of FT, LC, OC, CW; '' for none."""
        raise NotImplementedError


class Shared(NamedTuple):
    """What one model gives to each touch of a path."""

    weights: list[float]
    amounts: list[int]


def eligible(times: Sequence[Micros], won_at: Micros, lookback: int) -> range:
    """Indexes of the ascending `times` at most `lookback` microseconds before the win (inclusive), none after it."""
    raise NotImplementedError


def path_of(times: Sequence[Micros], channels: Sequence[str], known_at: Micros, opened_at: Micros | None, won_at: Micros) -> Path:
    """A path of eligible touches in the contract's order. `known_at`: the known entry, or the first event; `opened_at`: None = never."""
    raise NotImplementedError


def weights(model: Model, path: Path) -> list[Fraction]:
    """The share of each touch, summing to 1."""
    raise NotImplementedError


def split(amount: int, weights: Sequence[Fraction]) -> list[int]:
    """Largest remainder over exact weights that sum to 1, ties to the earlier; a negative amount mirrors."""
    raise NotImplementedError


def evaluate(models: Sequence[Model], path: Path, amount: int) -> list[Shared]:
    """Weights and amounts of every model for one amount, in the order of `models`. The same path and another amount split an adjustment."""
    raise NotImplementedError
