"""The HTTP door as a process of its own, and what tests and measurements ask it.

Promises: `Door` is `leadlog run ingest` as anybody starts it, on the servers that it is given, and another
program that logs `served` can take its place.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
import psutil
import requests

import infra
from schemas.topics import INPUT_TOPICS
from services.registry import Registry
from services.settings import Addresses
from services.store.keys import new_secret, put_key
from services.store.migrate import migrate
from services.store.pool import session
from tests.fresh import drop_database, empty_topics

LEADLOG = str(Path(sys.executable).parent / "leadlog")
COMMAND = (LEADLOG, "run", "ingest", "--port", "0")
START_SECONDS = 60.0
STOP_SECONDS = 40.0
LOOK_SECONDS = 0.05


class Keys(NamedTuple):
    """Keys that a door takes."""

    everything: str
    website: str
    """Of the source `website`, for touches alone."""
    history: str
    """May import."""


class Door:
    """A process that serves events."""

    def __init__(
        self, addresses: Addresses, folder: Path, command: Sequence[str] = COMMAND, **settings: str
    ) -> None:
        """Starts it, with further settings by name; `url` is where it serves."""
        self.log = folder / "door.log"
        given = {**addresses._asdict(), **settings, "state": str(folder)}
        self.environment = os.environ | {f"LEADLOG_{name.upper()}": value for name, value in given.items()}
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=sink, stderr=sink, cwd=Path(infra.__file__).parents[1]
            )
        self._usage = psutil.Process(self.process.pid)
        self.url = self._served()

    def logged(self, event: str) -> list[dict[str, str]]:
        """The log entries of an event."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def wait_until_ready(self) -> None:
        """Waits until it takes events."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(LOOK_SECONDS)

    def wait_until_missing(self, server: str) -> None:
        """Waits until it has noticed that a server is away. The registry lies in Postgres, so that it may be
        missed first."""
        deadline = time.monotonic() + START_SECONDS
        while server not in requests.get(f"{self.url}/readyz", timeout=60).json().get("away", ()):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(LOOK_SECONDS)

    def wait_until_closed(self) -> None:
        """Waits until it takes no more connections."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                requests.get(f"{self.url}/livez", timeout=5)
            except requests.ConnectionError:
                return
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(LOOK_SECONDS)

    def post(self, body: object, key: str, query: str = "", **headers: str) -> requests.Response:
        """Sends events: bytes as they are, other values as JSON. Headers have underscores for hyphens."""
        sent = body if isinstance(body, bytes) else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        known = {"content-type": "application/json", "authorization": f"Bearer {key}"} | named
        return requests.post(f"{self.url}/v1/events{query}", sent, headers=known, timeout=60)

    def resident_mb(self) -> float:
        """Its memory."""
        return float(self._usage.memory_info().rss / 1e6)

    def cpu_seconds(self) -> float:
        """Processor time that it has used, user and system."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> int:
        """Ends it in order; returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()

    def _served(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not (served := self.logged("served")):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(LOOK_SECONDS)
        return served[0]["address"]

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False


async def make_keys(dsn: str) -> Keys:
    """Lets keys in. The tables must be there."""
    keys = Keys(*(new_secret() for _ in Keys._fields))
    async with session(dsn) as connection:
        await put_key(connection, keys.everything, None, INPUT_TOPICS, may_import=False)
        await put_key(connection, keys.website, "website", ["TouchRecorded"], may_import=False)
        await put_key(connection, keys.history, None, INPUT_TOPICS, may_import=True)
    return keys


class Opened(NamedTuple):
    """A door that takes events."""

    door: Door
    keys: Keys
    addresses: Addresses


@contextmanager
def open_door(stack: Addresses, folder: Path, **settings: str) -> Iterator[Opened]:
    """A door on empty topics, with a database and keys of its own."""
    name = f"door_{uuid.uuid4().hex}"
    addresses = stack._replace(postgres_dsn=f"{stack.postgres_dsn.rpartition('/')[0]}/{name}")
    keys = asyncio.run(_prepare(stack, addresses, name))
    door = Door(addresses, folder, **settings)
    try:
        door.wait_until_ready()
        yield Opened(door, keys, addresses)
    finally:
        door.stop()
        asyncio.run(_drop(stack, name))


async def _prepare(stack: Addresses, addresses: Addresses, name: str) -> Keys:
    connection = await asyncpg.connect(stack.postgres_dsn)
    await connection.execute(f"create database {name}")
    await connection.close()
    await migrate(addresses.postgres_dsn, infra.MIGRATIONS)
    await empty_topics(addresses.kafka_bootstrap)
    async with Registry(addresses.registry_url) as registry:
        await registry.deploy()
    return await make_keys(addresses.postgres_dsn)


async def _drop(stack: Addresses, name: str) -> None:
    connection = await asyncpg.connect(stack.postgres_dsn)
    await drop_database(connection, name)
    await connection.close()
