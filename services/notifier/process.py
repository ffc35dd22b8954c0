"""The notifier as a process.

Promises: each channel is worked by one notifier at a time, with a connection that holds its lock; another
one stands by and takes over when that is gone. Without channels it waits.
"""

import asyncio
import zlib

import aiohttp
import structlog

from services.daemon import together
from services.notifier.config import Config
from services.notifier.deliver import Delivery
from services.notifier.dispatch import AGAIN, ONCE_MORE, dispatch
from services.notifier.metrics import BEAT
from services.store.locks import CHANNELS, lead
from services.store.pool import connect

DISPATCH_SECONDS = 0.2
"""Pause between looks for changes of alerts."""
DELIVER_SECONDS = 0.2
"""Pause between looks of a channel that has nothing to send."""

log = structlog.get_logger()


async def run(dsn: str, config: Config) -> None:
    """Tells the channels until cancelled. Raises what `store.pool.PASSING` names when Postgres is away."""
    if not config.channels:
        log.warning("no_channels", hint="LEADLOG_ALERTS names the file that says where alerts go")
    async with aiohttp.ClientSession() as http:
        channels = (_channel(dsn, http, config, name) for name in config.channels)
        await together(_dispatch(dsn, config), *channels)


async def _dispatch(dsn: str, config: Config) -> None:
    connection = await connect(dsn)
    try:
        await connection.execute(AGAIN)
        await connection.execute(ONCE_MORE)
        while True:
            found = await dispatch(connection, config) if config.channels else 0
            BEAT.set_to_current_time()
            if not found:
                await asyncio.sleep(DISPATCH_SECONDS)
    finally:
        connection.terminate()


async def _channel(dsn: str, http: aiohttp.ClientSession, config: Config, name: str) -> None:
    connection = await connect(dsn)
    try:
        await lead(connection, CHANNELS + zlib.crc32(name.encode()))
        delivery = Delivery(connection, http, config, name)
        while True:
            if not await delivery.step():
                await asyncio.sleep(DELIVER_SECONDS)
    finally:
        connection.terminate()
