"""The projector: takes batches of raw records into Postgres, exactly once.

Promises what `delivery.Handler` asks. Trouble that passes (a server away, a lost connection, a deadlock) is
tried again in place, on a fresh connection, until the call is cancelled; nothing is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import structlog
from asyncpg.transaction import Transaction

from schemas.topics import Offsets, Partition
from services.collector import collect_seldom
from services.plain_words import plainly
from services.projector import calendars, metrics, topics
from services.projector.batch import Batch
from services.projector.decoding import Decoded, Decoding
from services.projector.delivery import Record
from services.projector.lag import Lag
from services.projector.log import Grown
from services.projector.outbox import Outbox
from services.projector.refold import Refold
from services.registry import Registry
from services.settings import Addresses
from services.store.feeding import Fed
from services.store.pool import DATA_ERRORS, PASSING, Connection, create_pool
from services.store.positions import read_positions

POOL_CONNECTIONS = 4
"""One each for batches, the refold loop, the outbox and the lag; the calendars take one once a day."""
RETRY_SECONDS = 0.5
"""Pause before a batch is tried again when a server is away."""
COLLISION_SECONDS = 0.005
"""Half the pause after the first collision; it doubles with each, up to RETRY_SECONDS."""
PROMOTED_POLL_SECONDS = 1.0
"""Pause between looks for a promoted version."""

COLLECT_AFTER_OBJECTS = 200_000
"""Objects made before Python looks for garbage in cycles, a few batches."""

COLLISIONS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError)
"""Errors of two workers in each other's way, also of the same new event id at once: one of them starts
again."""

log = structlog.get_logger()


class Projector:
    """The handler that `leadlog run projector` gives to the engine."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._fed = Fed()
        self._pool: asyncpg.Pool[Any] | None = None
        self._registry = Registry(addresses.registry_url)
        self._decoding = Decoding(self._registry)
        self._lag: Lag | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._waits = ""
        """What Postgres said last to a batch that waits for it; nothing while none does."""

    async def start(self) -> None:
        """Connects, waits for a promoted version, starts the loops beside the batches."""
        self._pool = await self._connect()
        await self._promoted(self._pool)
        refold = Refold(self._pool, self._fed, self._decoding)
        outbox = Outbox(self._pool, self._addresses.kafka_bootstrap)
        self._lag = Lag(self._pool, self._addresses.kafka_bootstrap)
        loops = (
            *(refold.run(), outbox.run(), self._lag.run()),
            topics.watch(self._addresses.kafka_bootstrap),
            calendars.keep(self._pool, self._fed),
        )
        self._loops = [asyncio.create_task(each) for each in loops]
        collect_seldom(COLLECT_AFTER_OBJECTS)

    async def stop(self) -> None:
        """Ends the loops and closes what was opened."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._lag is not None:
            await self._lag.close()
        await self._registry.close()
        if self._pool is not None:
            self._pool.terminate()

    async def watch(self) -> None:
        """Raises what ended a background loop."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for loop in done:
            loop.result()

    def away(self) -> dict[str, str]:
        """Postgres, while it takes no batch, also when it lets others in: its disk may be full. The registry,
        while a batch has a record of a schema that only it knows."""
        said = {"postgres": self._waits, "registry": self._decoding.waits}
        return {server: error for server, error in said.items() if error}

    async def positions(self, partitions: set[Partition]) -> Offsets:
        """The next offsets in Postgres."""
        return await self._persist(self._read_positions, partitions)

    async def apply(self, batch: list[Record]) -> Offsets:
        """One batch, one transaction."""
        decoded = await self._decoding.batch(batch)
        return await self._persist(self._apply, batch, decoded)

    async def _read_positions(self, connection: Connection, partitions: set[Partition]) -> Offsets:
        stored = await read_positions(connection)
        return {partition: stored.get(partition, 0) for partition in partitions}

    async def _apply(self, connection: Connection, records: Sequence[Record], decoded: Decoded) -> Offsets:
        seeds: set[str] = set()
        while True:
            try:
                return await self._transact(connection, records, decoded, seeds)
            except Grown as grown:
                seeds = grown.subjects

    async def _transact(
        self, connection: Connection, records: Sequence[Record], decoded: Decoded, seeds: set[str]
    ) -> Offsets:
        transaction = connection.transaction()
        await transaction.start()
        try:
            reached = await Batch(connection, self._fed, self._decoding).apply(records, decoded, seeds)
        except BaseException:
            if not connection.is_closed():
                await transaction.rollback()
            raise
        await self._commit(transaction)
        return reached

    async def _commit(self, transaction: Transaction) -> None:
        with metrics.COMMIT_SECONDS.time():
            await transaction.commit()

    async def _persist(self, act: Callable[..., Awaitable[Offsets]], *arguments: Any) -> Offsets:
        """Does it, and waits for nobody afterwards, also when a rebalance has cancelled it."""
        try:
            return await self._persistently(act, *arguments)
        finally:
            self._waits = ""

    async def _persistently(self, act: Callable[..., Awaitable[Offsets]], *arguments: Any) -> Offsets:
        """On a connection of the pool, again and again while servers are away."""
        assert self._pool is not None
        collisions = 0
        while True:
            try:
                async with self._pool.acquire() as connection:
                    return await act(connection, *arguments)
            except DATA_ERRORS:
                raise  # some are InterfaceErrors, but they do not pass
            except COLLISIONS as error:
                collisions += 1
                metrics.RETRIES.labels(type(error).__name__).inc()
                log.warning("collision", error=repr(error), times=collisions)
                await asyncio.sleep(min(RETRY_SECONDS, COLLISION_SECONDS * 2 ** min(collisions, 9)))
            except PASSING as error:
                metrics.RETRIES.labels(type(error).__name__).inc()
                self._waits = plainly(error)
                log.warning("postgres_away", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self) -> asyncpg.Pool[Any]:
        while True:
            try:
                return await create_pool(self._addresses.postgres_dsn, size=POOL_CONNECTIONS)
            except PASSING as error:
                log.warning("postgres_away", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _promoted(self, pool: asyncpg.Pool[Any]) -> None:
        """Waits until a version is promoted: before, nobody has said what the events mean."""
        while not await self._has_promoted(pool):
            log.info("waiting_for_promoted_version", hint="run `leadlog up`, which makes the first one")
            await asyncio.sleep(PROMOTED_POLL_SECONDS)

    async def _has_promoted(self, pool: asyncpg.Pool[Any]) -> bool:
        try:
            found = await pool.fetchval("select exists (select from ops.version where status = 'promoted')")
        except asyncpg.UndefinedTableError:
            return False
        return bool(found)
