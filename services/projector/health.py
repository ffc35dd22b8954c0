"""Tells a supervisor, a load balancer and Prometheus how a projector worker is, from progress and not from
its word.

Promises: `/livez` is 503 only when the process should be started again, `/readyz` is 503 while its rows are
not to be relied on, both with the reasons as JSON; `/metrics` is Prometheus text. The ends
of the topics are asked over a connection of its own: a consumer that hangs would not know that there is
more to read. Postgres is asked only when nothing moves. Leaves the rules to `progress`.
"""

import asyncio
import time
from collections.abc import Callable

import asyncpg
import msgspec
import structlog
from aiohttp import web
from aiokafka.errors import KafkaError

from services import settings
from services.broker import ANSWER_SECONDS, Ends
from services.daemon import listen, metrics_of
from services.plain_words import plainly
from services.projector import metrics
from services.projector.progress import Progress
from services.store.pool import PASSING

LOOK_SECONDS = 1.0
"""Pause between two looks at the ends of the topics: fresh enough for a lag display, one small request
each."""
SUSPICIOUS_SECONDS = settings.STUCK_SECONDS / 4
"""When nothing was stored for this long although there is work, Postgres is asked whether it is there. Well
below the patience of `/livez`, which must not take a server that is away for a stuck worker."""

log = structlog.get_logger(__name__)


class Health:
    """The worker's small web server and the look-out behind it."""

    def __init__(
        self,
        progress: Progress,
        postgres_dsn: str,
        kafka_bootstrap: str,
        waits_for: Callable[[], dict[str, str]],
    ) -> None:
        self._progress = progress
        self._waits_for = waits_for
        self._postgres_dsn = postgres_dsn
        self._ends = Ends(kafka_bootstrap)
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", metrics_of("projector"))
        self._runner = web.AppRunner(app, access_log=None)
        self._lookout: asyncio.Task[None] | None = None

    async def start(self, port: int) -> str:
        """Serves on METRICS_HOST (port 0: a free one) and returns the address. Raises PortTaken."""
        address = await listen(self._runner, port)
        self._lookout = asyncio.create_task(self._look(), name="lookout")
        return address

    async def stop(self) -> None:
        """Closes the server and the connection to Kafka."""
        if self._lookout is not None:
            self._lookout.cancel()
            await asyncio.wait({self._lookout})
        await self._ends.close()
        await self._runner.cleanup()

    async def _look(self) -> None:
        while True:
            await self._look_at_kafka()
            await self._look_at_postgres()
            self._look_at_registry()
            _publish(self._progress)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at_kafka(self) -> None:
        try:
            ends = await self._ends.ask(self._progress.asking())
        except (KafkaError, TimeoutError) as error:
            self._progress.server_away("kafka", plainly(error), time.monotonic())
        else:
            self._progress.server_back("kafka")
            self._progress.ends(ends, time.monotonic())

    async def _look_at_postgres(self) -> None:
        if (said := self._waits_for().get("postgres")) is not None:
            self._progress.server_away("postgres", said, time.monotonic())
            return
        if not (
            self._progress.stands(time.monotonic(), SUSPICIOUS_SECONDS) or "postgres" in self._progress.away
        ):
            return
        try:
            connection = await asyncpg.connect(self._postgres_dsn, timeout=ANSWER_SECONDS)
            await connection.close(timeout=ANSWER_SECONDS)
        except (asyncpg.PostgresError, *PASSING) as error:
            self._progress.server_away("postgres", plainly(error), time.monotonic())
        else:
            self._progress.server_back("postgres")

    def _look_at_registry(self) -> None:
        """Only a batch that needs it knows."""
        said = self._waits_for().get("registry")
        if said is None:
            self._progress.server_back("registry")
        else:
            self._progress.server_away("registry", said, time.monotonic())

    async def _livez(self, request: web.Request) -> web.Response:
        return self._answer(self._progress.stuck(time.monotonic(), settings.STUCK_SECONDS))

    async def _readyz(self, request: web.Request) -> web.Response:
        return self._answer(self._progress.not_ready(settings.READY_LAG_RECORDS))

    def _answer(self, reasons: list[str]) -> web.Response:
        progress = self._progress
        body = {
            "ok": not reasons,
            "reasons": reasons,
            "phase": progress.phase,
            "away": progress.away,
            "lag_records": progress.lag,
            "partitions": {
                f"{topic}-{number}": {"stored": reading.stored, "end": reading.end}
                for (topic, number), reading in sorted(progress.readings.items())
            },
        }
        return web.Response(
            body=msgspec.json.encode(body), status=503 if reasons else 200, content_type="application/json"
        )


def _publish(progress: Progress) -> None:
    """Sets the gauges of what is known; partitions read no more disappear."""
    metrics.LAG.clear()
    for (topic, number), reading in progress.readings.items():
        metrics.LAG.labels(topic, number).set(reading.lag)
    metrics.MISSING.set(sum(reading.missing for reading in progress.readings.values()))
    if progress.readings and not progress.lag:
        metrics.LAST_PROGRESS.set_to_current_time()
