"""Builds and their work units as rows, so that a killed one goes on where it was.

Promises: a unit is either finished or will be done again; two builds never run at once. Leaves what a unit
does to the phases.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec
from asyncpg import Record as Row

from schemas.records import Micros
from schemas.topics import Offsets
from services import settings
from services.replay.job import Done, Job, Task
from services.replay.tables import bare_tables
from services.replay.topics import Range
from services.settings import Addresses
from services.store.locks import BUILD, BUILD_WANTED
from services.store.pool import Connection, session
from services.store.positions import read_positions
from services.store.timeline import TimelineEntry, parse_timeline
from services.store.versions import code_version, make_version

GONE_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 0.1

TRY_LOCK = "select pg_try_advisory_lock($1)"

UNFINISHED = """
select version_no, schema_name, label, code_version, timeline::text, is_trial, as_known_at, is_verification
from ops.version join ops.replay using (version_no)
where status = 'building'
"""

INSERT_REPLAY = """
insert into ops.replay (version_no, reference_revision, positions, buckets, id_buckets)
values ($1, $2, $3, $4, $5)
"""

PLAN_UNIT = """
insert into ops.replay_unit (version_no, phase, unit_no, detail) values ($1, $2, $3, $4)
on conflict do nothing
"""

FINISH_UNIT = """
update ops.replay_unit set records = $4, seconds = $5, peak_bytes = $6, finished_at = now()
where version_no = $1 and phase = $2 and unit_no = $3
"""

LOCK_UNIT = """
select finished_at is null from ops.replay_unit where version_no = $1 and phase = $2 and unit_no = $3
for update
"""


class Candidate(NamedTuple):
    """What a version is to be built from."""

    timeline: Sequence[TimelineEntry]
    is_trial: bool = False
    as_known_at: Micros | None = None
    is_verification: bool = False


class Busy(RuntimeError):
    """Another build is running, or an unfinished one is in the way."""


@asynccontextmanager
async def only_builder(dsn: str) -> AsyncIterator[Connection]:
    """A connection, for as long as nobody else builds. Raises Busy."""
    async with session(dsn) as connection:
        await _lock(connection)
        yield connection


async def _lock(connection: Connection) -> None:
    """The session of one who was just killed may live a moment longer, and so may one that gives way."""
    if await connection.fetchval(TRY_LOCK, BUILD):
        return
    await connection.execute("select pg_advisory_lock_shared($1)", BUILD_WANTED)
    deadline = time.monotonic() + GONE_SECONDS
    while not await connection.fetchval(TRY_LOCK, BUILD):
        if time.monotonic() > deadline:
            raise Busy("another replay is being built: `leadlog replay status` shows it")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    await connection.execute("select pg_advisory_unlock_shared($1)", BUILD_WANTED)


async def is_wanted(connection: Connection) -> bool:
    """Whether anybody waits for the one who builds."""
    return not await connection.fetchval("select pg_try_advisory_xact_lock($1)", BUILD_WANTED)


async def begin(connection: Connection, addresses: Addresses, candidate: Candidate) -> Job:
    """Takes up the unfinished build of the candidate, or begins one at the positions stored now. Raises Busy.

    Positions, revisions and the tables belong to one snapshot.
    """
    row = await connection.fetchrow(UNFINISHED)
    if row is None:
        async with connection.transaction(isolation="repeatable_read"):
            number = await _create(connection, candidate)
    else:
        number = row["version_no"]
        _check(row, candidate)
    return await read_job(connection, addresses, number)


async def _create(connection: Connection, candidate: Candidate) -> int:
    number = await make_version(connection, candidate.timeline, bare_tables())
    await connection.execute(
        "update ops.version set is_trial = $2, as_known_at = $3, is_verification = $4 where version_no = $1",
        *(number, candidate.is_trial, candidate.as_known_at, candidate.is_verification),
    )
    positions = await read_positions(connection)
    records = sum(positions.values())
    await connection.execute(
        INSERT_REPLAY,
        number,
        await connection.fetchval("select revision from log.reference_revision"),
        msgspec.json.encode([(*place, end) for place, end in sorted(positions.items())]).decode(),
        1 + records // settings.REPLAY_BUCKET_RECORDS,
        1 + records // settings.REPLAY_ID_RECORDS,
    )
    return number


def _check(row: Row, candidate: Candidate) -> None:
    version = f"version {row['version_no']} ({row['label']})"
    way_out = f"`leadlog replay retire {row['version_no']}` throws it away"
    if row["code_version"] != code_version():
        raise Busy(f"{version} was begun by other code and cannot be finished by this: {way_out}")
    timeline = parse_timeline(row["timeline"])
    if Candidate(timeline, row["is_trial"], row["as_known_at"], row["is_verification"]) != candidate:
        raise Busy(f"{version} is half built and from another definition: {way_out}")


async def read_job(connection: Connection, addresses: Addresses, number: int) -> Job:
    """The build of a version, as it was begun."""
    row = await connection.fetchrow(
        "select *, timeline::text as entries from ops.replay join ops.version using (version_no) "
        "where version_no = $1",
        number,
    )
    assert row is not None
    return Job(
        addresses=addresses,
        folder=settings.state_folder() / "replay" / row["schema_name"],
        version_no=number,
        schema=row["schema_name"],
        timeline=parse_timeline(row["entries"]),
        reference_revision=row["reference_revision"],
        buckets=row["buckets"],
        id_buckets=row["id_buckets"],
        as_known_at=row["as_known_at"],
    )


async def read_ends(connection: Connection, number: int) -> Offsets:
    """The offsets up to which a version is built."""
    text = await connection.fetchval("select positions::text from ops.replay where version_no = $1", number)
    return {
        (topic, partition): offset
        for topic, partition, offset in msgspec.json.decode(text, type=list[tuple[str, int, int]])
    }


async def plan_units(connection: Connection, number: int, tasks: Sequence[Task]) -> None:
    """Notes the units of a phase."""
    await connection.executemany(
        PLAN_UNIT,
        [(number, each.phase, each.number, msgspec.json.encode(each.ranges).decode()) for each in tasks],
    )


async def unfinished(connection: Connection, number: int, phase: str) -> list[Task]:
    """The units of a phase that are still to be done."""
    rows = await connection.fetch(
        "select unit_no, detail::text from ops.replay_unit "
        "where version_no = $1 and phase = $2 and finished_at is null order by unit_no",
        *(number, phase),
    )
    return [
        Task(phase, row["unit_no"], tuple(msgspec.json.decode(row["detail"], type=list[Range])))
        for row in rows
    ]


async def lock_unit(connection: Connection, number: int, task: Task) -> bool:
    """Locks a unit in the caller's transaction; false when somebody has finished it meanwhile."""
    return bool(await connection.fetchval(LOCK_UNIT, number, task.phase, task.number))


async def finish_unit(connection: Connection, number: int, task: Task, done: Done) -> None:
    """Marks a unit as finished."""
    await connection.execute(FINISH_UNIT, number, task.phase, task.number, *done)


async def forget_units(connection: Connection, number: int, phases: Sequence[str]) -> None:
    """Lets units be done again: what they left is gone."""
    await connection.execute(
        "update ops.replay_unit set finished_at = null where version_no = $1 and phase = any($2)",
        *(number, list(phases)),
    )
