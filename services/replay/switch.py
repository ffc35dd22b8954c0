"""Lets BI read another version, in one instant, and back.

Promises: readers see the earlier version or the other, never none and never a mix, and wait at most
`ATTEMPT_MILLISECONDS` and a commit at a time; what cannot be had in `PATIENCE_SECONDS` is given up with the
sessions in the way named, and nothing is changed. The activation is recorded in the same transaction. Only a
version that is fed, up to date and agreed on takes over. Leaves bringing it up to date to `catch_up`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import asyncpg

from schemas.instants import rfc3339
from schemas.records import Actor
from services.clock.reconcile import reconcile
from services.replay.versions import INCOMPLETE, Found, Refused, find, promoted, timeline_of
from services.store.definition_facts import record_activations
from services.store.locks import stop_feeding
from services.store.pool import Connection
from services.store.versions import code_version, count_stale, promote, show
from services.store.views import are_outdated

ATTEMPT_MILLISECONDS = 40
"""What an attempt takes at most once it locks a view, and so what a reader that came after it waits."""
FEEDING_MILLISECONDS = 1_000
"""What an attempt waits for transactions of the projector and the clock, which wait for it as long; readers
do not."""
LOCK_MILLISECONDS = 5
"""What the first attempt waits for one lock, each further one as much more. A reader of several views and a
switch easily wait for each other: the sooner it gives in, the less it is felt."""
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.05
"""Between attempts, at least: readers that waited go first. The projector, which waits for a whole
transaction, gets as long as that took."""

GIVEN_IN = (
    *(asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError),
    TimeoutError,
)
"""How an attempt ends that others were in the way of."""

HOLDERS = """
select distinct activity.pid, activity.usename, activity.application_name, activity.client_addr::text,
  activity.state, round(extract(epoch from now() - activity.xact_start))::bigint as seconds,
  left(activity.query, 80) as query
from pg_locks as held
join pg_class as class on class.oid = held.relation
join pg_stat_activity as activity on activity.pid = held.pid
where class.relnamespace = 'bi'::regnamespace and held.granted and held.pid <> pg_backend_pid()
  and held.database = (select oid from pg_database where datname = current_database())
order by seconds desc nulls last
"""

BEFORE = """
select version_no from ops.version where status = 'fed' and promoted_at is not null
order by promoted_at desc limit 1
"""


OTHER_TABLES = (
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedTableError,
    asyncpg.InvalidTableDefinitionError,
)
"""What comes of views over the tables, or in place of the views, of a release that has other columns."""

Result = TypeVar("Result")


class Blocked(RuntimeError):
    """Sessions kept the views locked all the time; nothing was changed."""


class Switched(NamedTuple):
    """What took over from what."""

    before: Found
    after: Found
    attempts: int
    seconds: float
    """From the first attempt to the commit."""


async def switch(connection: Connection, number: int, by: Actor) -> Switched:
    """Promotes a version, in somebody's name. Raises Refused, Blocked."""
    began = time.monotonic()
    (before, after), attempts = await _patiently(connection, partial(_switch, connection, number, by))
    return Switched(before, after, attempts, time.monotonic() - began)


async def renew(connection: Connection) -> None:
    """Lets BI read the promoted version by the views of this release, where another one made them and the
    version has what they read. Raises Blocked."""
    if await are_outdated(connection):
        with suppress(*OTHER_TABLES):  # the first version of this release brings them
            await _patiently(connection, partial(_renew, connection))


class Attempts:
    """How often others were in the way."""

    def __init__(self) -> None:
        self.failed = 0

    @property
    def lock_milliseconds(self) -> int:
        """What the next one waits for a lock."""
        return min(LOCK_MILLISECONDS * (self.failed + 1), ATTEMPT_MILLISECONDS)


