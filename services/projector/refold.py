"""The one refold loop: brings up every journey whose folded revision is behind, whatever the cause.

Promises: each journey is folded from one snapshot of its events and written whole in one transaction, short
ones several at once; folding holds no lock, so the live path goes on, also for the journey itself. Several
loops on several workers share the work.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    by_journey,
    follows,
    left_over,
    park,
    together,
    unpark,
    write_all,
)
from services.projector.histories import read_histories
from services.store.feeding import Fed, Version, read_rows
from services.store.locks import JOURNEYS, share_feeding
from services.store.pool import PASSING, Connection

IDLE_SECONDS = 0.5
"""Pause between looks when nothing is stale, or others are at all of it."""
ROUND_JOURNEYS = 200
"""Journeys taken up between two looks for what is stale."""
GROUP_JOURNEYS = 20
"""Short journeys written in one transaction: a batch that needs one of them waits for about 20 ms."""
SLICE_EVENTS = 25
"""Events folded without a pause: about 1 ms, since a batch waits its turn at each of its 20 round trips."""
SLICE_PAUSE_SECONDS = 0.002
"""What other tasks get after a slice."""
CATCH_UPS = 3
"""Looks for newer events of a long journey before its fold is stored, or it might stay behind for ever."""
LONG_SECONDS = 0.1
"""After a journey that took longer the loop rests as long: one may get events all the time."""

log = structlog.get_logger()

STALE = """
(select journey_id, events from {schema}.journey where is_stale order by journey_id limit $1)
union
(select journey_id, events from {schema}.journey
 where reference_revision < $2
   and not exists (select from ops.parked where version_no = $3 and parked.journey_id = journey.journey_id)
 order by reference_revision limit $1)
order by journey_id
"""

LOCK = """
select id from unnest($3::text[]) id where pg_try_advisory_lock($1, hashtext($2 || ':' || id))
"""
UNLOCK = "select pg_advisory_unlock($1, hashtext($2 || ':' || id)) from unnest($3::text[]) id"

# One that was taken over is part of another, whose fold removes what is stored of it.
HEIRS = "select distinct journey_id from log.subject where subject_id = any($1) order by journey_id"

MEMBERS = """
select subject_id, journey_id, revision, rewritten_revision from log.subject where journey_id = any($1)
order by subject_id
"""

OVERTAKEN = """
select journey_id from {schema}.journey
join unnest($1::text[], $2::bigint[]) fold (id, revision) on journey_id = id
where journey.revision > fold.revision
"""


class Snapshot(NamedTuple):
    """One journey as the log had it at one moment."""

    members: set[str]
    """Empty when the id names no journey: another one has just taken it over."""
    revision: int
    rewritten_revision: int
    history: History | None = None


class Fold(NamedTuple):
    """What the events of a journey came to as of a snapshot."""

    journey_id: str
    snapshot: Snapshot
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
        """Takes up what is stale now and no other loop is at, at most twice ROUND_JOURNEYS a version; returns
        how many that were."""
        found = 0
        async with self._pool.acquire() as connection:
            for version in await self._fed.load(connection):
                stale = await connection.fetch(
                    STALE.format(schema=version.schema),
                    *(ROUND_JOURNEYS, version.reference_revision, version.number),
                )
                metrics.STALE_JOURNEYS.labels(version.schema).set(len(stale))
                for group in groups((row["journey_id"], row["events"]) for row in stale):
                    began = time.monotonic()
                    found += await self._take_up(connection, version, group)
                    if len(group) == 1 and (taken := time.monotonic() - began) > LONG_SECONDS:
                        await asyncio.sleep(taken)
        return found

    async def _take_up(self, connection: Connection, version: Version, journeys: Sequence[str]) -> int:
        """Folds those journeys that no other loop is at; returns how many these were."""
        space = (JOURNEYS, str(version.number))
        locked = [row["id"] for row in await connection.fetch(LOCK, *space, journeys)]
        try:
            if locked:
                await self._refold(connection, version, locked)
        finally:
            if not connection.is_closed():
                await connection.execute(UNLOCK, *space, locked)
        return len(locked)

    async def _refold(self, connection: Connection, version: Version, stale: Sequence[str]) -> None:
        journeys = [row["journey_id"] for row in await connection.fetch(HEIRS, stale)]
        snapshots = await self._read(connection, journeys)
        folds = [await self._fold(connection, version, id, snapshots[id]) for id in journeys]
        await self._store(connection, version, [fold for fold in folds if fold])

    async def _fold(
        self, connection: Connection, version: Version, journey_id: str, snapshot: Snapshot
    ) -> Fold | None:
        """Folds one journey; None = it was parked, or is none any more."""
        if snapshot.history is None:
            return None
        try:
            state = await fold_in_slices(snapshot.history, version)
            if len(snapshot.history.events) > LONG_JOURNEY_EVENTS:
                snapshot = await self._catch_up(connection, version, snapshot, state)
            return Fold(journey_id, snapshot, state, shown(state, snapshot, version))
        except (asyncpg.PostgresError, *PASSING):
            raise
        except Exception as error:  # whatever a defect of the fold raises, other journeys go on
            await self._park(connection, version, journey_id, snapshot, error)
            return None

    async def _catch_up(
        self, connection: Connection, version: Version, snapshot: Snapshot, state: JourneyState
    ) -> Snapshot:
        """Continues a fold by the events that came meanwhile; returns the snapshot that the state is of."""
        known = events_of(snapshot)
        for _ in range(CATCH_UPS):
            later = (await self._read(connection, [state.journey_id], known))[state.journey_id]
            found = events_of(later)
            newer = [event for id, event in found.items() if id not in known]
            if not continues(snapshot, later) or not follows(state, newer):
                return snapshot
            for event in newer:
                journey.step(state, event, version.rules)
            if later.revision == snapshot.revision:
                return later
            snapshot, known = later, found
        return snapshot

    async def _store(self, connection: Connection, version: Version, folds: Sequence[Fold]) -> None:
        """Writes folds; data that Postgres refuses parks the one journey it belongs to."""
        try:
            await store_folds(connection, self._fed, version, folds)
        except UNWRITABLE as error:
            if len(folds) == 1:
                await self._park(connection, version, folds[0].journey_id, folds[0].snapshot, error)
                return
            for each in folds:
                await self._store(connection, version, [each])

    async def _park(
        self,
        connection: Connection,
        version: Version,
        journey_id: str,
        snapshot: Snapshot,
        error: Exception,
    ) -> None:
        """Parks a journey unless it has changed meanwhile: then it is stale, and its fold may not raise."""
        async with connection.transaction():
            await share_feeding(connection)
            now = snapshots([journey_id], await connection.fetch(MEMBERS + "for update", [journey_id]))
            if now[journey_id].revision == snapshot.revision:
                left = await left_over(connection, version, {journey_id: snapshot.members})
                await park(connection, version, [journey_id, *left], error)

    async def _read(
        self,
        connection: Connection,
        journeys: Sequence[str],
        at_hand: Mapping[str, Envelope] = MappingProxyType({}),
    ) -> dict[str, Snapshot]:
        """All of the journeys as they are at one moment."""
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = snapshots(journeys, await connection.fetch(MEMBERS, journeys))
            members = {id: sorted(each.members) for id, each in found.items() if each.members}
            histories = await read_histories(connection, members, self._decoding, at_hand)
        return found | {each.journey_id: found[each.journey_id]._replace(history=each) for each in histories}


def groups(stale: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Journeys, given with the number of their events, to be taken up together; a long one alone."""
    group: list[str] = []
    events = 0
    for journey_id, size in stale:
        if group and (len(group) == GROUP_JOURNEYS or events + size > LONG_JOURNEY_EVENTS):
            yield group
            group, events = [], 0
        group.append(journey_id)
        events += size
    if group:
        yield group


