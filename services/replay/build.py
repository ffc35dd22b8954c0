"""Builds a version from the topics, beside everything else.

Promises: the version holds what the topics say up to the positions stored at its beginning; a kill at any
moment costs at most the units at work; memory of a process is bounded by its unit. Nothing that BI reads is
touched. Leaves newer records to `catch_up`.
"""

import asyncio
import gc
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process

from schemas.topics import IDENTITY
from services import settings
from services.replay import folding, ids, reading
from services.replay.job import Done, Job, Progress, Report, Stopwatch, Task
from services.replay.runs import (
    Candidate,
    begin,
    finish_unit,
    forget_units,
    only_builder,
    plan_units,
    read_positions,
    unfinished,
)
from services.replay.tables import BUILT, add_indexes, add_key
from services.replay.topics import units_of
from services.settings import Addresses
from services.store.pool import Connection, connect

NICENESS = 10
"""Of a build's processes, so that live processing goes first."""


async def index(job: Job, task: Task) -> Done:
    """Makes the key of one table, and its statistics."""
    stopwatch = Stopwatch()
    connection = await connect(job.addresses.postgres_dsn)
    try:
        await add_key(connection, job.schema, BUILT[task.number])
    finally:
        await connection.close()
    return stopwatch.done(0)


UNITS: dict[str, Callable[[Job, Task], Awaitable[Done]]] = {
    "route": reading.route,
    "read": reading.read,
    "ids": ids.find_ids,
    "settle": ids.settle,
    "fold": folding.fold,
    "index": index,
}
"""Phase to what a unit of it does, in order."""
ON_DISK = ("route", "read", "ids", "settle")
"""Phases that leave files."""


async def build(
    addresses: Addresses, candidate: Candidate, report: Report, *, processes: int, niceness: int = NICENESS
) -> int:
    """Builds the candidate, or what is left of it; returns the version's number.

    Raises Busy, OffsetGap, Stalled, and what the servers raise when they are away.
    """
    async with only_builder(addresses.postgres_dsn) as connection:
        job = await begin(connection, addresses, candidate)
        if not job.folder.exists():
            await forget_units(connection, job.version_no, ON_DISK)
            job.folder.mkdir(parents=True)
        with ProcessPoolExecutor(
            processes, get_context("spawn"), initializer=_start_worker, initargs=(niceness,)
        ) as pool:
            await _phases(connection, job, pool, report)
        await add_indexes(connection, job.schema)
        await _finish(connection, job)
        shutil.rmtree(job.folder)
    return job.version_no


async def _phases(connection: Connection, job: Job, pool: ProcessPoolExecutor, report: Report) -> None:
    ends = await read_positions(connection, job.version_no)
    size = settings.REPLAY_UNIT_RECORDS
    of_identity = {place: end for place, end in ends.items() if place[0] == IDENTITY}
    routes = units_of(of_identity, size)
    tasks = {
        "route": [Task("route", number, tuple(unit)) for number, unit in enumerate(routes)],
        "read": [Task("read", number, tuple(unit)) for number, unit in enumerate(units_of(ends, size))],
        "ids": [Task("ids", number) for number in range(job.id_buckets)],
        "settle": [Task("settle", 0)],
        "fold": [Task("fold", number) for number in range(job.buckets)],
        "index": [Task("index", number) for number in range(len(BUILT))],
    }
    for phase, units in tasks.items():
        await plan_units(connection, job.version_no, units)
        await _run(connection, job, pool, await unfinished(connection, job.version_no, phase), report)
        if phase == "route" and not (job.folder / reading.ROUTING).exists():
            reading.write_routing(job, len(routes))


async def _run(
    connection: Connection, job: Job, pool: ProcessPoolExecutor, tasks: Sequence[Task], report: Report
) -> None:
    """Does the units of a phase in parallel; each is marked as soon as it is done."""
    began, records = time.monotonic(), 0
    loop = asyncio.get_running_loop()
    working = [asyncio.ensure_future(_one(loop, pool, job, task)) for task in tasks]
    try:
        for finished, next_done in enumerate(asyncio.as_completed(working), 1):
            task, done = await next_done
            await finish_unit(connection, job.version_no, task, done)
            records += done.records
            seconds = time.monotonic() - began
            left = seconds / finished * (len(tasks) - finished)
            report(Progress(task.phase, finished, len(tasks), records, records / seconds, left))
    finally:
        for each in working:
            each.cancel()


async def _one(
    loop: asyncio.AbstractEventLoop, pool: ProcessPoolExecutor, job: Job, task: Task
) -> tuple[Task, Done]:
    return task, await loop.run_in_executor(pool, work, job, task)


async def _finish(connection: Connection, job: Job) -> None:
    async with connection.transaction():
        await connection.execute(
            "update ops.version set status = 'built' where version_no = $1", job.version_no
        )
        await connection.execute(
            "update ops.replay set built_at = now() where version_no = $1", job.version_no
        )


def work(job: Job, task: Task) -> Done:
    """A unit, in a process of the pool."""
    try:
        return asyncio.run(UNITS[task.phase](job, task))  # type: ignore[arg-type]
    finally:
        gc.collect()


def _start_worker(niceness: int) -> None:
    """A unit makes millions of objects that live as long as it: looking for cycles among them is wasted.

    A worker ends with the build, also when that is killed.
    """
    gc.disable()
    os.nice(niceness)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
