"""Random logs on real topics, and the projector's tables made of them, for tests of replay.

Promises: what `Store.take` gives to the projector's transaction is what lies on the topics, offset by offset.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
from aiokafka import AIOKafkaProducer

from infra import MIGRATIONS
from projections import definition
from projections.agreement.facts import activated
from schemas.ids import schema_text
from schemas.records import Micros, TouchRecorded
from schemas.records import Record as Event
from schemas.straight import writer
from schemas.topics import EVENTS, IDENTITY
from schemas.wire import MAGIC, PREFIX
from services.deploy import first_facts
from services.projector.decoding import Decoding
from services.projector.delivery import Record
from services.projector.refold import Refold
from services.registry import Registry
from services.replay.build import build
from services.replay.catch_up import catch_up
from services.replay.diff import diff
from services.replay.diff_outcome import Outcome, outcome
from services.replay.job import Progress
from services.replay.runs import Candidate
from services.replay.verify import Verdict, verify
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.feeding import Fed
from services.store.migrate import migrate
from services.store.pool import Connection, connect, create_pool
from services.store.timeline import TimelineEntry
from tests import live
from tests.comparison import differences, projected
from tests.feeding import HUMAN
from tests.histories import Timeline, is_reference, random_definition, random_log, random_timeline

NAMES = ("event_id", "subject_id", "other_subject_id", "target_event_id", "link_event_id")
"""Fields that name an event or a subject."""


LONG = "0" * 70 + "-"
"""Ids whose length takes two bytes in Avro."""


def many_logs(rng: Random, logs: int, size: int) -> list[Event]:
    """The events of several random logs as one: each has ids of its own, but for the reference facts."""
    found: list[Event] = []
    for number in range(logs):
        prefix = f"{number}-" if number else LONG
        found += [_prefixed(event, prefix) for event in random_log(rng, size, "any")]
    rng.shuffle(found)
    return found


def _prefixed(event: Event, prefix: str) -> Event:
    names = {name: prefix + getattr(event, name) for name in NAMES if hasattr(event, name)}
    if is_reference(event):
        names = {"event_id": names["event_id"]}
    return msgspec.structs.replace(event, **names)


async def publish(bootstrap: str, records: Sequence[Record]) -> None:
    """Puts records on their partitions of topics that are empty before; offsets come out as given."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sent = [
            await producer.send(each.topic, each.value, key=each.key, partition=each.partition)
            for each in records
        ]
        for record, future in zip(records, sent, strict=True):
            assert (await future).offset == record.offset
    finally:
        await producer.stop()


def encoded_before(record: Event, schema_id: int, text: str) -> bytes:
    """The record as a value written with an earlier schema, which lacks fields of today's."""
    value = bytearray(PREFIX.pack(MAGIC, schema_id))
    writer(json.loads(text))(record, value)
    return bytes(value)


def earlier_schema(record: str, field: str) -> str:
    """Today's schema of a record without one field."""
    schema = json.loads(schema_text(record))
    schema["fields"] = [each for each in schema["fields"] if each["name"] != field]
    return json.dumps(schema)


def spoiled(rng: Random, records: Sequence[Record]) -> list[Record]:
    """The records with unreadable and misplaced ones between them; offsets are counted anew."""
    found: list[Record] = []
    for record in records:
        while rng.random() < 0.05:
            found.append(rng.choice(SPOILS)(record))
        found.append(record)
    return renumbered(found)


def renumbered(records: Sequence[Record]) -> list[Record]:
    """Dense offsets in this order."""
    ends: dict[tuple[str, int], int] = {}
    found = []
    for record in records:
        place = (record.topic, record.partition)
        found.append(record._replace(offset=ends.get(place, 0)))
        ends[place] = ends.get(place, 0) + 1
    return found


def _value(record: Record) -> bytes:
    assert record.value is not None
    return record.value


SPOILS: tuple[Callable[[Record], Record], ...] = (
    lambda record: record._replace(value=None),
    lambda record: record._replace(value=b""),
    lambda record: record._replace(value=_value(record)[:-3]),
    lambda record: record._replace(value=_value(record)[:9]),
    lambda record: record._replace(value=_value(record) + b"more"),
    lambda record: record._replace(value=b"{" + _value(record)),
    lambda record: record._replace(value=PREFIX.pack(MAGIC, 2**31 - 1) + _value(record)[5:]),
    lambda record: record._replace(key=b"someone else"),
    lambda record: record._replace(key=None),
    lambda record: record._replace(topic=IDENTITY if record.topic == EVENTS else EVENTS),
)
"""What is made of a copy of a good record."""

LEADLOG = (sys.executable, "-c", "from services.cli import main; main()")
EARLIER_TOUCH = earlier_schema("TouchRecorded", "properties")
STATES = "select journey_id, revision, events, is_stale, state from {}.journey order by journey_id"


