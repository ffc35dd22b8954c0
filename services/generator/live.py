"""Sending made-up lines as time goes by: at a steady rate, and, if wanted, as if they happened now.

Promises: the n-th line leaves at start + n/rate, so a slow moment is caught up and the mean rate holds.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from schemas.instants import EPOCH
from services.generator.arrival import Line
from services.generator.stream import INSTANTS_OF

REMEMBERED = 100_000
"""So many event ids are remembered with their shift: copies must stay equal to what was sent before."""


def paced(lines: Iterator[Line], per_second: float) -> Iterator[Line]:
    """The lines, held back to a steady rate."""
    start = time.monotonic()
    for number, line in enumerate(lines):
        ahead = start + number / per_second - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        yield line


def as_now(lines: Iterator[Line]) -> Iterator[Line]:
    """The lines moved in time so that each arrives now; lateness and copies stay what they are."""
    shifts: dict[str, timedelta] = {}
    for line in lines:
        body = msgspec.json.decode(line.json)
        now = datetime.now(UTC)
        shift = shifts.setdefault(body["event_id"], now - EPOCH - timedelta(0, 0, line.arrival))
        if len(shifts) > REMEMBERED:
            del shifts[next(iter(shifts))]
        for name in ("occurred_at", "recorded_at", *INSTANTS_OF.get(body["record"], ())):
            if name in body:
                body[name] = datetime.fromisoformat(body[name]) + shift
        body["recorded_at"] = min(body["recorded_at"], now)
        yield line._replace(json=msgspec.json.encode(body))
