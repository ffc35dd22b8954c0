"""Brings a built version up to the log and lets the projector feed it from then on.

Promises: after `catch_up` the version is fed and nothing of it is stale; parked journeys were tried again.
The live path is kept out for one short transaction, in which the version joins. Leaves folding to the one
refold loop.
"""

import asyncio
import time

from services.projector.decoding import Decoding
from services.projector.refold import IDLE_SECONDS, Refold
from services.registry import Registry
from services.replay.job import Progress, Report
from services.replay.versions import INCOMPLETE, Found, Refused, find
from services.settings import Addresses
from services.store.feeding import Fed
from services.store.locks import stop_feeding
from services.store.pool import Connection, create_pool, session
from services.store.versions import adopt_facts, code_version, count_stale

FEW_JOURNEYS = 500
"""So many may be behind when the version joins: the refold loop needs a few seconds for them."""
ROUNDS = 10
"""After so many tries to get down to a few the version joins all the same: there is much coming in."""

MARK_BEHIND = """
insert into {schema}.journey (journey_id, revision, reference_revision, events, is_stale)
select subject.subject_id, 0, 0, 0, true
from log.subject
left join {schema}.journey as folded on folded.journey_id = subject.subject_id
where subject.subject_id = subject.journey_id
  and folded.revision is distinct from subject.revision
  and not exists (
    select from ops.parked where parked.version_no = $1 and parked.journey_id = subject.subject_id
  )
on conflict (journey_id) do update set is_stale = true
"""

MARK_GONE = """
update {schema}.journey set is_stale = true
where not is_stale and not exists (
  select from log.subject
  where subject.subject_id = journey.journey_id and subject.journey_id = journey.journey_id
)
"""


async def catch_up(addresses: Addresses, number: int, report: Report) -> None:
    """Catches up and joins. Raises Refused for a version that cannot be fed."""
    dsn = addresses.postgres_dsn
    async with session(dsn) as connection, Registry(addresses.registry_url) as registry:
        version = await find(connection, number)
        _check(version)
        pool = await create_pool(dsn, size=1)
        try:
            refold = Refold(pool, Fed(version.number), Decoding(registry))
            if version.status == "built":
                await _approach(connection, version, refold, report)
                await _join(connection, version)
            await connection.execute(f"drop table if exists {version.schema}.revision", timeout=None)
            await _refold(connection, version, refold, report)
        finally:
            await pool.close()


def _check(version: Found) -> None:
    if version.status in INCOMPLETE:
        raise Refused(f"{version} {INCOMPLETE[version.status]}")
    if version.is_verification:
        raise Refused(f"{version} is only compared: the verification that built it drops it")
    if version.as_known_at is not None:
        raise Refused(f"{version} is as known at an instant of the past: it stays as it is")
    if version.code_version != code_version():
        raise Refused(f"{version} was built by other code, which alone can feed it: build it again")


async def _approach(connection: Connection, version: Found, refold: Refold, report: Report) -> None:
    """Folds what changed since the build, until only a little does."""
    async with connection.transaction():
        await adopt_facts(connection, version.number)
    await connection.execute("delete from ops.parked where version_no = $1", version.number)
    for _ in range(ROUNDS):
        await _mark(connection, version)
        if await count_stale(connection, version.schema, version.number) <= FEW_JOURNEYS:
            return
        await _refold(connection, version, refold, report)


async def _join(connection: Connection, version: Found) -> None:
    """Unless another one has let it join meanwhile. Raises Refused for a version retired meanwhile."""
    async with connection.transaction():
        await stop_feeding(connection)
        version = await find(connection, version.number)
        _check(version)
        if version.status != "built":
            return
        await adopt_facts(connection, version.number)  # what came meanwhile
        await _mark(connection, version)
        await connection.execute(
            "update ops.version set status = 'fed' where version_no = $1", version.number
        )
        await connection.execute(
            "update ops.replay set caught_up_at = now() where version_no = $1", version.number
        )


async def _mark(connection: Connection, version: Found) -> None:
    await connection.execute(MARK_BEHIND.format(schema=version.schema), version.number)
    await connection.execute(MARK_GONE.format(schema=version.schema))


async def _refold(connection: Connection, version: Found, refold: Refold, report: Report) -> None:
    """Runs the loop until nothing is stale."""
    began = time.monotonic()
    stale = total = await count_stale(connection, version.schema, version.number)
    while stale:
        if not await refold.round():
            await asyncio.sleep(IDLE_SECONDS)  # others are at all that is left
        stale = await count_stale(connection, version.schema, version.number)
        total = max(total, stale)
        done, seconds = total - stale, time.monotonic() - began
        left = seconds / done * stale if done else None
        report(Progress("catch-up", done, total, done, done / seconds, left))