async def _patiently(
    connection: Connection, work: Callable[[Attempts], Coroutine[Any, Any, Result]]
) -> tuple[Result, int]:
    """What a transaction gives in the end, and how many attempts it took. Raises Blocked."""
    began, attempts = time.monotonic(), Attempts()
    while True:
        tried_at = time.monotonic()
        try:
            result = await asyncio.wait_for(work(attempts), PATIENCE_SECONDS)
            return result, attempts.failed + 1
        except GIVEN_IN:
            attempts.failed += 1
            if connection.is_in_transaction():  # the time limit met the rollback itself
                await connection.execute("rollback")
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise Blocked(await _in_the_way(connection, attempts.failed)) from None
        await asyncio.sleep(max(PAUSE_SECONDS, time.monotonic() - tried_at))


async def previous(connection: Connection) -> int:
    """The version that BI read before the present one. Raises Refused."""
    number: int | None = await connection.fetchval(BEFORE)
    if number is None:
        raise Refused("no earlier version is kept up: `leadlog replay status` lists what there is")
    return number


async def _switch(connection: Connection, number: int, by: Actor, attempts: Attempts) -> tuple[Found, Found]:
    began = time.monotonic()
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = {FEEDING_MILLISECONDS}")
        await stop_feeding(connection)
        before, after = await promoted(connection), await find(connection, number)
        await _check(connection, before, after)
        timeline = await timeline_of(connection, after)
        await record_activations(connection, after.number, timeline, by, time.time_ns() // 1000)
        await reconcile(connection, after.schema)
        await _insist(connection, partial(promote, connection, number), attempts, began)
    return before, after


async def _renew(connection: Connection, attempts: Attempts) -> None:
    began = time.monotonic()
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = {FEEDING_MILLISECONDS}")
        await stop_feeding(connection)
        present = await promoted(connection)
        await _insist(connection, partial(show, connection, present.schema), attempts, began)


async def _insist(
    connection: Connection, act: Callable[[], Coroutine[Any, Any, None]], attempts: Attempts, began: float
) -> None:
    """Replaces the views, waiting for locks for a short time only; again and again for as long as what the
    transaction did before took, which would all be done anew."""
    until = 2 * time.monotonic() - began
    while True:
        try:
            async with connection.transaction():  # a savepoint: what gives in lets go of the views
                await connection.execute(f"set local statement_timeout = {ATTEMPT_MILLISECONDS}")
                await connection.execute(f"set local lock_timeout = {attempts.lock_milliseconds}")
                return await act()
        except GIVEN_IN:
            if time.monotonic() > until:
                raise
            attempts.failed += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def _check(connection: Connection, before: Found, after: Found) -> None:
    """Raises Refused with the reason and what to do."""
    if after.number == before.number:
        raise Refused(f"{after} is promoted already")
    if after.as_known_at is not None:
        then = rfc3339(after.as_known_at)
        raise Refused(f"{after} is as known at {then}: BI reads what is known now, so it is never promoted")
    if after.is_trial:
        raise Refused(f"{after} is a trial of a file, not what both teams approved: it is never promoted")
    if after.status in INCOMPLETE:
        raise Refused(f"{after} {INCOMPLETE[after.status]}")
    if after.status != "fed":
        raise Refused(f"{after} is {after.status}, not fed: `leadlog replay catch-up {after.number}` first")
    if after.code_version != code_version():
        raise Refused(f"{after} is of other code than this release: switch with the release that feeds it")
    if stale := await count_stale(connection, after.schema, after.number):
        raise Refused(
            f"{stale} journeys of {after} are behind the log: `leadlog replay catch-up {after.number}`, "
            "or wait for the projector"
        )


async def _in_the_way(connection: Connection, attempts: int) -> str:
    holders: Sequence[asyncpg.Record] = await connection.fetch(HOLDERS)
    lines = [
        f"  pid {row['pid']}: {row['usename']} {row['application_name'] or '(no name)'} "
        f"from {row['client_addr'] or 'a socket'}, {row['state']} for {row['seconds']} s: {row['query']}"
        for row in holders
    ]
    return "\n".join(
        [
            f"{attempts} attempts in {PATIENCE_SECONDS:.0f} s found the views locked, or a long transaction "
            "of the projector under way; nothing was changed. End these transactions and try again:",
            *(lines or ["  (none holds a lock at this moment)"]),
        ]
    )
