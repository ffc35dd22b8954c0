"""Guards the hooks by which `services.projector.engine` steers Faust, against Faust's real consumer and
app.

No broker: the thread that talks to Kafka is a fake, the only one in the test suite, because the question is
which of our methods Faust calls, in which order, and not what Kafka does. `test_engine.py` holds the rest,
on real servers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.transport.consumer import Fetcher
from faust.types import TP
from mode import Service

from schemas.topics import Offsets, Partition
from services import settings
from services.projector import engine
from services.projector.delivery import Record
from services.projector.engine import Consumer, Engine, Feed, Thread
from services.projector.progress import Progress

EVENTS = TP("lead.events", 0)
LINKS = TP("lead.identity", 0)
AGENTS = TP("somebody.else", 0)
DEADLINE_SECONDS = 5.0


class FakeThread(Service):
    """Stands in for the thread that owns the Kafka client: gives what it was told to, notes what is asked
    of it."""

    def __init__(self) -> None:
        super().__init__()
        self.assigned = {EVENTS}
        self.coming: dict[TP, list[Any]] = {}
        self.sought: list[Mapping[TP, int]] = []
        self.committed: list[Mapping[TP, int]] = []
        self.asked: list[tuple[set[TP], float]] = []
        self.during_fetch: Callable[[], None] = lambda: None

    async def getmany(self, active: set[TP], seconds: float) -> dict[TP, list[Any]]:
        self.asked.append((set(active), seconds))
        self.during_fetch()
        await asyncio.sleep(0)
        return {tp: self.coming.pop(tp) for tp in active & self.coming.keys()}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return dict.fromkeys(self.assigned, 3)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self.sought.append(partitions)

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        self.committed.append(dict(offsets))
        return True

    def assignment(self) -> set[TP]:
        return self.assigned

    def highwater(self, tp: TP) -> int:
        return 100


class Keeper:
    """A handler that keeps its batches, and waits where a test wants it to."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.stored: Offsets = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.rolled_back = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def watch(self) -> None: ...

    def away(self) -> dict[str, str]:
        return {}

    async def positions(self, partitions: set[Partition]) -> Offsets:
        return dict.fromkeys(partitions, 0) | self.stored

    async def apply(self, batch: list[Record]) -> Offsets:
        self.batches.append(batch)
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.rolled_back = True
            raise
        self.stored |= {(record.topic, record.partition): record.offset + 1 for record in batch}
        return {(record.topic, record.partition): record.offset + 1 for record in batch}


@pytest.fixture
async def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """An engine around Faust's real consumer, as it is once its partitions are assigned and its flow runs."""
    monkeypatch.setattr(Consumer, "_new_consumer_thread", lambda _: FakeThread())
    keeper, progress = Keeper(), Progress()
    feed = Feed("127.0.0.1:1", "group", None, frozenset({EVENTS.topic, LINKS.topic}), tmp_path / "faust")
    engine = Engine(feed, keeper, progress)
    consumer = engine.consumer
    assert isinstance(consumer, Consumer)
    consumer._set_active_tps({EVENTS, AGENTS})
    consumer.resume_flow()
    progress.assigned({(EVENTS.topic, EVENTS.partition): 0}, 0.0)
    return SimpleNamespace(
        engine=engine, consumer=consumer, thread=consumer._thread, keeper=keeper, progress=progress
    )


def record(tp: TP, offset: int) -> ConsumerRecord[bytes, bytes]:
    """A record as aiokafka gives it."""
    return ConsumerRecord(
        tp.topic,
        tp.partition,
        offset,
        1_700_000_000_000,
        0,
        b"k",
        b"v%d" % offset,
        None,
        1,
        2,
        (("h", b"1"),),
    )


def records(tp: TP, offsets: Iterable[int]) -> list[Any]:
    return [record(tp, offset) for offset in offsets]


async def turn(consumer: Any) -> list[tuple[TP, int]]:
    """One turn of Faust's fetch loop; what it passes on to streams."""
    return [(tp, message.offset) async for tp, message in consumer.getmany(timeout=1.0)]


