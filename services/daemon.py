"""A process that works until a signal ends it: the clock, the notifier, the verifier; and its own pages.

Promises: SIGTERM and SIGINT end it in order with exit code 0; `/metrics` and `/livez` are served meanwhile by
the loop that does the work: one that is stuck does not answer. A server that is away is waited for, whatever
else is raised ends the process, and its supervisor starts it again.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from aiohttp import web

from services import settings
from services.exposition import HEADERS, exposition
from services.logging import configure
from services.store.pool import DATA_ERRORS, PASSING

RETRY_SECONDS = 0.5
"""Pause before a connection to a server that was away is tried again."""

log = structlog.get_logger()


class PortTaken(RuntimeError):
    """Another process listens on the port that this one was given."""


def serve(name: str, port: int, work: Callable[[], Awaitable[None]]) -> int:
    """Runs `work` again and again until a signal; returns the exit code. Raises PortTaken."""
    configure(name, name, settings.LOG_LEVEL)
    asyncio.run(_until_signal(_served(name, port, work)))
    return 0


async def together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Runs jobs that end only by failing; the first that does ends the others, and is raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _served(name: str, port: int, work: Callable[[], Awaitable[None]]) -> None:
    app = web.Application()
    app.add_routes([web.get("/livez", _livez), web.get("/metrics", metrics_of(name))])
    runner = web.AppRunner(app, access_log=None)
    try:
        log.info("metrics_served", address=f"{await listen(runner, port)}/metrics")
        await _for_ever(work)
    finally:
        await runner.cleanup()


async def listen(runner: web.AppRunner, port: int) -> str:
    """Serves on METRICS_HOST (port 0: a free one) and returns the address. Raises PortTaken."""
    await runner.setup()
    host = settings.METRICS_HOST
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise PortTaken(f"port {port} of {host} is taken; give another (0: a free one)") from error
    host, bound = runner.addresses[0][:2]
    return f"http://{host}:{bound}"


async def _livez(_: web.Request) -> web.Response:
    return web.json_response({"ok": True})


def metrics_of(service: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A page with what Prometheus reads of a service."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(service), headers=HEADERS)

    return metrics


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except DATA_ERRORS:
            raise  # some are InterfaceErrors, but they do not pass
        except (asyncpg.DeadlockDetectedError, asyncpg.UndefinedTableError, *PASSING) as error:
            log.warning("postgres_away", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)


async def _until_signal(work: Awaitable[None]) -> None:
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    log.info("stopped")
