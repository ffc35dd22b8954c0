"""One measured run: fresh database, workers as processes, the machine's account of what each process used."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

import infra
from services.broker import end_offsets
from services.settings import Addresses
from services.store.migrate import migrate
from services.store.pool import connect
from services.wait import INPUT_TOPICS, look
from tests.histories import Timeline
from tests.live import add_versions
from tests.servers import RunningServers

MIGRATIONS = Path(infra.__file__).parent / "migrations"
LEADLOG = str(Path(sys.executable).with_name("leadlog"))
FAUST = (LEADLOG, "run", "projector", "--web-port", "0")
BARE = (sys.executable, "-m", "tests.bench.bare_loop")
POLL_SECONDS = 0.05


class Variant(NamedTuple):
    """What is measured."""

    name: str
    command: Sequence[str]
    workers: int
    timelines: Sequence[Timeline]


class Used(NamedTuple):
    """What a run took. CPU in microseconds per event, memory in MB."""

    variant: str
    events: int
    seconds: float
    worker_cpu: float
    broker_cpu: float
    postgres_cpu: float
    worker_mb: float

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


@asynccontextmanager
async def trial(
    servers: RunningServers, variant: Variant
) -> AsyncIterator[tuple[Addresses, list[psutil.Process]]]:
    """A fresh database with the variant's versions, and its workers; both are gone afterwards."""
    dsn = await new_database(servers.addresses.postgres_dsn)
    await migrate(dsn, MIGRATIONS)
    connection = await connect(dsn)
    await add_versions(connection, variant.timelines)
    await connection.close()
    addresses = servers.addresses._replace(postgres_dsn=dsn)
    workers = [start(variant.command, addresses, uuid.uuid4().hex) for _ in range(variant.workers)]
    try:
        yield addresses, [psutil.Process(worker.pid) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


async def new_database(dsn: str) -> str:
    """Makes an empty database on the server of `dsn`; returns its address."""
    name = f"bench_{uuid.uuid4().hex}"
    connection = await connect(dsn)
    await connection.execute(f"create database {name}")
    await connection.close()
    return f"{dsn.rpartition('/')[0]}/{name}"


def start(command: Sequence[str], addresses: Addresses, group: str) -> subprocess.Popen[bytes]:
    """A worker process of a consumer group of its own database."""
    database = addresses.postgres_dsn.rpartition("/")[2]
    environment = os.environ | {
        **{f"LEADLOG_{name.upper()}": value for name, value in addresses._asdict().items()},
        "LEADLOG_CONSUMER_GROUP": database,
        "LEADLOG_STATE": f"/tmp/{database}-{group}",
    }
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def drain(servers: RunningServers, variant: Variant) -> Used:
    """Reads the topics from their beginning until all is stored and nothing is stale."""
    ends = await end_offsets(servers.addresses.kafka_bootstrap, INPUT_TOPICS)
    pids = {name: process["pid"] for name, process in servers.stack.status()["processes"].items()}
    broker, postgres = psutil.Process(pids["kafka"]), psutil.Process(pids["postgres"])
    async with trial(servers, variant) as (addresses, workers):
        connection = await connect(addresses.postgres_dsn)
        total = sum(ends.values())
        while True:
            first = total - (await look(connection, ends)).records
            if first:
                break
            await asyncio.sleep(POLL_SECONDS)
        began = time.monotonic()
        before = cpu(workers), cpu([broker]), cpu([postgres])
        peak = 0.0
        while not (await look(connection, ends)).nothing:
            peak = max(peak, *(worker.memory_info().rss / 1e6 for worker in workers))
            await asyncio.sleep(POLL_SECONDS)
        seconds = time.monotonic() - began
        after = cpu(workers), cpu([broker]), cpu([postgres])
        await connection.close()
    events = total - first
    used = [(late - early) / events * 1e6 for early, late in zip(before, after, strict=True)]
    return Used(variant.name, events, seconds, used[0], used[1], used[2], peak)


def cpu(processes: Iterable[psutil.Process]) -> float:
    """Seconds of processor time of processes and all their children, ended ones too."""
    seconds = 0.0
    for process in processes:
        for each in [process, *process.children(recursive=True)]:
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds += times.user + times.system
        own = process.cpu_times()
        seconds += own.children_user + own.children_system
    return seconds
