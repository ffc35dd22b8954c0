"""Guards what the engine promises: every record once, in order per partition, whatever dies or moves.

Real Kafka, real Postgres, workers that are processes (`tests.recording_worker`, which stores what it is
given and the offsets in one transaction). The projector's own rules are guarded elsewhere.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from schemas.topics import FOR_EVER, Topic
from services.broker import ensure_topics
from services.settings import Addresses
from tests.fresh import empty_topics
from tests.servers import Servers, ready

pytestmark = [pytest.mark.servers, pytest.mark.slow]

PARTITIONS = 6
PORTION = 240
"""Records per portion of a publisher that goes on all the while."""
DEADLINE_SECONDS = 60.0
LOOK_SECONDS = 0.05
RECOVERY_SECONDS = 6.0
MOST_ENTRIES = 200
"""Log lines of a worker through a broker outage of ten seconds; the libraries alone would print thousands."""

HELD = """
select topic, part, array_agg(at order by seq) as offsets, count(distinct pid) as pids from recorded
group by topic, part
"""


class Worker:
    """A worker process and what it logged."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        self._log = folder / f"{name or 'unnamed'}-{uuid.uuid4().hex[:6]}.log"
        with self._log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.recording_worker", *([name] if name else [])],
                env=os.environ | environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def entries(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def logged(self, event: str) -> bool:
        return any(entry["event"] == event for entry in self.entries())

    async def ended(self) -> int:
        """The exit code, once it has ended."""
        await until(lambda: self.process.poll() is not None)
        return self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def ask(self, path: str) -> tuple[int, Any]:
        """Status and JSON of one of its health pages."""
        address = next(entry["address"] for entry in self.entries() if entry["event"] == "health_served")
        try:
            with urllib.request.urlopen(address + path, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)


class Trial:
    """Topics, a consumer group and a database of its own on the real servers, and the workers on them."""

    def __init__(self, addresses: Addresses, dsn: str, folder: Path) -> None:
        self.name = f"engine_{uuid.uuid4().hex[:8]}"
        self.topics = [f"{self.name}.a", f"{self.name}.b"]
        self._made = [Topic(name, PARTITIONS, FOR_EVER) for name in self.topics]
        self.dsn = dsn
        self.published = 0
        self._addresses = addresses
        self._folder = folder
        self._workers: list[Worker] = []

    async def open(self) -> None:
        """Makes the topics."""
        await ensure_topics(self._addresses.kafka_bootstrap, self._made)

    async def make_anew(self) -> None:
        """Deletes the topics with all that is on them, and makes them again."""
        await empty_topics(self._addresses.kafka_bootstrap, self._made)

    def close(self) -> None:
        """Ends every worker."""
        for worker in self._workers:
            worker.end()

    def start(self, name: str = "", **environment: str) -> Worker:
        """Starts a worker; with a name it keeps its place in the group."""
        given = {
            "LEADLOG_POSTGRES_DSN": self.dsn,
            "LEADLOG_KAFKA_BOOTSTRAP": self._addresses.kafka_bootstrap,
            "LEADLOG_REGISTRY_URL": self._addresses.registry_url,
            "LEADLOG_STATE": str(self._folder),
            "LEADLOG_CONSUMER_GROUP": self.name,
            "RECORDER_TOPICS": " ".join(self.topics),
        }
        worker = Worker(name, given | environment, self._folder)
        self._workers.append(worker)
        return worker

    async def publish(self, records: int) -> None:
        """Sends so many records over all partitions of both topics."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._addresses.kafka_bootstrap, enable_idempotence=True, linger_ms=5
        )
        await producer.start()
        for number in range(self.published, self.published + records):
            await producer.send(self.topics[number % 2], b"%d" % number, partition=number // 2 % PARTITIONS)
        await producer.stop()
        self.published += records

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publishes all the while, in small portions."""
        done = asyncio.Event()

        async def portions() -> None:
            while not done.is_set():
                await self.publish(PORTION)

        publisher = asyncio.create_task(portions())
        try:
            yield
        finally:
            done.set()
            await publisher

    async def recorded(self) -> int:
        """Records in Postgres now; -1 while it does not answer."""
        return await self._value("select count(*) from recorded")

    async def _value(self, query: str, *arguments: Any) -> int:
        try:
            connection = await asyncpg.connect(self.dsn)
        except (OSError, asyncpg.PostgresError):
            return -1
        try:
            return int(await connection.fetchval(query, *arguments))
        except asyncpg.UndefinedTableError:
            return -1
        finally:
            await connection.close()

    async def recorded_at_least(self, records: int) -> None:
        """Waits for so many records."""
        await until(lambda: self._reached(records))

    async def _reached(self, records: int) -> bool:
        return await self.recorded() >= records

    async def by_worker(self, worker: Worker) -> bool:
        """Whether the worker has recorded anything yet."""
        return await self._value("select count(*) from recorded where pid = $1", worker.pid) > 0

    async def assert_exact(self) -> None:
        """Waits for everything published, then: every offset of every partition once, in order."""
        await self.recorded_at_least(self.published)
        connection = await asyncpg.connect(self.dsn)
        rows = await connection.fetch(HELD)
        await connection.close()
        assert sum(len(row["offsets"]) for row in rows) == self.published
        for row in rows:
            assert row["offsets"] == list(range(len(row["offsets"]))), (row["topic"], row["part"])


async def until(condition: Callable[[], bool | Coroutine[Any, Any, bool]]) -> None:
    """Looks until the condition holds; fails after the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(LOOK_SECONDS)


@pytest.fixture
async def trial(stack: Addresses, database: str, tmp_path: Path) -> AsyncIterator[Trial]:
    """An empty trial; its workers end with the test."""
    trial = Trial(stack, database, tmp_path)
    await trial.open()
    yield trial
    trial.close()


async def test_every_record_once_across_kills_joins_and_leaves(trial: Trial) -> None:
    """A second worker joins, the first is killed and comes back, the second leaves: nothing twice, nothing
    lost."""
    async with trial.publishing():
        first = trial.start("first", RECORDER_SLEEP="0.05")
        await until(lambda: trial.by_worker(first))
        second = trial.start(RECORDER_SLEEP="0.05")
        await until(lambda: trial.by_worker(second))
        first.process.kill()
        first = trial.start("first", RECORDER_SLEEP="0.05")
        await until(lambda: trial.by_worker(first))
        second.process.send_signal(signal.SIGTERM)
        assert await second.ended() == 0
    await trial.assert_exact()


async def test_a_killed_worker_with_a_name_is_back_within_six_seconds(trial: Trial) -> None:
    """From SIGKILL to the next stored record, the start of the new process included."""
    await trial.publish(2_000)
    killed = trial.start("only")
    await trial.recorded_at_least(2_000)
    await trial.publish(2_000)
    killed.process.kill()
    killed_at = time.monotonic()
    again = trial.start("only")
    await trial.publish(2_000)
    await until(lambda: trial.by_worker(again))
    assert time.monotonic() - killed_at < RECOVERY_SECONDS
    await trial.assert_exact()


async def test_a_handler_that_raises_ends_the_worker_and_loses_nothing(trial: Trial) -> None:
    """The process exits with 1; the next one reads the same batch again."""
    await trial.publish(5_000)
    failing = trial.start("only", RECORDER_FAILS_AT="200")
    assert await failing.ended() == 1
    assert failing.logged("crashed")
    trial.start("only", RECORDER_FAILS_AT="200")
    await trial.assert_exact()


async def test_a_client_that_fetches_no_more_ends_the_worker(trial: Trial) -> None:
    """It stayed a member of the group that read nothing, for as long as it ran."""
    await trial.publish(5_000)
    deaf = trial.start("only", RECORDER_READS_ONCE="yes")
    assert await deaf.ended() == 1
    assert any("ReadingEnded" in entry.get("exception", "") for entry in deaf.entries())
    trial.start("only")
    await trial.assert_exact()


async def test_postgres_away_is_waited_for(trial: Trial, servers: Servers) -> None:
    """Postgres goes away under open transactions: the worker goes on by itself and was live all the while."""
    worker = trial.start("only", RECORDER_SLEEP="0.05", LEADLOG_STUCK_SECONDS="4")
    await trial.publish(20_000)
    await trial.recorded_at_least(1_000)
    async with away(servers, "postgres"):
        await until(lambda: "postgres" in worker.ask("/livez")[1]["away"])
        await asyncio.sleep(5)  # longer than the patience of /livez
        assert worker.ask("/livez")[0] == 200
        assert worker.ask("/readyz")[0] == 503
    await trial.assert_exact()
    assert worker.process.poll() is None


@pytest.mark.slow
async def test_a_broker_away_is_waited_for(trial: Trial, servers: Servers) -> None:
    """The broker is away for ten seconds: two workers go on by themselves, exactly, and say little
    meanwhile."""
    environment = {"RECORDER_SLEEP": "0.05", "LEADLOG_STUCK_SECONDS": "6"}
    workers = [trial.start("one", **environment), trial.start("two", **environment)]
    await trial.publish(20_000)
    await until(lambda: all(worker.logged("partitions_assigned") for worker in workers))
    await trial.recorded_at_least(1_000)
    async with away(servers, "kafka"):
        await asyncio.sleep(10)
        assert [worker.ask("/livez")[0] for worker in workers] == [200, 200]
    await trial.publish(5_000)
    await trial.assert_exact()
    assert [worker.process.poll() for worker in workers] == [None, None]
    assert max(len(worker.entries()) for worker in workers) < MOST_ENTRIES


@asynccontextmanager
async def away(servers: Servers, name: str) -> AsyncIterator[None]:
    """A server is stopped, and started again at the end."""
    await asyncio.to_thread(servers.stop, name)
    try:
        yield
    finally:
        await asyncio.to_thread(servers.start, name)
        await asyncio.to_thread(ready, servers.addresses, name)


@pytest.mark.slow
async def test_a_stop_undoes_a_batch_that_takes_too_long(trial: Trial) -> None:
    """SIGTERM under an endless transaction: the batch is rolled back and the exit is clean and bounded."""
    await trial.publish(1_000)
    worker = trial.start("only", RECORDER_SLEEP="1000", LEADLOG_REBALANCE_TIMEOUT_SECONDS="4")
    await until(lambda: worker.logged("partitions_assigned"))
    await until(lambda: worker.ask("/readyz")[1]["lag_records"] > 0)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await trial.recorded() == 0
    trial.start("only")
    await trial.assert_exact()


@pytest.mark.slow
async def test_a_hung_shutdown_is_cut_off(trial: Trial) -> None:
    """Past its time a stopping worker leaves by force, with exit code 1, and says what it waited in."""
    await trial.publish(1_000)
    worker = trial.start("only", RECORDER_SLEEP="1000", LEADLOG_SHUTDOWN_SECONDS="2")
    await until(lambda: worker.logged("partitions_assigned"))
    await until(lambda: worker.ask("/readyz")[1]["lag_records"] > 0)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ended() == 1
    (left,) = (entry for entry in worker.entries() if entry["event"] == "left_by_force")
    assert any(place.startswith("batch: ") for place in left["waiting"])


async def test_a_worker_that_stands_still_is_not_live(trial: Trial) -> None:
    """Heartbeats go on and both servers answer, but no stored offset moves: /livez says so, with the
    partitions."""
    await trial.publish(1_000)
    worker = trial.start("only", RECORDER_SLEEP="1000", LEADLOG_STUCK_SECONDS="2")
    await until(lambda: worker.logged("partitions_assigned"))
    await until(lambda: worker.ask("/livez")[0] == 503)
    assert "no move for" in worker.ask("/livez")[1]["reasons"][0]


async def test_a_topic_made_anew_ends_the_worker_and_is_not_skipped(trial: Trial) -> None:
    """Its first records have offsets of others that were stored before: they passed for known ones."""
    await trial.publish(1_000)
    worker = trial.start("only")
    await trial.assert_exact()
    await trial.make_anew()
    await trial.publish(120)
    assert await worker.ended() == 1
    assert any("everything before offset" in str(entry.get("exception")) for entry in worker.entries())
    again = trial.start("only")
    assert await again.ended() == 1
    assert await trial.recorded() == 1_000


async def test_a_worker_that_has_caught_up_is_live_and_ready(trial: Trial) -> None:
    """Both pages say yes once everything is stored, and go on saying so while nothing comes."""
    await trial.publish(1_000)
    worker = trial.start("only", LEADLOG_STUCK_SECONDS="4")  # an idle fetch takes one second of them
    await trial.assert_exact()
    await until(lambda: worker.ask("/readyz")[0] == 200)
    await asyncio.sleep(8)  # twice the patience of /livez
    assert worker.ask("/livez")[0] == 200
    assert worker.ask("/readyz")[1]["lag_records"] == 0
