"""Tells a supervisor, a load balancer and Prometheus how the door is.

Promises: `/livez` is 503 only when the process should be started again, `/readyz` is 503 while no request is
begun, both with the reasons as JSON; `/metrics` is Prometheus text.
"""

import time
from collections.abc import Iterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services import settings
from services.exposition import HEADERS, exposition
from services.ingest.lookout import LOOK_SECONDS, OVERDUE_SECONDS, Lookout
from services.ingest.sender import Sender


class Health:
    """Answers from what the look-out and the sender noted."""

    def __init__(self, lookout: Lookout, sender: Sender) -> None:
        self._lookout = lookout
        self._sender = sender

    async def livez(self, _: Request) -> Response:
        """Whether the process gets on."""
        return self._answer(list(self._stuck(time.monotonic())))

    async def readyz(self, _: Request) -> Response:
        """Whether requests are taken."""
        return self._answer([f"{name} is away" for name in self._lookout.away])

    async def metrics(self, _: Request) -> Response:
        """What Prometheus reads."""
        return Response(exposition("ingest"), headers=HEADERS)

    def _stuck(self, now: float) -> Iterator[str]:
        for name, moment in self._lookout.looked_at.items():
            if now - moment > OVERDUE_SECONDS + settings.STUCK_SECONDS:
                yield f"nobody has looked at {name} for {now - moment:.0f} s"
        looks = self._sender.silent_looks or 0
        if looks * LOOK_SECONDS > settings.STUCK_SECONDS:
            yield f"Kafka answered {looks} times since it last acknowledged an event"

    def _answer(self, reasons: list[str]) -> Response:
        body = {"ok": not reasons, "reasons": reasons, "away": self._lookout.away}
        return Response(msgspec.json.encode(body), 503 if reasons else 200, media_type="application/json")
