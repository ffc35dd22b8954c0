"""The clock as a process.

Promises: of several clocks one fires, the others stand by and take over as soon as its connection is gone;
the lock and the work share that connection, so no clock works without the lock. It sleeps until the next
instant, but looks at least every `POLL_SECONDS`.
"""

import asyncio

from services.clock.look import look
from services.clock.metrics import BEAT, LEADS
from services.store.locks import CLOCK, lead
from services.store.pool import connect

POLL_SECONDS = 0.5
"""Longest sleep between looks: what was changed to a near instant is found within."""


async def run(dsn: str) -> None:
    """Fires what is due until cancelled. Raises what `store.pool.PASSING` names when Postgres is away."""
    connection = await connect(dsn)
    try:
        await lead(connection, CLOCK)
        LEADS.set(1)
        while True:
            looked = await look(connection)
            BEAT.set_to_current_time()
            pause = POLL_SECONDS if looked.next_in is None else looked.next_in
            await asyncio.sleep(min(POLL_SECONDS, max(0.0, pause)))
    finally:
        LEADS.set(0)
        connection.terminate()