def snapshots(journeys: Iterable[str], members: Iterable[asyncpg.Record]) -> dict[str, Snapshot]:
    """The journeys by their members, without histories."""
    rows: dict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in members:
        rows[row["journey_id"]].append(row)
    found = dict.fromkeys(journeys, Snapshot(set(), 0, 0))
    for id, some in rows.items():
        root = next(row for row in some if row["subject_id"] == id)
        ids = {row["subject_id"] for row in some}
        found[id] = Snapshot(ids, root["revision"], root["rewritten_revision"])
    return found


def continues(before: Snapshot, after: Snapshot) -> bool:
    """Whether nothing but new events came to a journey between two snapshots."""
    return after.members == before.members and after.rewritten_revision <= before.revision


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
    await asyncio.sleep(0)
    return state


async def store_folds(connection: Connection, fed: Fed, version: Version, folds: Sequence[Fold]) -> None:
    """Writes folds unless the log or the rules have moved in a way that makes them wrong.

    Newer events only leave a journey behind: it is written, and stays stale. A change of members or of what
    was said before throws its fold away, and so does a batch that has folded it since. What is concluded is
    up to the version as it is now: another may have been promoted.
    """
    async with connection.transaction():
        await share_feeding(connection)
        await connection.execute("select from log.reference_revision for share")
        today = next((each for each in await fed.load(connection) if each.number == version.number), None)
        if today is None or today.rules is not version.rules:
            return
        ids = [each.journey_id for each in folds]
        now = snapshots(ids, await connection.fetch(MEMBERS + "for update", ids))
        revisions = [each.snapshot.revision for each in folds]
        newer = await connection.fetch(OVERTAKEN.format(schema=version.schema), ids, revisions)
        overtaken = {row["journey_id"] for row in newer}
        kept = [
            each
            for each in folds
            if each.journey_id not in overtaken and continues(each.snapshot, now[each.journey_id])
        ]
        await _write(connection, today, kept)
        behind = [each.journey_id for each in kept if now[each.journey_id].revision != each.snapshot.revision]
        await connection.execute(
            f"update {version.schema}.journey set is_stale = true where journey_id = any($1)", behind
        )


async def _write(connection: Connection, version: Version, folds: Sequence[Fold]) -> None:
    """Replaces what is stored of the journeys, and draws the conclusions."""
    if not folds:
        return
    heirs = await left_over(connection, version, {each.journey_id: each.snapshot.members for each in folds})
    folded = [each.journey_id for each in folds]
    stored = by_journey(await read_rows(connection, version, [*folded, *heirs], journey.TABLES))
    changes = []
    for id, snapshot, state, rows in folds:
        absorbed = [part for part, heir in heirs.items() if heir == id]
        before = together(stored[part] for part in (id, *absorbed))
        changes.append(Change(id, snapshot.revision, before, rows, state, absorbed=absorbed))
    await write_all(connection, version, changes)
    await unpark(connection, version, folded)
    await draw(connection, version, [(each.before, each.after) for each in changes])
    metrics.REFOLDS.labels(version.schema).inc(len(changes))
