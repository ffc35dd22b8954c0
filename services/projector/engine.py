"""Faust as the engine: it joins the group, fetches, rebalances and acknowledges; whole batches pass its
streams by.

Promises: every record of the topics goes to the handler in whole fetched batches, raw, in order per
partition, one batch at a time, read on from the offsets in Postgres and not from Kafka's. A batch that
fails ends the worker; one that a rebalance or a stop cannot wait for is cancelled. Kafka's committed
offsets follow the stored ones, for lag displays only. The one module that imports Faust. Leaves
exactly-once to the handler's transaction: records are delivered again after every rebalance, and two
workers may hold the same record for a moment.

Faust is used by its hooks alone, without patches. `tests/test_engine_contract.py` notices when one is not
called.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import faust
import structlog
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from schemas.topics import EVENTS, Partition
from services import settings
from services.projector import metrics
from services.projector.delivery import Handler, LogWentBack, Record
from services.projector.progress import Progress

Fetched = Mapping[TP, list[Any]]

HEARTBEAT_SECONDS = 1.0
"""Members learn of a rebalance by the answer to a heartbeat, so this is how late a second worker joins."""
SERVER_ANSWER_SECONDS = 60.0
"""Longest wait for a server's answer while partitions are taken over. Faust gives up in silence after it."""
POSITIONS_SECONDS = SERVER_ANSWER_SECONDS / 2
"""Longest wait for the stored offsets: it must end before Faust gives up, or the worker would stand still."""
COMMIT_SECONDS = 5.0
"""Longest wait until Kafka has the offsets, which only displays need: the next commit brings later ones."""
CANCEL_SECONDS = 5.0
"""A cancelled batch has to be rolled back within this time."""

log = structlog.get_logger(__name__)
faust_log = logging.getLogger("faust.engine")


class Feed(NamedTuple):
    """Where the records come from, and as whom they are read."""

    bootstrap: str
    """host:port,… of the brokers"""
    group: str
    member: str | None
    """A name that stays the same when the worker is started again: it then gets its partitions back at
    once."""
    topics: frozenset[str]
    folder: Path
    """Faust's own folder; no two processes share one."""


class ReadingEnded(RuntimeError):
    """The Kafka client fetches no more, whatever the reason; a worker that is started again reads on."""


class Thread(driver.AIOKafkaConsumerThread):
    """The thread of Faust's Kafka client."""

    logger = faust_log

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Gives up in time: Faust waits for ever for an answer that an outage took, also when it stops."""
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                return bool(await super()._commit(offsets))
        except TimeoutError:
            log.warning("commit_unanswered", seconds=COMMIT_SECONDS)
            return False

    async def _fetch_records(self, consumer: Any, *args: Any, **options: Any) -> Fetched:
        """Raises ReadingEnded: Faust would go on asking a client whose background tasks have ended, as a
        member of the group that gets nothing."""
        fetching = consumer._fetcher.error_future
        if fetching.done() and not consumer._fetcher._closed:
            reason = None if fetching.cancelled() else fetching.exception()
            raise ReadingEnded("the task of the Kafka client that fetches has ended") from reason
        consumer._coordinator.check_errors()
        fetched: Fetched = await super()._fetch_records(consumer, *args, **options)
        return fetched

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Logs what Faust prints."""
        log.error("consumer_thread_crashed", exc_info=True)


