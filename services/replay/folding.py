"""One bucket: decoded, folded, and copied into the new version's tables, in one transaction.

Promises: rows, states and revisions as the live path writes them, so that it can go on from them; a fold that
raises parks its journey; data that Postgres refuses parks the one journey it belongs to. Leaves keys and
indexes to `tables`.
"""

import traceback
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from projections import journey
from projections.history import History
from projections.journey import Rows
from projections.rules import Rules
from services.projector.fold import PARK
from services.replay.bodies import decoded
from services.replay.histories import histories
from services.replay.ids import FACTS, settled_file
from services.replay.job import Done, Facts, Job, Settled, Stopwatch, Task
from services.replay.runs import finish_unit, lock_unit
from services.store.pool import DATA_ERRORS, Connection, copy_in, session
from services.store.versions import JOURNEY

REVISIONS = "select subject_id, revision from {schema}.revision where subject_id = any($1)"


class Folded(NamedTuple):
    """A journey to be written."""

    journey_id: str
    events: int
    state: bytes
    rows: Rows


class Parked(NamedTuple):
    """A journey that could not be folded, or not be written."""

    journey_id: str
    error: str
    detail: str


async def fold(job: Job, task: Task) -> Done:
    """Folds a bucket and marks the unit as finished."""
    stopwatch = Stopwatch()
    events = await decoded(job, task.number)
    settled = msgspec.msgpack.decode(settled_file(job, task.number).read_bytes(), type=Settled)
    facts = msgspec.msgpack.decode((job.folder / FACTS).read_bytes(), type=Facts)
    folded, parked = fold_all(histories(events, settled, facts.personal), facts.rules(job.timeline))
    async with session(job.addresses.postgres_dsn) as connection:
        async with connection.transaction():
            if await lock_unit(connection, job.version_no, task):
                parked += await _copy(connection, job, folded)
                await _park(connection, job, parked)
                done = stopwatch.done(len(events))
                await finish_unit(connection, job.version_no, task, done)
        return stopwatch.done(len(events))


def fold_all(found: Iterable[History], rules: Rules) -> tuple[list[Folded], list[Parked]]:
    """Folds histories; what raises is parked."""
    folded: list[Folded] = []
    parked: list[Parked] = []
    for history in found:
        try:
            state = journey.fold(history, rules)
            rows = journey.rows(state, rules)
            rows |= journey.event_rows(history.journey_id, history.events, rules)
            folded.append(Folded(history.journey_id, state.event_count, journey.pack(state), rows))
        except Exception as error:  # whatever a defect of the fold raises, other journeys go on
            parked.append(_parked(history.journey_id, error))
    return folded, parked


def _parked(journey_id: str, error: Exception) -> Parked:
    return Parked(journey_id, repr(error), "".join(traceback.format_exception(error)))


async def _copy(connection: Connection, job: Job, folded: Sequence[Folded]) -> list[Parked]:
    """Writes journeys; returns those whose data Postgres refuses."""
    if not folded:
        return []
    try:
        async with connection.transaction():
            await _copy_all(connection, job, folded)
        return []
    except DATA_ERRORS as error:
        if len(folded) == 1:
            return [_parked(folded[0].journey_id, error)]
        middle = len(folded) // 2
        return await _copy(connection, job, folded[:middle]) + await _copy(connection, job, folded[middle:])


async def _copy_all(connection: Connection, job: Job, folded: Sequence[Folded]) -> None:
    found = await connection.fetch(REVISIONS.format(schema=job.schema), [each.journey_id for each in folded])
    revisions = {row["subject_id"]: row["revision"] for row in found}
    reference = job.reference_revision
    states = [
        (each.journey_id, revisions.get(each.journey_id, 0), reference, each.events, False, each.state)
        for each in folded
    ]
    await _copy_rows(connection, job, JOURNEY.name, JOURNEY.columns, states)
    rows: Rows = defaultdict(list)
    for each in folded:
        for name, some in each.rows.items():
            rows[name] += some
    for table in journey.TABLES:
        await _copy_rows(connection, job, table.name, table.columns, rows[table.name])


async def _copy_rows(
    connection: Connection, job: Job, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    if rows:
        await copy_in(connection, job.schema, table, columns, rows)


async def _park(connection: Connection, job: Job, parked: Collection[Parked]) -> None:
    await connection.executemany(
        PARK, [(job.version_no, [each.journey_id], each.error, each.detail) for each in parked]
    )