async def test_a_fetched_batch_reaches_the_handler_whole_and_raw(parts: SimpleNamespace) -> None:
    """All fetched records of the batch topics come in one call, in order, and none goes on to streams."""
    parts.thread.coming = {EVENTS: records(EVENTS, range(3))}
    assert await turn(parts.consumer) == []
    assert parts.keeper.batches == [
        [Record("lead.events", 0, n, 1_700_000_000_000, b"k", b"v%d" % n, (("h", b"1"),)) for n in range(3)]
    ]
    assert parts.progress.readings["lead.events", 0].stored == 3


async def test_other_topics_go_on_to_faust_and_are_fetched_first(parts: SimpleNamespace) -> None:
    """Records of ordinary agents pass untouched and are asked for before the batch topics, with no wait."""
    parts.thread.coming = {EVENTS: records(EVENTS, [0]), AGENTS: records(AGENTS, [7])}
    assert await turn(parts.consumer) == [(AGENTS, 7)]
    assert parts.thread.asked[0] == ({AGENTS}, 0.0)
    assert parts.thread.asked[1] == ({AGENTS, EVENTS}, 0.0)
    assert [len(batch) for batch in parts.keeper.batches] == [1]


async def test_links_are_read_before_a_backlog_of_events(parts: SimpleNamespace) -> None:
    """What joins journeys is asked for first, with no wait, and goes into the batch with the events."""
    parts.consumer._set_active_tps({EVENTS, LINKS})
    parts.thread.coming = {EVENTS: records(EVENTS, [0]), LINKS: records(LINKS, [7])}
    await turn(parts.consumer)
    assert parts.thread.asked == [({LINKS}, 0.0), ({LINKS, EVENTS}, 0.0)]
    [batch] = parts.keeper.batches
    assert {(each.topic, each.offset) for each in batch} == {("lead.events", 0), ("lead.identity", 7)}


async def test_nothing_is_handed_over_once_a_rebalance_has_begun(parts: SimpleNamespace) -> None:
    """Records fetched while the flow stops are dropped, and Faust seeks back to what Postgres holds."""
    parts.keeper.stored = {("lead.events", 0): 5}
    parts.thread.coming = {EVENTS: records(EVENTS, [9])}
    parts.thread.during_fetch = parts.consumer.stop_flow
    assert await turn(parts.consumer) == []
    assert parts.keeper.batches == []
    assert parts.thread.sought == [{EVENTS: 5}]


async def test_positions_come_from_postgres_and_not_from_kafka(parts: SimpleNamespace) -> None:
    """Taking partitions over seeks to the stored offsets; Faust's own bookkeeping keeps Kafka's."""
    parts.keeper.stored = {("lead.events", 0): 42}
    await parts.consumer.perform_seek()
    assert parts.thread.sought == [{EVENTS: 42}]
    assert parts.consumer._committed_offset[EVENTS] == 3


async def test_a_partition_never_read_starts_at_zero(parts: SimpleNamespace) -> None:
    """Without a stored offset the first record is sought, even when the group has committed a later one."""
    await parts.consumer.perform_seek()
    assert parts.thread.sought == [{EVENTS: 0}]


async def test_applied_offsets_are_committed_to_kafka(parts: SimpleNamespace) -> None:
    """Faust's commit mirrors what is stored, once."""
    parts.thread.coming = {EVENTS: records(EVENTS, range(4))}
    await turn(parts.consumer)
    await parts.consumer.commit()
    await parts.consumer.commit()
    assert parts.thread.committed == [{EVENTS: 4}]


