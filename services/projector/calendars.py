"""Keeps the calendars of the fed versions laid out for the years ahead, however long no version is made.

Promises: the views never come to the end of what is laid out while a projector runs; one worker at a time
does it. Leaves what a calendar is to `projections.business_time`, and new calendar facts to the batches.
"""

import asyncio
from typing import Any

import asyncpg
import structlog

from services import settings
from services.store.calendars import YEAR, write_calendars
from services.store.feeding import Fed
from services.store.locks import CALENDARS, share_feeding
from services.store.pool import PASSING, Connection

LOOK_SECONDS = 86_400.0
"""Pause between two looks."""
RETRY_SECONDS = 60.0
"""Pause after one that failed."""

IS_SHORT = "select min(covers_until) < now() + make_interval(secs => $1) from {schema}.calendar"

log = structlog.get_logger()


async def keep(pool: "asyncpg.Pool[Any]", fed: Fed) -> None:
    """Looks for ever; a server that is away is asked again."""
    while True:
        try:
            async with pool.acquire() as connection:
                await renew(connection, fed)
            pause = LOOK_SECONDS
        except (asyncpg.PostgresError, *PASSING) as error:
            log.warning("calendars_wait", error=repr(error))
            pause = RETRY_SECONDS
        await asyncio.sleep(pause)


async def renew(connection: Connection, fed: Fed) -> None:
    """Lays out anew what covers less than half of the years to come; nothing while another worker does."""
    half = settings.CALENDAR_YEARS_AHEAD * YEAR / 2 / 1e6
    async with connection.transaction():
        await share_feeding(connection)
        # Nobody learns a new calendar meanwhile, which would be overwritten by the one before.
        await connection.execute("select revision from log.reference_revision for share")
        if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", CALENDARS):
            return
        for version in await fed.load(connection):
            if await connection.fetchval(IS_SHORT.format(schema=version.schema), half):
                await write_calendars(connection, version.schema, version.rules)
                log.info("calendars_laid_out", version=version.number)
