"""`leadlog wait`."""

import math
import sys
import time
from typing import Self

import click
from rich.console import Console

from services import settings
from services.cli.exits import REFUSED, end, run
from services.cli.numbers import NumberRange
from services.settings import addresses
from services.wait import Behind, wait


@click.command("wait")
@click.option(
    "--timeout", default=600.0, type=NumberRange(0), show_default=True, help="Seconds to wait at most."
)
@click.option("--quiet", is_flag=True, help="Say nothing while waiting.")
def command(timeout: float, quiet: bool) -> None:
    """Wait until everything published so far is in Postgres.

    And until nothing of it is stale: all leads are folded by all that is known of them, for every version
    that is fed. What is published meanwhile is not waited for.
    """
    with Told(quiet) as told:
        behind = run(wait(addresses(), timeout, told.report))
    if not behind.nothing:
        end(
            REFUSED,
            f"after {timeout:g} s {_said(behind)}. Is the projector running? `leadlog status` tells.",
        )
    click.echo("everything published is in Postgres, nothing is stale", err=True)


class Told:
    """What is missing, on standard error: one line that changes on a terminal, elsewhere one now and then."""

    def __init__(self, quiet: bool) -> None:
        self._status = Console(stderr=True).status("")
        self._draws = sys.stderr.isatty() and not quiet
        self._tells = not (quiet or self._draws)
        self._told_at = -math.inf

    def __enter__(self) -> Self:
        if self._draws:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def report(self, behind: Behind) -> None:
        """So much is missing now."""
        if self._draws:
            self._status.update(_said(behind))
        elif self._tells and time.monotonic() - self._told_at > settings.PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            click.echo(_said(behind), err=True)


def _said(behind: Behind) -> str:
    return (
        f"still {behind.records:,} events to read, {behind.stale:,} leads to bring up to date, "
        f"{behind.unsent:,} messages to send"
    )
