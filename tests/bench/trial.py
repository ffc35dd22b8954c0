"""One variant at work: its workers as processes of their own, and what they and the servers used.

CPU is the operating system's account of the process trees (user and system), memory the kernel's high-water
mark of a worker's resident set.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import psutil

from schemas.topics import INPUT_TOPICS
from services.broker import end_offsets
from services.settings import Addresses
from services.wait import look
from tests.bench import ground
from tests.servers import RunningServers

FAUST = (sys.executable, "-c", "from services.cli import main; main()", "run", "projector", "--worker-id")
BARE = (sys.executable, "-m", "tests.bench.bare")
LOOK_SECONDS = 0.02
STALE_LOOK_SECONDS = 0.2
STOP_SECONDS = 40.0
DEADLINE_SECONDS = 1_800.0
START_SECONDS = 60.0
"""Workers with partitions store something by then, unless all was stored before the last of them came."""
POSITIONS = "select coalesce(sum(next_offset), 0)::bigint from log.position"


class Variant(NamedTuple):
    """What is measured."""

    name: str
    command: Sequence[str]
    """Of a worker, but for its name."""
    workers: int
    versions: int


class Used(NamedTuple):
    """What bringing events from the topics to the tables took. CPU in microseconds per event."""

    events: int
    seconds: float
    """Until every event was stored and nothing was stale."""
    stale_seconds: float
    """The part of it in which all was stored and a journey was still stale."""
    worker_us: float
    broker_us: float
    postgres_us: float
    peak_mb: float
    """Of the largest worker, since it was started."""

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


class Worker:
    """A worker process and its log."""

    def __init__(self, variant: Variant, number: int, addresses: Addresses, folder: Path) -> None:
        self.log = folder / f"worker-{number}.log"
        name = f"worker-{number}"
        environment = os.environ | {
            f"LEADLOG_{key.upper()}": value for key, value in addresses._asdict().items()
        }
        environment |= {
            "LEADLOG_STATE": str(folder),
            "LEADLOG_CONSUMER_GROUP": addresses.postgres_dsn.rpartition("/")[2],
        }
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*variant.command, name], env=environment, stdout=sink, stderr=sink, cwd=ground.ROOT
            )

    def logged(self, event: str) -> list[dict[str, str]]:
        """The log entries of an event."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def reads(self) -> bool:
        """Whether it has partitions. Fails when the process has ended."""
        code = self.process.poll()
        assert code is None, f"a worker ended with {code}: {self.log.read_text()[-2000:]}"
        return bool(self.logged("partitions_assigned"))

    def metrics(self) -> str:
        """Its Prometheus page."""
        (served,) = self.logged("health_served")
        with urllib.request.urlopen(served["address"] + "/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def peak_mb(self) -> float:
        """High-water mark of its resident set."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6

    def stop(self) -> None:
        """Ends it in order."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()


class Trial:
    """A variant on a database and a consumer group of its own."""

    def __init__(self, servers: RunningServers, addresses: Addresses, workers: list[Worker]) -> None:
        self.addresses = addresses
        self.workers = workers
        processes = servers.stack.status()["processes"]
        self._kafka, self._postgres = processes["kafka"]["pid"], processes["postgres"]["pid"]

    async def drain(self) -> Used:
        """Waits until the topics are stored and nothing is stale. Measured once all workers have partitions.

        The events stored until then do not count.
        """
        ends = await end_offsets(self.addresses.kafka_bootstrap, INPUT_TOPICS)
        total = sum(ends.values())
        connection = await asyncpg.connect(self.addresses.postgres_dsn)
        try:
            await _until(lambda: _all_read(self.workers))
            first = await _moved(connection)
            began, before = time.monotonic(), self._cpu()
            while await connection.fetchval(POSITIONS) < total:
                _all_read(self.workers)
                await asyncio.sleep(LOOK_SECONDS)
            stored = time.monotonic()
            await _settled(connection, ends)
            ended, after = time.monotonic(), self._cpu()
        finally:
            await connection.close()
        worker, broker, postgres = (
            (late - early) / (total - first) * 1e6 for early, late in zip(before, after, strict=True)
        )
        peak = max(each.peak_mb() for each in self.workers)
        return Used(total - first, ended - began, ended - stored, worker, broker, postgres, peak)

    def _cpu(self) -> tuple[float, float, float]:
        """Seconds of workers, broker and Postgres so far."""
        workers = sum(tree_seconds(worker.process.pid) for worker in self.workers)
        return workers, tree_seconds(self._kafka), tree_seconds(self._postgres)


@asynccontextmanager
async def trial(servers: RunningServers, variant: Variant) -> AsyncIterator[Trial]:
    """The variant at work from the beginning of the topics; all of it is gone afterwards."""
    async with ground.database(servers.addresses, variant.versions) as addresses:
        with tempfile.TemporaryDirectory(prefix="leadlog-bench-") as folder:
            workers = [
                Worker(variant, number, addresses, Path(folder)) for number in range(1, variant.workers + 1)
            ]
            try:
                yield Trial(servers, addresses, workers)
            finally:
                for worker in workers:
                    worker.stop()


def _all_read(workers: Sequence[Worker]) -> bool:
    reading = [worker.reads() for worker in workers]  # each is asked: one that ended must not go unseen
    return all(reading)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(LOOK_SECONDS)


async def _moved(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """The sum of the stored offsets, at the moment when it changes."""
    before = now = int(await connection.fetchval(POSITIONS))
    async with asyncio.timeout(START_SECONDS):
        while now == before:
            await asyncio.sleep(LOOK_SECONDS)
            now = int(await connection.fetchval(POSITIONS))
    return now


async def _settled(connection: asyncpg.Connection[asyncpg.Record], ends: dict[tuple[str, int], int]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        behind = await look(connection, ends)
        while not behind.nothing:
            await asyncio.sleep(STALE_LOOK_SECONDS)
            behind = await look(connection, ends)


def tree_seconds(pid: int) -> float:
    """Processor time of a process, its children and the children that it has waited for."""
    parent = psutil.Process(pid)
    own = parent.cpu_times()
    seconds = own.user + own.system + own.children_user + own.children_system
    for child in parent.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return float(seconds)
