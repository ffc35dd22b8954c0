"""The oracle's attribution models: the exact share of every touch of a path, and the split of money by it."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import Any

from tests.oracle_definition import duration

Row = dict[str, Any]


@dataclass
class Path:
    """The eligible touches of one win in order, and who holds each position (None = nobody)."""

    ages: list[int]
    channels: list[str]
    FT: int | None
    LC: int | None
    OC: int | None
    CW: int | None


def last_at_or_before(times: list[int], at: int | None) -> int | None:
    places = [place for place, time in enumerate(times) if at is not None and time <= at]
    return places[-1] if places else None


def path_of(times: list[int], channels: list[str], known_at: int, opened_at: int | None, won_at: int) -> Path:
    lead, opening = last_at_or_before(times, known_at), last_at_or_before(times, opened_at)
    return Path([won_at - time for time in times], channels, 0, lead, opening, len(times) - 1)


Shares = list[tuple[int | None, Fraction]]
"""Place of the holder and share of each position."""


def spread(n: int, shares: Shares, middle: Fraction, others: list[int]) -> list[Fraction]:
    """Shares to the places that hold them; what nobody holds goes to the held positions in proportion."""
    weights = [Fraction(0)] * n
    held = [(place, share) for place, share in shares if place is not None and share > 0]
    to_middle = middle if others else Fraction(0)
    if not held:
        to_middle = Fraction(1) if to_middle else Fraction(0)
        held = [] if to_middle else [(0, Fraction(1))]
    for place, share in held:
        weights[place] += share / sum(x for _, x in held) * (1 - to_middle)
    for place in others:
        weights[place] += to_middle / len(others)
    return weights


def by_positions(path: Path, shares: list[tuple[int | None, int]], middle: int, whole: int) -> list[Fraction]:
    """Shares of positions out of `whole`, the middle share to the touches that hold none of them."""
    n = len(path.ages)
    exact = [(place, Fraction(share, whole)) for place, share in shares]
    holders = [place for place, share in shares if share > 0]
    return spread(n, exact, Fraction(middle, whole), [place for place in range(n) if place not in holders])


def by_ends(n: int, first: int, last: int, middle: int) -> list[Fraction]:
    if n == 1:
        return [Fraction(1)]
    if n == 2:
        return [Fraction(first, first + last), Fraction(last, first + last)]
    inner = [Fraction(middle, 100 * (n - 2))] * (n - 2)
    return [Fraction(first, 100), *inner, Fraction(last, 100)]


def w30(path: Path) -> list[Fraction]:
    positions = [path.FT, path.LC, path.OC]
    last = max(place for place in positions if place is not None)
    between = [place for place in range(1, last) if place not in positions]
    shares: Shares = [(place, Fraction(3, 10)) for place in positions]
    return spread(len(path.ages), shares, Fraction(1, 10), between)


def decay(path: Path, half_life: int) -> list[Fraction]:
    with localcontext() as context:
        context.prec = 60
        raw = [Decimal(2) ** (-Decimal(age) / Decimal(half_life)) for age in path.ages]
        normal = [weight / sum(raw) for weight in raw]
        exact = [Fraction(w.quantize(Decimal("1e-12"), rounding=ROUND_HALF_EVEN)) for w in normal]
    return [weight / sum(exact) for weight in exact]


def shapley(path: Path) -> list[Fraction]:
    distinct = len(set(path.channels))
    return [Fraction(1, distinct * path.channels.count(channel)) for channel in path.channels]


def all_to(n: int, place: int) -> list[Fraction]:
    return [Fraction(int(i == place)) for i in range(n)]


def custom(path: Path, shares: Row) -> list[Fraction]:
    places = {"first": path.FT, "lead": path.LC, "opportunity": path.OC, "close": path.CW}
    whole = sum(shares.values())
    pairs = [(place, int(shares.get(name, 0))) for name, place in places.items()]
    return by_positions(path, pairs, int(shares.get("middle", 0)), whole)


def weights_of(model: Row, path: Path) -> list[Fraction]:
    n, last = len(path.ages), len(path.ages) - 1
    indirect = [place for place, channel in enumerate(path.channels) if channel != "direct"]
    table: dict[str, Callable[[], list[Fraction]]] = {
        "first": lambda: all_to(n, 0),
        "last": lambda: all_to(n, last),
        "lc": lambda: all_to(n, path.LC or 0),
        "last_non_direct": lambda: all_to(n, indirect[-1] if indirect else last),
        "linear": lambda: [Fraction(1, n)] * n,
        "u50": lambda: by_positions(path, [(path.FT, 50), (path.LC, 50)], 0, 100),
        "u40": lambda: by_positions(path, [(path.FT, 40), (path.LC, 40)], 20, 100),
        "pos40": lambda: by_ends(n, 40, 40, 20),
        "j": lambda: by_ends(n, 20, 60, 20),
        "inverse_j": lambda: by_ends(n, 60, 20, 20),
        "w30": lambda: w30(path),
        "full_path": lambda: full_path(path),
        "decay": lambda: decay(path, duration(model.get("half_life", "7d"))),
        "custom": lambda: custom(path, model["shares"]),
        "shapley": lambda: shapley(path),
    }
    return table[model["id"]]()


def full_path(path: Path) -> list[Fraction]:
    return by_positions(path, [(place, 225) for place in (path.FT, path.LC, path.OC, path.CW)], 100, 1000)


def split(amount: int, weights: list[Fraction]) -> list[int]:
    """Largest remainder over the exact weights, ties to the earlier; negative amounts mirror."""
    if amount < 0:
        return [-part for part in split(-amount, weights)]
    exact = [amount * weight for weight in weights]
    parts = [int(value) for value in exact]
    by_remainder = sorted(range(len(parts)), key=lambda place: (parts[place] - exact[place], place))
    for place in by_remainder[: amount - sum(parts)]:
        parts[place] += 1
    return parts
