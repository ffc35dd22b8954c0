"""One projector process: what starts in which order, what ends it, and with which exit code.

Promises: SIGTERM and SIGINT stop it in order (engine, handler, health) with exit code 0, within a bounded
time; a defect anywhere ends the process with 1 and a server that is away at the start with 3, so that a
supervisor can start it again. Leaves the work to the engine and the handler.
"""

import asyncio
import fcntl
import inspect
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog
import uvloop
from aiokafka.errors import KafkaConnectionError

from services import settings
from services.logging import configure
from services.projector.delivery import Handler
from services.projector.engine import Engine, Feed
from services.projector.health import Health
from services.projector.progress import Progress

log = structlog.get_logger(__name__)


class AlreadyRunning(RuntimeError):
    """A worker of this name runs on this machine."""


class Identity(NamedTuple):
    """Who a worker is."""

    name: str
    """In log lines and as the folder of its state."""
    member: str | None
    """Its lasting name in the consumer group; None when it has none."""


def identity(worker_id: str) -> Identity:
    """A worker with an id keeps its place in the group over restarts; one without leaves it when it stops."""
    host = socket.gethostname()
    if not worker_id:
        return Identity(f"{host}-{os.getpid()}", None)
    return Identity(worker_id, f"{settings.CONSUMER_GROUP}-{host}-{worker_id}")


def run(handler: Handler, topics: frozenset[str], worker: Identity, port: int) -> int:
    """Runs a worker until a signal ends it; returns the exit code. With no topics it only folds.

    Raises AlreadyRunning, and whatever defect crashed the worker.
    """
    configure("projector", worker.name, settings.LOG_LEVEL)
    folder = settings.state_folder() / "projector" / worker.name
    bootstrap = settings.addresses().kafka_bootstrap
    feed = Feed(bootstrap, settings.CONSUMER_GROUP, worker.member, topics, folder / "faust")
    with only_one(folder):
        try:
            # For this thread alone, not as the policy: on a closed connection uvloop's `write` raises and
            # asyncio's does not, and that ends the tasks of a Kafka consumer (aiokafka issue 1038).
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_work(handler, feed, port))
        except (KafkaConnectionError, ConnectionError, TimeoutError) as error:
            log.error("server_away", error=repr(error))
            return 3
    return 0


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the folder's lock: two members of one lasting name would throw each other out of the group."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"worker {folder.name} already runs here; choose another --worker-id"
            ) from error
        yield


async def _work(handler: Handler, feed: Feed, port: int) -> None:
    stop, progress = _stop_on_signals(), Progress()
    async with AsyncExitStack() as stack:
        health = Health(progress, settings.addresses().postgres_dsn, feed.bootstrap, handler.away)
        stack.push_async_callback(health.stop)
        log.info("health_served", address=await health.start(port))
        stack.push_async_callback(handler.stop)
        is_orderly = False
        try:
            await _serve(stack, stop, handler, progress, feed)
            is_orderly = True
        finally:
            _bound_the_end(progress, is_orderly)
            progress.enter("stopping", time.monotonic())


async def _serve(
    stack: AsyncExitStack, stop: asyncio.Event, handler: Handler, progress: Progress, feed: Feed
) -> None:
    starting = asyncio.create_task(handler.start(), name="handler.start")
    await _first_end(stop, starting)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    jobs = [asyncio.create_task(handler.watch(), name="handler.watch")]
    if feed.topics:
        engine = Engine(feed, handler, progress)
        stack.push_async_callback(engine.stop)
        jobs.append(asyncio.create_task(engine.run(), name="engine"))
    else:
        progress.enter("reading", time.monotonic())
    await _first_end(stop, *jobs)


async def _first_end(stop: asyncio.Event, *jobs: asyncio.Task[None]) -> None:
    """Waits for the signal or for a job to end. Raises what the job raised."""
    told = asyncio.create_task(stop.wait())
    await asyncio.wait({told, *jobs}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    for job in jobs:
        if job.done():
            job.result()


def _stop_on_signals() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told(name: str) -> None:
        log.info("told_to_stop", signal=name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number.name)
    return stop


def _bound_the_end(progress: Progress, is_orderly: bool) -> None:
    """From a thread of its own, since the event loop may be what hangs.

    An orderly end becomes a failure only by a batch in hand: a rebalance under way may hold up the goodbye to
    Kafka.
    """
    loop = asyncio.get_running_loop()

    def leave() -> None:
        try:
            waiting = sorted(map(_place, asyncio.all_tasks(loop)))
            log.error("left_by_force", seconds=settings.SHUTDOWN_SECONDS, waiting=waiting)
        finally:
            os._exit(0 if is_orderly and progress.batch_since is None else 1)

    timer = threading.Timer(settings.SHUTDOWN_SECONDS, leave)
    timer.daemon = True
    timer.start()


def _place(task: asyncio.Task[Any]) -> str:
    """A task, and the innermost two of its coroutines: what it waits in."""
    chain: list[Any] = [task.get_coro()]
    while inspect.iscoroutine(inner := getattr(chain[-1], "cr_await", None)):
        chain.append(inner)
    return f"{task.get_name()}: {' > '.join(each.__qualname__ for each in chain[-2:])}"
