"""Bounds what the requests in hand hold together.

Promises: however many clients send whatever at once, bodies take no more memory than the gate's capacity;
what goes beyond is refused at once and not queued.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from services.ingest import metrics
from services.ingest.answers import RETRY_LATER, NotTaken

REQUEST_BYTES = 16 * 1024
"""What a request holds beside its body: its connection, buffers and objects."""


class Room:
    """What one request holds."""

    def __init__(self, gate: "Gate") -> None:
        self._gate = gate
        self.size = 0

    def hold(self, size: int) -> None:
        """So many bytes more. Raises NotTaken 429 when the door is full."""
        self._gate.hold(size)
        self.size += size


class Gate:
    """Counts the bytes of all requests in hand."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.held = 0
        metrics.HELD_BYTES.set_function(lambda: self.held)

    @contextmanager
    def enter(self) -> Iterator[Room]:
        """Room for one request, given back in the end. Raises NotTaken 429 when the door is full."""
        room = Room(self)
        try:
            room.hold(REQUEST_BYTES)
            yield room
        finally:
            self.hold(-room.size)

    def hold(self, size: int) -> None:
        """So many bytes more, or less. Raises NotTaken 429."""
        if self.held + size > self._capacity:
            detail = (
                f"the door has {self.held:,} bytes of other requests in hand and holds at most "
                f"{self._capacity:,}: send this one again in a moment"
            )
            raise NotTaken(429, "Too busy", detail, RETRY_LATER)
        self.held += size