class Store:
    """A database beside topics that hold more than it has taken yet."""

    def __init__(self, addresses: Addresses, connection: Connection, records: list[Record]) -> None:
        self.addresses, self.connection, self._left = addresses, connection, records
        self._fed = Fed()
        self.said: list[Progress] = []

    async def take(self, number: int) -> None:
        """The projector takes so many records more."""
        async with Registry(self.addresses.registry_url) as registry:
            for batch in live.cut(Random(number), self._left[:number]):
                await live.take(self.connection, batch, self._fed, Decoding(registry))
        self._left = self._left[number:]

    async def verify(self) -> Verdict:
        """Proof against the topics."""
        return await verify(self.addresses, self.said.append, Effort(2, 0))

    async def settle(self) -> None:
        """The refold loop brings up what is stale."""
        pool = await create_pool(self.addresses.postgres_dsn, size=1)
        async with Registry(self.addresses.registry_url) as registry:
            refold = Refold(pool, self._fed, Decoding(registry))
            while await refold.round():
                pass
        await pool.close()

    async def build(self, timeline: Timeline, as_known_at: int | None = None) -> int:
        """A version of this timeline from the topics."""
        entries = [TimelineEntry(*entry) for entry in timeline]
        candidate = Candidate(entries, as_known_at is not None, as_known_at)
        return await build(self.addresses, candidate, self.said.append, Effort(2, 0))

    async def catch_up(self, number: int) -> None:
        """Brings a version up."""
        await catch_up(self.addresses, number, self.said.append)

    async def diff(self, number: int) -> Outcome:
        """What it changes."""
        await diff(self.addresses, number, self.said.append, Effort(1, 0))
        return await outcome(self.connection, number)

    async def differences(self, number: int, events: Sequence[Event], timeline: Timeline) -> list[str]:
        """What the version says otherwise than the pure fold."""
        rows = await live.tables(self.connection, f"v{number:04d}")
        return differences(projected(list(events), timeline), rows)

    async def states(self, number: int) -> list[tuple[object, ...]]:
        """The folded states."""
        query = STATES.format(f"v{number:04d}")
        return [tuple(row) for row in await self.connection.fetch(query)]


def decided(text: str, now: Micros) -> list[Event]:
    """A definition proposed, approved by both teams, and promoted by a replay."""
    agreed = definition.parse(text)
    return [*first_facts(text, now), activated(agreed.definition_id, agreed.version, None, HUMAN, now)]


class Case:
    """A random log with facts about definitions, spoiled records, and some in an earlier schema."""

    def __init__(self, seed: int, earlier: int) -> None:
        rng = Random(seed)
        self.agreed = [random_definition(rng, version) for version in (1, 2)]
        facts = [fact for n, text in enumerate(self.agreed) for fact in decided(text, n)]
        self.events = [*facts, *many_logs(rng, 20, 40)]
        records = live.on_topics(self.events)
        for place, event in enumerate(self.events):
            if isinstance(event, TouchRecorded) and not event.properties and rng.random() < 0.2:
                value = encoded_before(event, earlier, EARLIER_TOUCH)
                records[place] = records[place]._replace(value=value)
        self.records = spoiled(rng, records)
        self.first, self.other = random_timeline(rng), random_timeline(rng)


SMALL = {
    "REPLAY_UNIT_RECORDS": 150,
    "REPLAY_BUCKET_RECORDS": 60,
    "REPLAY_ID_RECORDS": 300,
    "REPLAY_DIFF_JOURNEYS": 20,
}
"""Settings that cut small logs into many units and buckets."""


@asynccontextmanager
async def prepared(case: Case, addresses: Addresses) -> AsyncIterator[Store]:
    """All records on the topics; two versions fed from the first record on, the first promoted."""
    await publish(addresses.kafka_bootstrap, case.records)
    await migrate(addresses.postgres_dsn, MIGRATIONS)
    connection = await connect(addresses.postgres_dsn)
    await live.add_versions(connection, [case.first, case.other])
    yield Store(addresses, connection, case.records)
    await connection.close()


async def random_case(addresses: Addresses, seed: int) -> Case:
    """A case whose earlier schema the registry knows."""
    async with Registry(addresses.registry_url) as registry:
        await registry.deploy()
        return Case(seed, await registry.register("tests-leadlog.TouchRecorded", EARLIER_TOUCH))


def _interruptible() -> None:
    """Shells let what they start in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Commands:
    """`leadlog replay`, or those of another group, as processes to be killed."""

    def __init__(self, addresses: Addresses, state: Path, group: str = "replay") -> None:
        self._group = group
        named = {f"LEADLOG_{name.upper()}": value for name, value in addresses._asdict().items()}
        small = {f"LEADLOG_{name}": str(value) for name, value in SMALL.items()}
        self._environment = {**os.environ, **named, **small, "LEADLOG_STATE": str(state)}

    async def until(self, said: str, *arguments: str) -> None:
        """Runs a command and kills it when it says this."""
        process = await self._start(*arguments)
        assert process.stderr is not None
        lines = []
        while line := (await process.stderr.readline()).decode():
            if line.startswith(said):
                process.kill()
                await process.wait()
                return
            lines.append(line)
        raise AssertionError(f"{arguments} never said {said}: {lines}")

    async def interrupted(self, said: str, *arguments: str) -> tuple[int, list[str]]:
        """Runs a command, as from a terminal, until Ctrl-C when it says this: exit code, and what it said
        then."""
        process = await self._start(*arguments)
        assert process.stderr is not None
        while not (await process.stderr.readline()).decode().startswith(said):
            assert not process.stderr.at_eof(), said
        os.killpg(process.pid, signal.SIGINT)
        _, after = await process.communicate()
        lines = after.decode().splitlines()
        return process.returncode or 0, [line for line in lines if not line.startswith(said)]

    async def for_seconds(self, seconds: float, *arguments: str) -> bool:
        """Runs a command and kills it after a while; whether it was done before."""
        process = await self._start(*arguments)
        try:
            await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
        return process.returncode == 0

    async def finished(self, *arguments: str) -> tuple[int, str]:
        """Runs a command to its end: exit code, and what it said."""
        process = await self._start(*arguments)
        out, said = await process.communicate()
        return process.returncode or 0, (out + said).decode()

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(*LEADLOG, self._group, *arguments),
            env=self._environment,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
            preexec_fn=_interruptible,
        )
