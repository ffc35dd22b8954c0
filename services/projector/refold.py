"""The one refold loop: brings up every journey whose folded revision is behind, whatever the cause.

Promises: each journey is folded from one snapshot of its events and written in one transaction; folding holds
no lock, so the live path goes on, also for the journey itself. Several loops on several workers share the
work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import asyncpg
import msgspec
import structlog

from projections import journey
from projections.history import History
from projections.journey import JourneyState, Rows
from schemas.records import Envelope
from services.projector import metrics
from services.projector.conclusions import draw
from services.projector.decoding import Decoding
from services.projector.fold import (
    LONG_JOURNEY_EVENTS,
    UNWRITABLE,
    Change,
    follows,
    park,
    remove_journeys,
    unpark,
    write_all,
)
from services.projector.histories import read_histories
from services.store.pool import PASSING, Connection
from services.store.versions import FEEDING_LOCK, Fed, Version, read_rows

IDLE_SECONDS = 0.5
"""Pause between looks when nothing is stale."""
ROUND_JOURNEYS = 200
"""Journeys taken up between two looks for what is stale."""
SLICE_EVENTS = 25
"""Events folded without a pause: about 1 ms, since a batch waits its turn at each of its 20 round trips."""
SLICE_PAUSE_SECONDS = 0.002
"""What other tasks get after a slice."""
CATCH_UPS = 3
"""Looks for newer events of a long journey before its fold is stored, or it might stay behind for ever."""
LONG_SECONDS = 0.1
"""After a journey that took longer the loop rests as long: one may get events all the time."""
LOCK_SPACE = 7_104
"""First key of the advisory locks that keep two loops off one journey."""

log = structlog.get_logger()

STALE = """
(select journey_id from {schema}.journey where is_stale order by journey_id limit $1)
union
(select journey_id from {schema}.journey
 where reference_revision < $2
   and not exists (select from ops.parked where version_no = $3 and parked.journey_id = journey.journey_id)
 order by reference_revision limit $1)
