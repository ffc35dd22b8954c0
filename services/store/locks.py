"""Advisory locks of Postgres: every number that anybody takes, since no two may be the same."""

import asyncio

from services.store.pool import Connection

MIGRATION = 7_104_011
"""Whoever migrates."""
FEEDING = 7_104_012
"""Shared by whoever feeds versions, exclusive for whoever changes which are fed or promoted."""
BUILD = 7_104_013
"""Whoever builds, compares or retires a version."""
CLOCK = 7_104_014
"""The clock that fires."""
REJECTS = 7_104_015
"""Whoever writes to `log.reject`."""
BUILD_WANTED = 7_104_016
"""Shared by all who wait for `BUILD`: a scheduled verification gives way to them."""
VERIFIER = 7_104_017
"""The verifier that works."""
OUTBOX = 7_104_018
"""The worker that sends."""
DEPLOYMENT = 7_104_019
"""Whoever makes servers ready for a release."""
CALENDARS = 7_104_020
"""The worker that lays out calendars."""
CHANNELS = 7_104_015_000_000
"""First of those of the notifier's channels, one for each name."""
JOURNEYS = 7_104
"""First key of those that keep two refold loops off one journey."""

STAND_BY_SECONDS = 0.5
"""How soon one that stands by takes over a lock."""


async def lead(connection: Connection, lock: int) -> None:
    """Waits until this connection holds an advisory lock for as long as it lives.

    By looking: a session that waits for a lock inside Postgres would keep `vacuum` from its work.
    """
    while True:
        if await connection.fetchval("select pg_try_advisory_lock($1)", lock):
            return
        await asyncio.sleep(STAND_BY_SECONDS)


async def share_feeding(connection: Connection) -> None:
    """Until the transaction ends nobody changes which versions are fed or promoted."""
    await connection.execute("select pg_advisory_xact_lock_shared($1)", FEEDING)


async def stop_feeding(connection: Connection) -> None:
    """Until the transaction ends nobody feeds versions: which they are may be changed."""
    await connection.execute("select pg_advisory_xact_lock($1)", FEEDING)
