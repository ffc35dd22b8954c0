"""Attribution: how the touches before a win share it, exactly and to the minor unit.

Promises: every model's shares are whole numbers over one denominator, so they sum to 1 exactly, amounts sum
to the amount, and every machine gives the same. Decay's powers of two are worked out in decimal arithmetic of
28 digits for the same reason: the floating-point `pow` of two platforms may differ in the last digit. Leaves
which touches are asked and the credit rows, their reversals and adjustments, to `projections.credit`.

The shares are conventions, not causal lift. `markov` is a report over many journeys, not a model of a deal.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from schemas.records import Micros

DEFAULT_HALF_LIFE = 7 * 86_400_000_000
"""Microseconds: a week, as web analytics has it."""
DIRECT = "direct"
"""The channel that `last_non_direct` passes over."""
CUSTOM_SHARES = ("first", "lead", "opportunity", "close", "middle")
"""Keys of a custom model's shares, in the order of `Model.shares`."""

_ENDS = {"pos40": (40, 20, 40), "j": (20, 20, 60), "inverse_j": (60, 20, 20)}
"""Shares of the first touch, those in the middle, and the last."""
_POSITIONS = {
    "u50": (50, 50, 0, 0, 0),
    "u40": (40, 40, 0, 0, 20),
    "w30": (30, 30, 30, 0, 10),
    "full_path": (225, 225, 225, 225, 100),
}
"""Shares of FT, LC, OC, CW and the middle."""
DEFAULT_MODEL_IDS = (
    *("first", "last", "lc", "last_non_direct", "linear", "u50", "u40", "pos40", "j", "inverse_j"),
    *("w30", "full_path", "decay", "shapley"),
)
"""The models of a definition that names none."""
MODEL_IDS = (*DEFAULT_MODEL_IDS, "custom")

_EXACT = Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
_LN_2 = _EXACT.ln(Decimal(2))
_MONEY_SCALE = 10**12
_NEGLIGIBLE_HALVINGS = 1_100
"""2 to the power of minus this is less than the smallest double: no weight."""


@dataclass(frozen=True, slots=True)
class Model:
    """An attribution model: `model_id` of MODEL_IDS, shown as `name`.

    `half_life` in microseconds is decay's. `shares` are custom's, whole numbers in the order of CUSTOM_SHARES
    whose sum is the whole.
    """

    model_id: str
    name: str
    half_life: int = DEFAULT_HALF_LIFE
    shares: tuple[int, ...] = ()


class Path(NamedTuple):
    """The eligible touches of one win, oldest first, and which of them hold LC and OC (indexes; None = no
    touch).

    FT is always touch 0 and CW the last. Never empty. Plain values only, so that a state can hold it.
    """

    times: tuple[Micros, ...]
    channels: tuple[str, ...]
    lead: int | None
    opportunity: int | None
    won_at: Micros

    def positions(self) -> list[str]:
        """Per touch the positions it holds, as in the credit row: comma-separated of FT, LC, OC, CW; '' for
        none."""
        held: list[list[str]] = [[] for _ in self.times]
        last = len(self.times) - 1
        for position, touch in (("FT", 0), ("LC", self.lead), ("OC", self.opportunity), ("CW", last)):
            if touch is not None:
                held[touch].append(position)
        return [",".join(names) for names in held]


class Shared(NamedTuple):
    """What one model gives to each touch of a path: weights as stored, amounts in minor units."""

    weights: list[float]
    amounts: list[int]


class _Shares(NamedTuple):
    """Per touch `parts[i] / whole`, exactly; the parts sum to the whole."""

    parts: list[int]
    whole: int


def eligible(times: Sequence[Micros], won_at: Micros, lookback: int) -> range:
    """Indexes of the ascending `times` at most `lookback` microseconds before the win (inclusive), none after
    it."""
    return range(bisect_left(times, won_at - lookback), bisect_right(times, won_at))


def path_of(
    times: Sequence[Micros],
    channels: Sequence[str],
    known_at: Micros,
    opened_at: Micros | None,
    won_at: Micros,
) -> Path:
    """The path of eligible touches in the contract's order, at least one.

    `known_at` is the known entry, or the first event where there is none; `opened_at` None = never opened, so
    no touch holds OC.
    """
    return Path(
        times=tuple(times),
        channels=tuple(channels),
        lead=_last_until(times, known_at),
        opportunity=None if opened_at is None else _last_until(times, opened_at),
        won_at=won_at,
    )


def weights(model: Model, path: Path) -> list[Fraction]:
    """The exact share of each touch by which money is split, summing to 1 (decay: after rounding to 12
    decimals)."""
    parts, whole = _decay_money(_decay(model, path)) if model.model_id == "decay" else _shares(model, path)
    return [Fraction(part, whole) for part in parts]


def split(amount: int, weights: Sequence[Fraction]) -> list[int]:
    """Largest remainder over exact weights, ties to the earlier; a negative amount mirrors.

    Sums to `amount`. Raises ValueError for weights that do not sum to 1.
    """
    if sum(weights) != 1:
        raise ValueError(f"weights sum to {sum(weights)}: expected exactly 1")
    whole = math.lcm(*(weight.denominator for weight in weights))
    return _split(amount, _Shares([int(weight * whole) for weight in weights], whole))


