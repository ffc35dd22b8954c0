"""Numbers that a person names on the command line."""

import math
from typing import Any

import click

from projections.yaml_tree import MAX_DURATION_DAYS

POSITIVE = click.IntRange(1, 2**31 - 1)
"""Of rows, or of a version: what Postgres' type `integer` holds."""
DAYS = click.IntRange(1, MAX_DURATION_DAYS)


class NumberRange(click.FloatRange):
    """A range of which `nan`, which is beyond no bound, is no part either."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number