async def test_a_commit_without_an_answer_is_given_up(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust's thread does not wait for ever, or the worker could neither read on nor stop."""
    monkeypatch.setattr(engine, "COMMIT_SECONDS", 0.01)
    silent = SimpleNamespace(assignment=lambda: {EVENTS}, commit=lambda _: asyncio.Event().wait())
    thread = Thread(parts.consumer)
    monkeypatch.setattr(thread, "_consumer", silent)
    assert await asyncio.wait_for(thread._commit({EVENTS: 4}), DEADLINE_SECONDS) is False


async def test_revoking_waits_for_the_batch_in_hand(parts: SimpleNamespace) -> None:
    """A rebalance lets the open transaction commit, and commits its offsets before the partitions go."""
    fetching, revoking = await batch_in_hand(parts, lambda: parts.engine._on_partitions_revoked({EVENTS}))
    parts.keeper.gate.set()
    await asyncio.wait({fetching, revoking}, timeout=DEADLINE_SECONDS)
    assert parts.keeper.stored == {("lead.events", 0): 2}
    assert parts.thread.committed == [{EVENTS: 2}]
    assert parts.progress.phase == "joining"


async def test_a_batch_that_takes_too_long_is_cancelled(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After half of the rebalance timeout the transaction is rolled back, and Faust seeks back behind it."""
    monkeypatch.setattr(settings, "REBALANCE_TIMEOUT_SECONDS", 0.02)
    fetching, revoking = await batch_in_hand(parts, lambda: parts.engine._on_partitions_revoked({EVENTS}))
    await asyncio.wait({fetching, revoking}, timeout=DEADLINE_SECONDS)
    assert parts.keeper.rolled_back
    assert parts.thread.committed == []
    assert parts.thread.sought == [{EVENTS: 0}]


async def test_stopping_the_fetch_loop_does_not_tear_the_transaction(parts: SimpleNamespace) -> None:
    """On stop Faust cancels its fetch loop; the batch in hand is still finished and committed."""
    parts.thread.coming = {EVENTS: records(EVENTS, range(2))}
    parts.keeper.gate.clear()
    fetcher = Fetcher(parts.engine)
    loop = asyncio.create_task(parts.consumer._drain_messages(fetcher))
    await asyncio.wait_for(parts.keeper.begun.wait(), DEADLINE_SECONDS)
    loop.cancel()
    await asyncio.wait({loop}, timeout=DEADLINE_SECONDS)
    stopping = asyncio.create_task(parts.engine._consumer_wait_empty(parts.consumer, parts.engine.log))
    parts.keeper.gate.set()
    await asyncio.wait_for(stopping, DEADLINE_SECONDS)
    assert not parts.keeper.rolled_back
    assert parts.thread.committed == [{EVENTS: 2}]


async def test_resuming_marks_the_worker_as_reading(parts: SimpleNamespace) -> None:
    """After taking partitions over Faust seeks and then resumes the flow: only then the worker reads."""
    parts.consumer.stop_flow()
    parts.keeper.stored = {("lead.events", 0): 6}
    await resume_streams(parts.engine)
    assert parts.thread.sought == [{EVENTS: 6}]
    assert parts.progress.phase == "reading"
    assert parts.progress.readings["lead.events", 0].stored == 6


async def test_a_failing_handler_ends_the_fetch_loop(parts: SimpleNamespace) -> None:
    """What the handler raises comes out of Faust's fetch loop, so that the app crashes and does not go on."""

    async def fail(batch: list[Record]) -> Offsets:
        raise ValueError("a defect")

    parts.keeper.apply = fail
    parts.thread.coming = {EVENTS: records(EVENTS, [0])}
    with pytest.raises(ValueError, match="a defect"):
        await asyncio.wait_for(parts.consumer._drain_messages(Fetcher(parts.engine)), DEADLINE_SECONDS)


async def resume_streams(engine: Engine) -> None:
    """What Faust does at the end of every rebalance; its fetch loop is not to be started here."""
    engine._fetcher._started.set()
    tables: Any = engine.tables
    await tables.recovery._resume_streams(generation_id=engine.consumer_generation_id)


async def batch_in_hand(
    parts: SimpleNamespace, then: Callable[[], Awaitable[None]]
) -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
    """Starts a turn whose batch stays open, then runs `then` beside it."""
    parts.thread.coming = {EVENTS: records(EVENTS, range(2))}
    parts.keeper.gate.clear()
    fetching = asyncio.create_task(turn(parts.consumer))
    await asyncio.wait_for(parts.keeper.begun.wait(), DEADLINE_SECONDS)
    return fetching, asyncio.ensure_future(then())
