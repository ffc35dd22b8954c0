"""Turns: a large request does not keep small ones waiting."""

import asyncio
import time

TURN_SECONDS = 0.005
"""So long one request may have the process for itself. A thousand events take some 40 ms."""


class Turn:
    """The turn of one request, from now on."""

    def __init__(self) -> None:
        self._ends_at = time.monotonic() + TURN_SECONDS

    async def over(self) -> None:
        """Lets the others go on if the turn is over; then begins the next one."""
        if time.monotonic() > self._ends_at:
            await asyncio.sleep(0)
            self._ends_at = time.monotonic() + TURN_SECONDS