"""

SNAPSHOT = """
select member.subject_id, root.revision, root.rewritten_revision
from log.subject root join log.subject member on member.journey_id = root.subject_id
where root.subject_id = $1
"""


class Snapshot(NamedTuple):
    """One journey as the log had it at one moment."""

    members: set[str]
    """Empty when the id names no journey any more."""
    revision: int
    rewritten_revision: int
    history: History | None


class Folded(NamedTuple):
    """What the events of a journey come to."""

    state: JourneyState
    rows: Rows


class Refold:
    """Looks for stale journeys and folds them, until cancelled."""

    def __init__(self, pool: asyncpg.Pool[Any], fed: Fed, decoding: Decoding) -> None:
        self._pool = pool
        self._fed = fed
        self._decoding = decoding

    async def run(self) -> None:
        """Folds for ever; a server that is away is tried again."""
        while True:
            try:
                found = await self.round()
            except (asyncpg.PostgresError, *PASSING) as error:
                log.warning("refold_waits", error=repr(error))
                found = 0
            if not found:
                await asyncio.sleep(IDLE_SECONDS)

    async def round(self) -> int:
        """Takes up what is stale now, at most ROUND_JOURNEYS a version; returns how many were."""
        found = 0
        async with self._pool.acquire() as connection:
            for version in await self._fed.load(connection):
                stale = await connection.fetch(
                    STALE.format(schema=version.schema),
                    *(ROUND_JOURNEYS, version.reference_revision, version.number),
                )
                metrics.STALE_JOURNEYS.labels(version.schema).set(len(stale))
                for row in stale:
                    began = time.monotonic()
                    await self._take_up(connection, version, row["journey_id"])
                    if (taken := time.monotonic() - began) > LONG_SECONDS:
                        await asyncio.sleep(taken)
                found += len(stale)
        return found

    async def _take_up(self, connection: Connection, version: Version, journey_id: str) -> None:
        """Folds one journey unless another loop is at it."""
        key = f"{version.number}:{journey_id}"
        if not await connection.fetchval("select pg_try_advisory_lock($1, hashtext($2))", LOCK_SPACE, key):
            return
        try:
            await self._refold(connection, version, journey_id)
        finally:
            if not connection.is_closed():
                await connection.execute("select pg_advisory_unlock($1, hashtext($2))", LOCK_SPACE, key)

    async def _refold(self, connection: Connection, version: Version, journey_id: str) -> None:
        snapshot = await self._read(connection, journey_id)
        if snapshot.history is None:
            await store_fold(connection, version, journey_id, snapshot, None)
            return
        try:
            state = await fold_in_slices(snapshot.history, version)
            if len(snapshot.history.events) > LONG_JOURNEY_EVENTS:
                snapshot = await self._catch_up(connection, version, snapshot, state)
            folded = Folded(state, shown(state, snapshot, version))
        except (asyncpg.PostgresError, *PASSING):
            raise
        except Exception as error:  # whatever a defect of the fold raises, other journeys go on
            await self._park(connection, version, journey_id, error)
            return
        try:
            await store_fold(connection, version, journey_id, snapshot, folded)
        except UNWRITABLE as error:
            await self._park(connection, version, journey_id, error)
            return
        metrics.REFOLDS.labels(version.schema).inc()

    async def _catch_up(
        self, connection: Connection, version: Version, snapshot: Snapshot, state: JourneyState
    ) -> Snapshot:
        """Continues a fold by the events that came meanwhile; returns the snapshot that the state is of."""
        known = events_of(snapshot)
        for _ in range(CATCH_UPS):
            later = await self._read(connection, state.journey_id, known)
            found = events_of(later)
            newer = [event for id, event in found.items() if id not in known]
            is_same = later.members == snapshot.members and later.rewritten_revision <= snapshot.revision
            if not is_same or not follows(state, newer):
                return snapshot
            for event in newer:
                journey.step(state, event, version.rules)
            if later.revision == snapshot.revision:
                return later
            snapshot, known = later, found
        return snapshot

    async def _park(
        self, connection: Connection, version: Version, journey_id: str, error: Exception
    ) -> None:
        async with connection.transaction():
            await park(connection, version, journey_id, error)

    async def _read(
        self, connection: Connection, journey_id: str, at_hand: Mapping[str, Envelope] = MappingProxyType({})
    ) -> Snapshot:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            rows = await connection.fetch(SNAPSHOT, journey_id)
            members = {row["subject_id"] for row in rows}
            if not members:
                return Snapshot(members, 0, 0, None)
            histories = await read_histories(
                connection, {journey_id: sorted(members)}, self._decoding, at_hand
            )
        return Snapshot(members, rows[0]["revision"], rows[0]["rewritten_revision"], histories[0])


def events_of(snapshot: Snapshot) -> dict[str, Envelope]:
    """The events of a history by id, in its order."""
    return {event.event_id: event for event in snapshot.history.events} if snapshot.history else {}


def shown(state: JourneyState, snapshot: Snapshot, version: Version) -> Rows:
    """All rows of a journey."""
    events = events_of(snapshot).values()
    return journey.rows(state, version.rules) | journey.event_rows(state.journey_id, events, version.rules)


async def fold_in_slices(history: History, version: Version) -> JourneyState:
    """`journey.fold`, giving other tasks a turn in between."""
    state = journey.fold(msgspec.structs.replace(history, events=[]), version.rules)
    for place, event in enumerate(history.events, 1):
        journey.step(state, event, version.rules)
        if place % SLICE_EVENTS == 0:
            await asyncio.sleep(SLICE_PAUSE_SECONDS)
    return state


async def store_fold(
    connection: Connection, version: Version, journey_id: str, snapshot: Snapshot, folded: Folded | None
) -> None:
    """Writes a fold unless the log or the rules have moved in a way that makes it wrong.

    Newer events only leave it behind: it is written, and stays stale. A change of members throws it away.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock_shared($1)", FEEDING_LOCK)
        reference = await connection.fetchval("select revision from log.reference_revision for share")
        now = await connection.fetch(SNAPSHOT + " for update of root, member", journey_id)
        if reference != version.reference_revision or {row["subject_id"] for row in now} != snapshot.members:
            return
        if folded is None:
            removed = await remove_journeys(connection, version, [journey_id])
            await draw(connection, version, [(removed, {})])
            return
        before = await read_rows(connection, version, [journey_id], journey.TABLES)
        change = Change(journey_id, snapshot.revision, before, folded.rows, folded.state)
        await write_all(connection, version, [change])
        await draw(connection, version, [(before, folded.rows)])
        await unpark(connection, version, [journey_id])
        if now[0]["revision"] != snapshot.revision:
            await connection.execute(
                f"update {version.schema}.journey set is_stale = true where journey_id = $1", journey_id
            )