def evaluate(models: Sequence[Model], path: Path, amount: int) -> list[Shared]:
    """Weights and amounts of every model, in the order of `models`.

    The same path with another amount splits an adjustment by the weights of the win.
    """
    return [_evaluate(model, path, amount) for model in models]


def _evaluate(model: Model, path: Path, amount: int) -> Shared:
    if model.model_id == "decay":
        decayed = _decay(model, path)
        return Shared([float(weight) for weight in decayed], _split(amount, _decay_money(decayed)))
    shares = _shares(model, path)
    return Shared([part / shares.whole for part in shares.parts], _split(amount, shares))


def _shares(model: Model, path: Path) -> _Shares:
    """Every model of the table but decay."""
    touches = len(path.times)
    match model.model_id:
        case "first":
            return _all_to(0, touches)
        case "last":
            return _all_to(touches - 1, touches)
        case "lc":
            return _all_to(path.lead or 0, touches)
        case "last_non_direct":
            return _all_to(_last_non_direct(path.channels), touches)
        case "linear":
            return _Shares([1] * touches, touches)
        case "shapley":
            return _shapley(path.channels)
        case "pos40" | "j" | "inverse_j":
            return _ends(*_ENDS[model.model_id], touches)
        case "custom":
            return _positional(model.shares, path, touches)
        case "w30":
            return _positional(_POSITIONS["w30"], path, max(0, path.lead or 0, path.opportunity or 0))
        case _:
            return _positional(_POSITIONS[model.model_id], path, touches)


def _all_to(touch: int, touches: int) -> _Shares:
    return _Shares([int(index == touch) for index in range(touches)], 1)


def _last_non_direct(channels: Sequence[str]) -> int:
    for index in range(len(channels) - 1, -1, -1):
        if channels[index] != DIRECT:
            return index
    return len(channels) - 1


def _shapley(channels: Sequence[str]) -> _Shares:
    """1/k to each of k channels, in equal parts over its touches: the Shapley value of "any of them brings
    the win"."""
    touches_of = Counter(channels)
    common = math.lcm(*touches_of.values())
    return _Shares([common // touches_of[channel] for channel in channels], common * len(touches_of))


def _ends(first: int, middle: int, last: int, touches: int) -> _Shares:
    if touches == 1:
        return _Shares([1], 1)
    if touches == 2:
        return _Shares([first, last], first + last)
    between = touches - 2
    return _Shares([first * between, *[middle] * between, last * between], (first + middle + last) * between)


def _positional(shares: Sequence[int], path: Path, middle_until: int) -> _Shares:
    """Shares of FT, LC, OC, CW and the middle; the middle = touches before `middle_until` that hold none of
    them.

    What a position that no touch holds, or a middle without touches, would get goes to the held positions in
    proportion. Where none is held the middle gets all, and without a middle share the first touch, as in
    `lc`.
    """
    touches = len(path.times)
    holders = (0, path.lead, path.opportunity, touches - 1)
    held = [
        (touch, share) for touch, share in zip(holders, shares, strict=False) if touch is not None and share
    ]
    taken = {touch for touch, _ in held}
    middle = [touch for touch in range(middle_until) if touch not in taken]
    whole, middle_share = sum(shares), shares[-1] if middle else 0
    if not held:
        return _Shares([1] * touches, touches) if middle_share else _all_to(0, touches)
    held_sum, heads = sum(share for _, share in held), len(middle) or 1
    parts = [0] * touches
    for touch, share in held:
        parts[touch] += share * (whole - middle_share) * heads
    for touch in middle:
        parts[touch] = middle_share * held_sum
    return _Shares(parts, whole * held_sum * heads)


def _decay(model: Model, path: Path) -> list[Decimal]:
    """2^(-age/half_life), normalised, to 28 digits. Ages count from the last touch: the same after
    normalising."""
    halved = [_halved(path.times[-1] - time, model.half_life) for time in path.times]
    whole = sum(halved, Decimal(0))
    return [_EXACT.divide(weight, whole) for weight in halved]


def _halved(age: int, half_life: int) -> Decimal:
    halvings, rest = divmod(age, half_life)
    if halvings > _NEGLIGIBLE_HALVINGS:
        return Decimal(0)
    whole = _EXACT.divide(Decimal(1), Decimal(2**halvings))
    if not rest:
        return whole
    exponent = _EXACT.divide(_EXACT.multiply(_LN_2, Decimal(-rest)), Decimal(half_life))
    return _EXACT.multiply(whole, _EXACT.exp(exponent))


def _decay_money(weights: Sequence[Decimal]) -> _Shares:
    """The weights rounded half-even to 12 decimals, over their sum."""
    parts = [int(_EXACT.multiply(w, _MONEY_SCALE).to_integral_value(ROUND_HALF_EVEN)) for w in weights]
    return _Shares(parts, sum(parts))


def _split(amount: int, shares: _Shares) -> list[int]:
    if amount < 0:
        return [-part for part in _split(-amount, shares)]
    quotas = [divmod(amount * part, shares.whole) for part in shares.parts]
    amounts = [quota for quota, _ in quotas]
    left = amount - sum(amounts)
    if left:
        for touch in sorted(range(len(quotas)), key=lambda touch: -quotas[touch][1])[:left]:
            amounts[touch] += 1
    return amounts


def _last_until(times: Sequence[Micros], moment: Micros) -> int | None:
    index = bisect_right(times, moment) - 1
    return None if index < 0 else index