class Consumer(driver.Consumer):
    """Faust's consumer, which hands the records of the batch topics over instead of streaming them."""

    app: "Engine"
    logger = faust_log  # else Faust's own chatter would come under our name

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._batch: asyncio.Task[None] | None = None
        self._applied: dict[TP, int] = {}

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Fetched:  # noqa: ASYNC109 (Faust's signature)
        self.app.progress.turned(time.monotonic())
        fetched = await self._fetch(active_partitions or set(), timeout)
        if not self.flow_active:
            return fetched  # a rebalance has begun: Faust drops these and seeks back
        self._expect_nothing_earlier(fetched)
        batch = [_record(found) for tp, records in fetched.items() if self._is_batch(tp) for found in records]
        if batch:
            await self._hand_over(batch)
        return {tp: records for tp, records in fetched.items() if not self._is_batch(tp)}

    async def _fetch(self, partitions: set[TP], seconds: float) -> Fetched:
        """Events last: what agents of Faust read would wait behind every backlog of them, and an event read
        before a link or a reference fact that concerns it is folded twice."""
        others = {tp for tp in partitions if tp.topic != EVENTS}
        first = await super()._getmany(others, 0.0) if others else {}
        then = await super()._getmany(partitions, 0.0 if first else seconds)
        return {tp: [*first.get(tp, ()), *then.get(tp, ())] for tp in first.keys() | then.keys()}

    def _expect_nothing_earlier(self, fetched: Fetched) -> None:
        """Raises LogWentBack: the client reads from the beginning when there is no such offset as it asked
        for."""
        for tp, records in fetched.items():
            reading = self.app.progress.readings.get((tp.topic, tp.partition))
            if reading and records and records[0].offset < reading.stored:
                raise LogWentBack((tp.topic, tp.partition), reading.stored, records[0].offset)

    def _is_batch(self, tp: TP) -> bool:
        return tp.topic in self.app.feed.topics

    async def _hand_over(self, batch: list[Record]) -> None:
        """Waits for the batch without being able to tear it: cancelling this leaves the transaction
        running."""
        task = self._batch = asyncio.create_task(self._apply(batch), name="batch")
        await asyncio.wait({task})
        self._batch = None
        if task.cancelled():
            metrics.CANCELLED_BATCHES.inc()
            log.warning("batch_cancelled", records=len(batch))
        else:
            task.result()

    async def _apply(self, batch: list[Record]) -> None:
        progress, started = self.app.progress, time.monotonic()
        progress.batch_since = started
        try:
            offsets = await self.app.handler.apply(batch)
        finally:
            progress.batch_since = None
        self._applied.update({TP(*partition): offset for partition, offset in offsets.items()})
        _count(batch, time.monotonic() - started)
        progress.stored(offsets, time.monotonic())

    async def wait_empty(self) -> None:
        """Called on revocation and on stop: the batch in hand gets half of the time that Kafka gives us."""
        await self._finish_batch(settings.REBALANCE_TIMEOUT_SECONDS / 2)
        await super().wait_empty()

    async def _finish_batch(self, seconds: float) -> None:
        task = self._batch
        if task is None:
            return
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Reads on from Postgres. What is returned is Kafka's view, which Faust's own bookkeeping expects."""
        committed: Mapping[TP, int] = await super().seek_to_committed()
        mine = {tp for tp in self.assignment() if self._is_batch(tp)}
        if mine:
            stored = await asyncio.wait_for(
                self.app.handler.positions({(tp.topic, tp.partition) for tp in mine}), POSITIONS_SECONDS
            )
            await self.seek_wait({tp: stored[tp.topic, tp.partition] for tp in mine})
            self.app.progress.assigned(stored, time.monotonic())
        return committed

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        offsets: dict[TP, int] = super()._filter_committable_offsets(tps)
        applied, self._applied = self._applied, {}
        return offsets | {tp: offset for tp, offset in applied.items() if self._should_commit(tp, offset)}

    def stop_flow(self) -> None:
        """Called when a rebalance begins and on stop."""
        super().stop_flow()
        self.app.progress.enter("joining", time.monotonic())

    def resume_flow(self) -> None:
        """Called when the partitions are known and their positions are set."""
        super().resume_flow()
        self.app.took_over({(tp.topic, tp.partition) for tp in self.assignment() if self._is_batch(tp)})


class Tables(TableManager):
    """There are none. Faust's own manager sleeps a second for them before anything is read."""

    logger = faust_log

    async def on_start(self) -> None:
        """What Faust does after that second."""
        await self._update_channels()
        await self.recovery.start()


class Transport(driver.Transport):
    """Faust's Kafka transport with our consumer."""

    Consumer = Consumer


class Engine(faust.App):
    """One member of the consumer group. A crash ends the process; a supervisor starts it again."""

    logger = faust_log

    def __init__(self, feed: Feed, handler: Handler, progress: Progress) -> None:
        self.feed = feed
        self.handler = handler
        self.progress = progress
        super().__init__(feed.group, **_options(feed))

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Subscribes without an agent."""
        self.feed.folder.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()
        for name in sorted(self.feed.topics):
            self.topics.add(self.topic(name, acks=False, key_type=bytes, value_type=bytes))
        self.progress.enter("joining", time.monotonic())

    def took_over(self, partitions: set[Partition]) -> None:
        """Notes which partitions this worker reads from now on."""
        self.progress.keep(partitions)
        self.progress.enter("reading", time.monotonic())
        metrics.REBALANCES.inc()
        metrics.ASSIGNED.set(len(partitions))
        log.info("partitions_assigned", partitions=_listed(partitions))

    async def run(self) -> None:
        """Reads until `stop` is called from elsewhere. Raises what crashed it."""
        await self.start()
        await self.wait_until_stopped()
        if self.crash_reason:
            raise self.crash_reason


def _options(feed: Feed) -> dict[str, Any]:
    return {
        "broker": [f"kafka://{address}" for address in feed.bootstrap.split(",")],
        "datadir": str(feed.folder),
        "consumer_group_instance_id": feed.member,
        "broker_max_poll_records": settings.BATCH_RECORDS,
        "broker_session_timeout": float(settings.SESSION_TIMEOUT_SECONDS),
        "broker_rebalance_timeout": float(settings.REBALANCE_TIMEOUT_SECONDS),
        "broker_heartbeat_interval": HEARTBEAT_SECONDS,
        "broker_request_timeout": SERVER_ANSWER_SECONDS,
        "broker_commit_interval": 1.0,
        "stream_buffer_maxsize": 65_536,  # at 4,096 a slow agent makes the conductor sleep for whole seconds
        "key_serializer": "raw",
        "value_serializer": "raw",
        "TableManager": Tables,
        "table_standby_replicas": 0,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "autodiscover": False,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
    }


def _record(found: Any) -> Record:
    return Record(
        found.topic,
        found.partition,
        found.offset,
        found.timestamp,
        found.key,
        found.value,
        tuple(found.headers),
    )


def _count(batch: list[Record], seconds: float) -> None:
    metrics.BATCHES.inc()
    metrics.BATCH_RECORDS.observe(len(batch))
    metrics.BATCH_SECONDS.observe(seconds)
    metrics.LAST_PROGRESS.set_to_current_time()
    topics = [record.topic for record in batch]
    for topic in set(topics):
        metrics.RECORDS.labels(topic).inc(topics.count(topic))


def _listed(partitions: set[Partition]) -> list[str]:
    return [f"{topic}-{number}" for topic, number in sorted(partitions)]
