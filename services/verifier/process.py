"""The verifier as a process.

Promises: a verification begins `VERIFY_HOURS` after the last one has finished, by whomever it was run; before
the first, after the first version was made. Since that is kept in Postgres, a restart neither repeats nor
forgets one; one that was interrupted goes on where it was. Of several verifiers one works, the others stand
by. It takes one process at low priority, and gives way to whoever wants to build, compare or retire a
version. A server that is away is waited for. Leaves alarms to Prometheus.
"""

import asyncio
from typing import NamedTuple

import structlog
from aiokafka.errors import KafkaError

from services import settings
from services.daemon import together
from services.projector.delivery import OffsetGap
from services.registry import RegistryAway
from services.replay.job import Progress
from services.replay.runs import Busy, is_wanted
from services.replay.topics import Stalled
from services.replay.verify import Verdict, last, verify
from services.replay.versions import Refused
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.locks import VERIFIER, lead
from services.store.pool import Connection, connect
from services.verifier import metrics

LOOK_SECONDS = 5.0
"""Pause between looks whether it is time, and between updates of the metrics."""
GIVE_WAY_SECONDS = 0.5
"""Somebody who waits for the verification is noticed within."""
AGAIN_SECONDS = 60.0
"""Pause before a verification that could not be finished is tried again."""
EFFORT = Effort(processes=1)

POSTPONED = (Busy, Refused, RegistryAway, Stalled, KafkaError, OffsetGap)
"""What ends a verification without an outcome."""

STANDING = """
select extract(epoch from since)::float as since,
  is_promoted and since + $1 * interval '1 hour' <= now() as is_due
from (
  select coalesce(max(finished_at), (select min(created_at) from ops.version), now()) as since,
    exists (select from ops.version where status = 'promoted') as is_promoted
  from ops.verification
) as counted
"""

log = structlog.get_logger()


class Standing(NamedTuple):
    """From when on the time to the next verification counts, in Unix seconds, and whether it has come."""

    since: float
    is_due: bool


async def run(addresses: Addresses) -> None:
    """Verifies until cancelled. Raises what `store.pool.PASSING` names when Postgres is away."""
    metrics.INTERVAL.set(settings.VERIFY_HOURS * 3600)
    await together(_tell(addresses.postgres_dsn), _work(addresses))


async def _tell(dsn: str) -> None:
    """Keeps the metrics up; they are the same whoever verified."""
    connection = await connect(dsn)
    try:
        while True:
            metrics.FINISHED.set((await standing(connection)).since)
            outcome = await last(connection)
            if outcome is not None:
                metrics.SECONDS.set(outcome.seconds)
                metrics.DIFFERING.labels("row").set(outcome.verdict.rows_differing)
                metrics.DIFFERING.labels("state").set(outcome.verdict.states_differing)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        connection.terminate()


async def _work(addresses: Addresses) -> None:
    connection = await connect(addresses.postgres_dsn)
    try:
        await lead(connection, VERIFIER)
        while True:
            done = not (await standing(connection)).is_due or await _verified(connection, addresses)
            await asyncio.sleep(LOOK_SECONDS if done else AGAIN_SECONDS)
    finally:
        connection.terminate()


async def standing(connection: Connection) -> Standing:
    """How it stands with the next verification."""
    row = await connection.fetchrow(STANDING, settings.VERIFY_HOURS)
    assert row is not None
    return Standing(*row)


async def _verified(connection: Connection, addresses: Addresses) -> bool:
    """One verification; whether it was finished."""
    log.info("verification_begins")
    work = asyncio.create_task(verify(addresses, _say, EFFORT))
    try:
        with metrics.RUNS.track_inprogress():
            verdict = await _giving_way(connection, work)
    except POSTPONED as error:
        log.warning("verification_postponed", reason=str(error), seconds=AGAIN_SECONDS)
        return False
    say = log.info if verdict.is_equal else log.error
    say("verified", journeys=verdict.journeys, rows=verdict.rows_differing, states=verdict.states_differing)
    return True


async def _giving_way(connection: Connection, work: asyncio.Task[Verdict]) -> Verdict:
    """Waits for the verification. Raises Busy as soon as somebody waits for it to make room."""
    try:
        while not (await asyncio.wait({work}, timeout=GIVE_WAY_SECONDS))[0]:
            if await is_wanted(connection):
                raise Busy("gave way to another command")
        return work.result()
    finally:
        work.cancel()
        await asyncio.wait({work})


def _say(progress: Progress) -> None:
    log.debug("progress", phase=progress.phase, finished=progress.finished, units=progress.units)
