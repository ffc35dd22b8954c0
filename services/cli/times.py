"""Days and instants as people name them on the command line."""

from datetime import UTC, date
from typing import Any

import click

from schemas.records import Micros
from services.named_instant import instant_in


class DayType(click.ParamType):
    """A day of some calendar."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The date in a text."""
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date: expected one such as 2026-01-31", param, ctx)


class InstantType(click.ParamType):
    """An instant; in UTC where it has no offset."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Micros:
        """Microseconds since 1970."""
        try:
            return instant_in(value, UTC)
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)
