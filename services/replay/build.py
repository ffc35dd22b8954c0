"""Builds a version from the topics, beside everything else.

Promises: the version holds what the topics say up to the positions stored at its beginning; a kill at any
moment costs at most the units at work; memory of a process is bounded by its unit. Nothing that BI reads is
touched. Leaves newer records to `catch_up`.
"""

import shutil

from schemas.topics import IDENTITY, Offsets
from services import settings
from services.projector.redaction import forget_erased
from services.replay import folding, ids, reading
from services.replay.job import Done, Job, Report, Stopwatch, Task
from services.replay.runs import Candidate, begin, forget_units, only_builder, read_ends
from services.replay.tables import BUILT, add_indexes, add_key
from services.replay.topics import units_of
from services.replay.versions import forget_verifications
from services.replay.workers import Effort, Workers
from services.settings import Addresses
from services.store.locks import stop_feeding
from services.store.pool import Connection, session

ON_DISK = ("route", "read", "ids", "settle")
"""Phases that leave files."""


async def build(addresses: Addresses, candidate: Candidate, report: Report, effort: Effort) -> int:
    """Builds the candidate, or what is left of it; returns the version's number.

    Raises Busy, OffsetGap, Stalled, and what the servers raise when they are away.
    """
    async with only_builder(addresses.postgres_dsn) as connection:
        await forget_verifications(connection, but=candidate)
        job = await begin(connection, addresses, candidate)
        if not job.folder.exists():
            await forget_units(connection, job.version_no, ON_DISK)
            job.folder.mkdir(mode=0o700, parents=True)  # records as they came lie in it
        with Workers(connection, report, effort) as workers:
            await _phases(workers, job, await read_ends(connection, job.version_no))
        await add_indexes(connection, job.schema)
        await _finish(connection, job)
        shutil.rmtree(job.folder)
    return job.version_no


async def _phases(workers: Workers, job: Job, ends: Offsets) -> None:
    size = settings.REPLAY_UNIT_RECORDS
    routes = units_of({place: end for place, end in ends.items() if place[0] == IDENTITY}, size)
    route = [Task("route", number, tuple(unit)) for number, unit in enumerate(routes)]
    await workers.run(reading.route, job, route)
    reading.write_routing(job, len(route))
    read = [Task("read", number, tuple(unit)) for number, unit in enumerate(units_of(ends, size))]
    await workers.run(reading.read, job, read)
    find = [Task("ids", number) for number in range(job.id_buckets)]
    await workers.run(ids.find_ids, job, find)
    await workers.run(ids.settle, job, [Task("settle", 0)])
    fold = [Task("fold", number) for number in range(job.buckets)]
    await workers.run(folding.fold, job, fold)
    index = [Task("index", number) for number in range(len(BUILT))]
    await workers.run(make_key, job, index)


async def make_key(job: Job, task: Task) -> Done:
    """Makes the key of one table, and its statistics."""
    stopwatch = Stopwatch()
    async with session(job.addresses.postgres_dsn) as connection:
        await add_key(connection, job.schema, BUILT[task.number])
    return stopwatch.done(0)


async def _finish(connection: Connection, job: Job) -> None:
    """From here on an erasure finds the version; of those before it this forgets what was believed then, or
    what only another definition calls personal."""
    known = await forget_erased(connection, job.schema)  # before the lock that keeps everybody from feeding
    async with connection.transaction():
        await stop_feeding(connection)
        await forget_erased(connection, job.schema, known)
        for change in ("ops.version set status = 'built'", "ops.replay set built_at = now()"):
            await connection.execute(f"update {change} where version_no = $1", job.version_no)
