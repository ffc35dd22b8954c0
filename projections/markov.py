"""Markov attribution: what each channel is worth by how many leads would not have converted without it.

Promises: a report over many paths, not a model of a deal. A path is the channels of a lead in order,
neighbours merged. States of the chain are the last `order` channels. A channel's removal effect is the share
of the conversions that is lost when every step to it ends without one, in closed form; the conversions are
shared out in proportion to these effects. Leaves which journeys are closed, and which touches are on their
paths, to the caller.

Source: Anderl, Becker, von Wangenheim, Schumann, Mapping the customer journey, IJRM 33 (2016). What a chain
learns from paths is how they go together with conversions, not causal lift.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

State = tuple[str, ...]
"""The last channels, oldest first; none at the start."""

START: State = ()


class Path(NamedTuple):
    """A closed journey: channels in the contract's order."""

    channels: Sequence[str]
    is_converted: bool


class Channel(NamedTuple):
    """A line of the report. `paths` and `conversions` are those with the channel on them.

    `share` is the part of the sum of all removal effects, `credit` the conversions that come of it.
    """

    channel: str
    paths: int
    conversions: int
    removal_effect: float
    share: float
    credit: float


class Report(NamedTuple):
    """`unattributed` are the conversions of paths without channels; with all credits they sum to
    `conversions`."""

    paths: int
    conversions: int
    unattributed: int
    channels: list[Channel]


def report(paths: Iterable[Path], order: int) -> Report:
    """The report over closed journeys, channels by name. `order` is at least 1.

    Solves one linear system per channel over the states seen, at most channels ** order of them.
    """
    merged = [Path([channel for channel, _ in groupby(path.channels)], path.is_converted) for path in paths]
    effects = removal_effects(merged, order)
    on_paths = Counter(channel for path in merged for channel in set(path.channels))
    on_converted = Counter(channel for path in merged if path.is_converted for channel in set(path.channels))
    credited = sum(path.is_converted for path in merged if path.channels)
    whole = sum(effects.values()) or 1.0
    conversions = sum(path.is_converted for path in merged)
    return Report(
        paths=len(merged),
        conversions=conversions,
        unattributed=conversions - credited,
        channels=[
            Channel(
                name, on_paths[name], on_converted[name], effect, effect / whole, effect / whole * credited
            )
            for name, effect in sorted(effects.items())
        ],
    )


def removal_effects(paths: Iterable[Path], order: int) -> dict[str, float]:
    """Per channel 1 - P(conversion without it) / P(conversion); all 0 if no path converts.

    `paths` have their neighbours merged; those without channels are passed over.
    """
    chain = _Chain()
    for path in paths:
        if path.channels:
            chain.add(path, order)
    probability = chain.conversion()
    channels = {state[-1] for state in chain.numbers if state}
    return {
        channel: 1 - chain.conversion(without=channel) / probability if probability else 0.0
        for channel in channels
    }


@dataclass
class _Chain:
    """How often which state followed which, and how often a path ended there with a conversion."""

    numbers: dict[State, int] = field(default_factory=lambda: {START: 0})
    steps: Counter[tuple[int, int]] = field(default_factory=Counter)
    visits: Counter[int] = field(default_factory=Counter)
    conversions: Counter[int] = field(default_factory=Counter)

    def add(self, path: Path, order: int) -> None:
        state, number = START, 0
        self.visits[number] += 1
        for channel in path.channels:
            state = (*state, channel)[-order:]
            before, number = number, self.numbers.setdefault(state, len(self.numbers))
            self.steps[before, number] += 1
            self.visits[number] += 1
        self.conversions[number] += path.is_converted

    def conversion(self, without: str | None = None) -> float:
        """P(conversion) from the start: the solution of x = Q x + r there, Q between states, r to conversion.

        Steps to the channel `without` are left out of Q: they end without a conversion.
        """
        removed = {number for state, number in self.numbers.items() if state and state[-1] == without}
        size = len(self.numbers)
        system: NDArray[numpy.float64] = numpy.eye(size)
        for (before, after), count in self.steps.items():
            if after not in removed:
                system[before, after] -= count / self.visits[before]
        ends = numpy.array([self.conversions[number] / max(self.visits[number], 1) for number in range(size)])
        return float(numpy.linalg.solve(system, ends)[0])
