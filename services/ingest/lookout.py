"""Looks once a second whether Kafka, the registry and Postgres are there.

Promises: while one of them is away no request is begun, so nothing is said to be taken that could not be.
Leaves what is asked to the callers: connecting the producer, reading the keys and comparing the schema ids
are such questions.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from services.broker import ANSWER_SECONDS
from services.ingest import metrics
from services.ingest.answers import away
from services.plain_words import plainly
from services.registry import WrongIds
from services.store.pool import PASSING

LOOK_SECONDS = 1.0
"""Pause between two looks at a server, a small request each. So long a revoked key may still work."""
PATIENCE_SECONDS = 2 * ANSWER_SECONDS
"""Longest look: each connection gives up after half of it and cleans up after itself."""
OVERDUE_SECONDS = LOOK_SECONDS + PATIENCE_SECONDS
"""A server that nobody has looked at for longer is not looked at any more."""
TROUBLE = (KafkaError, asyncpg.PostgresError, WrongIds, *PASSING)
"""What a server that is away, or not as it should be, makes of a question."""

Question = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)


class Lookout:
    """Which servers are away, and why."""

    def __init__(self, questions: Mapping[str, Question]) -> None:
        self.away = dict.fromkeys(questions, "it was not asked yet")
        self.looked_at = dict.fromkeys(questions, time.monotonic())
        """When each server was last looked at (monotonic seconds)."""
        self._questions = questions

    async def run(self) -> None:
        """Looks, for ever."""
        async with asyncio.TaskGroup() as group:
            for name in self._questions:
                group.create_task(self._watch(name), name=f"lookout-{name}")

    def require_all(self) -> None:
        """Raises NotTaken 503 when a server is away."""
        if self.away:
            raise away(self.away)

    async def _watch(self, name: str) -> None:
        while True:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._questions[name]()
            except TROUBLE as error:
                self._note_away(name, plainly(error))
            else:
                self._note_back(name)
            self.looked_at[name] = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    def _note_away(self, name: str, said: str) -> None:
        if name not in self.away:
            log.warning("server_away", server=name, error=said)
        self.away[name] = said
        metrics.AWAY.labels(name).set(1)

    def _note_back(self, name: str) -> None:
        if self.away.pop(name, None) is not None:
            log.info("server_there", server=name)
        metrics.AWAY.labels(name).set(0)
