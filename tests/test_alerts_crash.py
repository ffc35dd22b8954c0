"""Clock, notifier and projector die at every step and anywhere, one after the other, while leads come, are
reviewed, logged late, merged and started late: each obligation is one incident, told and ended."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from infra import MIGRATIONS
from services.broker import create_producer
from services.deploy import deploy
from services.settings import Addresses
from services.store.pool import connect
from tests.faults.alerting import ANYWHERE, PATHS
from tests.faults.leads import ALERTS, ALL_OVER, ALL_TOLD, LEADS_A_SECOND, SHORT, Leads, environment
from tests.receivers import Receiver, http_receiver
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(280)]

UNREVIEWED_SECONDS = 15
"""Leads are reviewed long after they were due: a process that died comes back in a few seconds."""
DEATHS_ANYWHERE = 3
"""Of each process, after those at named steps."""
DEATHS_SECONDS = 150.0
"""For the deaths of all three, one after the other."""

FORGOTTEN = """
select policy_id, started_event_id from v0001.sla_clock
where stopped_at > due_at and cancelled_reason is null
except select policy_id, started_event_id from ops.fired where threshold = 'due'
"""
BREACHED = """
select 'clock_breached:' || policy_id || ':' || started_event_id from ops.fired where threshold = 'due'
"""


class Mortals:
    """The three processes, each started again when its path has killed it, with the next path."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self._environment = environment
        self._logs = logs
        self._left = {name: [*paths, *[ANYWHERE] * DEATHS_ANYWHERE] for name, paths in PATHS.items()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.died: Counter[str] = Counter()

    def look(self) -> bool:
        """Starts what does not run; whether every path was walked."""
        for name, left in self._left.items():
            process = self._running.get(name)
            if process is None or process.poll() is not None:
                if process is not None:
                    assert process.returncode == -9, f"{name} ended with {process.returncode}"
                    self.died[name] += 1
                self._start(name, left.pop(0) if left else "-")
        return all(self.died[name] == len(paths) + DEATHS_ANYWHERE for name, paths in PATHS.items())

    def _start(self, name: str, path: str) -> None:
        command = [sys.executable, "-m", "tests.faults.alerting", name, path]
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, env=self._environment, stderr=log)

    def end(self) -> None:
        """SIGTERM to what runs."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait(30)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP address that now and then misbehaves."""
    async with http_receiver() as receiver:
        receiver.behaviours = ["ok", "error", "ok", "close", "ok", "busy"] * 4
        yield receiver


async def test_every_obligation_is_one_incident_whatever_dies(
    topics: Addresses, database: str, receiver: Receiver, tmp_path: Path
) -> None:
    """Killed at each named step, and anywhere; in the end all are told once, and ended, and every breach is
    concluded."""
    addresses = topics._replace(postgres_dsn=database)
    await deploy(addresses, MIGRATIONS, SHORT, "")
    hook = {"type": "webhook", "url": receiver.url, "secrets": ["whsec_bmV3"], "timeout": 2}
    mortals = Mortals(environment(addresses, {"hook": hook}, tmp_path), tmp_path)
    connection = await connect(database)
    producer = create_producer(addresses.kafka_bootstrap)
    await producer.start()
    leads = Leads(producer)

    async def none(*queries: str) -> bool:
        mortals.look()
        return not any([await connection.fetchval(query) for query in queries])

    try:
        await let_leads_come(leads, mortals)
        await until(partial(none, *ALL_TOLD), "not all that is due was told")
        is_open = {row[0] for row in await connection.fetch(ALERTS)}
        await leads.review_rest()
        await until(partial(none, *ALL_OVER), "not every obligation was told and ended")
        assert await connection.fetch(ALERTS) == []
        assert await connection.fetch(FORGOTTEN) == []
        breached = {row[0] for row in await connection.fetch(BREACHED)}
    finally:
        mortals.end()
        await producer.stop()
        await connection.close()
    assert len(is_open) > UNREVIEWED_SECONDS
    assert {receiver.incidents()[key] for key in is_open} == {1}
    assert max(receiver.incidents().values()) == 1
    assert not receiver.firing()
    assert breached <= await concluded(addresses.kafka_bootstrap)


async def let_leads_come(leads: Leads, mortals: Mortals) -> None:
    """Until everything has died at every step."""
    began = time.monotonic()
    while not mortals.look():
        assert time.monotonic() - began < DEATHS_SECONDS, f"only these died: {mortals.died}"
        await leads.arrive()
        if len(leads.moments) - leads.reviewed > UNREVIEWED_SECONDS * LEADS_A_SECOND:
            await leads.review()
        await asyncio.sleep(1 / LEADS_A_SECOND)


async def concluded(bootstrap: str) -> set[str]:
    """The ids on `lead.derived`."""
    consumer = AIOKafkaConsumer(
        "lead.derived", bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    found: set[str] = set()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                found |= {dict(each.headers)["ce_id"].decode() for each in records}
    finally:
        await consumer.stop()
    return found
