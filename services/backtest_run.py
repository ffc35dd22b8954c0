"""Reads all history for a backtest, as of one moment, on every core.

Promises: nothing is written that anyone else reads; each process holds some journeys at a time, whatever the
size of the log, and a few numbers for each deal. Leaves what is counted to `services.backtest`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import NamedTuple

from projections.business_time import zone_rules
from projections.definition import Definition
from services.backtest import CANDIDATE, PRESENT, Changed, Tally, Trial
from services.projector.decoding import Decoding
from services.projector.histories import read_histories
from services.registry import Registry
from services.settings import Addresses
from services.store.pool import Connection, session
from services.store.timeline import TimelineEntry, calendar_facts, rules_of
from services.store.versions import promoted_version

PARTS = 32
"""Parts of the history at most: enough to keep all cores busy to the end, and to show how far it is."""
JOURNEYS_AT_ONCE = 500
"""Journeys read together: some megabytes. Less is no part of its own: a process takes a second to start."""

SUBJECTS = "select count(*) from log.subject"

JOURNEYS = """
select journey_id, array_agg(subject_id order by subject_id) as members from log.subject
where abs(hashtext(journey_id) % $1) = $2
group by journey_id
"""

COUNTED_ELSEWHERE = "select journey_id, opportunity_id from bi.opportunity where not is_counted"


class Task(NamedTuple):
    """A part of the history, to be read by a process of its own. `zone` says when days and months begin."""

    addresses: Addresses
    snapshot: str
    candidate: str
    zone: str
    part: int
    parts: int


class Part(NamedTuple):
    """What a part came to."""

    tally: Tally
    changed: list[Changed]


class Backtested(NamedTuple):
    """The counts, and what they were made with."""

    present: str
    """Name of the present definitions."""
    in_force: Definition
    zone: str
    tally: Tally


async def backtest(
    addresses: Addresses,
    candidate: Definition,
    jobs: int,
    done: Callable[[float, list[Changed]], None],
) -> Backtested:
    """Counts all history under the candidate beside the promoted definitions, in `jobs` processes.

    `done` is told the share that is done, and the journeys of each part that change. Raises NothingPromoted.
    """
    tally = Tally()
    async with _snapshot(addresses) as (connection, snapshot):
        promoted = await promoted_version(connection)
        in_force = promoted.in_force(time.time_ns() // 1000)
        zone = in_force.calendars[in_force.calendar].zone
        parts = min(1 + await connection.fetchval(SUBJECTS) // JOURNEYS_AT_ONCE, PARTS)
        tasks = [Task(addresses, snapshot, candidate.text, zone, part, parts) for part in range(parts)]
        number = 0
        async for part in _parts(tasks, min(jobs, parts)):
            number += 1
            tally.add(part.tally)
            done(number / parts, part.changed)
    return Backtested(promoted.label, in_force, zone, tally)


async def _parts(tasks: list[Task], jobs: int) -> AsyncIterator[Part]:
    """The parts as they are done; by this process alone if there is one job."""
    if jobs == 1:
        for task in tasks:
            yield await _run_part(task)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_part, task) for task in tasks}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def run_part(task: Task) -> Part:
    """A part, in a process of its own."""
    return asyncio.run(_run_part(task))


async def _run_part(task: Task) -> Part:
    tally, changed = Tally(), list[Changed]()
    async with _at(task) as connection, Registry(task.addresses.registry_url) as registry:
        decoding, trial = Decoding(registry), await _trial(connection, task)
        async for members in _journeys(connection, task):
            for history in await read_histories(connection, members, decoding):
                if found := trial.count(history, tally):
                    changed.append(found)
    return Part(tally, changed)


async def _trial(connection: Connection, task: Task) -> Trial:
    promoted = await promoted_version(connection)
    calendars = await calendar_facts(connection)
    rules = {
        PRESENT: rules_of(promoted.timeline, calendars),
        CANDIDATE: rules_of([TimelineEntry(None, task.candidate)], calendars),
    }
    elsewhere = await connection.fetch(COUNTED_ELSEWHERE)
    uncounted = frozenset((row["journey_id"], row["opportunity_id"]) for row in elsewhere)
    return Trial(rules, zone_rules(task.zone), uncounted)


async def _journeys(connection: Connection, task: Task) -> AsyncIterator[dict[str, list[str]]]:
    """The journeys of a part with their subjects, JOURNEYS_AT_ONCE at a time."""
    cursor = await connection.cursor(JOURNEYS, task.parts, task.part)
    while rows := await cursor.fetch(JOURNEYS_AT_ONCE):
        yield {row["journey_id"]: row["members"] for row in rows}


@asynccontextmanager
async def _snapshot(addresses: Addresses) -> AsyncIterator[tuple[Connection, str]]:
    """A moment of the database that other sessions can read as well, while this lasts."""
    async with (
        session(addresses.postgres_dsn) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection, await connection.fetchval("select pg_export_snapshot()")


@asynccontextmanager
async def _at(task: Task) -> AsyncIterator[Connection]:
    """A session at that moment."""
    async with (
        session(task.addresses.postgres_dsn) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(f"set transaction snapshot '{task.snapshot}'")
        yield connection
