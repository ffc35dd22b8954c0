"""Work units on several processes.

Promises: a unit that is done is a row at once; workers end with whoever started them, also when that is
killed. Leaves what a unit does to its function.
"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context, parent_process
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from services.replay.job import Done, Progress, Report, Task
from services.replay.runs import finish_unit, plan_units, unfinished
from services.store.pool import Connection

NICENESS = 10
"""Of the processes, so that live processing goes first."""


class Effort(NamedTuple):
    """What a replay may take of the machine."""

    processes: int
    niceness: int = NICENESS


class OfVersion(Protocol):
    """What the units of a phase have in common."""

    @property
    def version_no(self) -> int:
        """The version that they work on."""


AnyJob = TypeVar("AnyJob", bound=OfVersion)
Unit = Callable[[AnyJob, Task], Coroutine[Any, Any, Done]]
"""What a unit of a phase does; a function of a module, since it is sent to another process."""


class Workers:
    """Processes that take units; started when they are needed."""

    def __init__(self, connection: Connection, report: Report, effort: Effort) -> None:
        self._connection, self._report = connection, report
        self._pool = ProcessPoolExecutor(
            effort.processes, get_context("spawn"), initializer=_start_worker, initargs=(effort.niceness,)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What is at work when the work is given up is not waited for: it will be done again."""
        if kind is not None:
            for process in active_children():
                process.terminate()
        self._pool.shutdown()

    async def run(self, unit: Unit[AnyJob], job: AnyJob, tasks: Sequence[Task]) -> None:
        """Does what is left of the units of a phase. Raises what the first failing unit raises."""
        if not tasks:
            return
        await plan_units(self._connection, job.version_no, tasks)
        left = await unfinished(self._connection, job.version_no, tasks[0].phase)
        working = [asyncio.ensure_future(_one(self._pool, unit, job, task)) for task in left]
        began, records = time.monotonic(), 0
        try:
            for finished, next_done in enumerate(asyncio.as_completed(working), 1):
                task, done = await next_done
                await finish_unit(self._connection, job.version_no, task, done)
                records += done.records
                seconds = time.monotonic() - began
                seconds_left = seconds / finished * (len(left) - finished)
                self._report(
                    Progress(task.phase, finished, len(left), records, records / seconds, seconds_left)
                )
        finally:
            for each in working:
                each.cancel()


async def _one(pool: ProcessPoolExecutor, unit: Unit[AnyJob], job: AnyJob, task: Task) -> tuple[Task, Done]:
    loop = asyncio.get_running_loop()
    return task, await loop.run_in_executor(pool, _work, unit, job, task)


def _work(unit: Unit[AnyJob], job: AnyJob, task: Task) -> Done:
    try:
        return asyncio.run(unit(job, task))
    finally:
        gc.collect()


def _start_worker(niceness: int) -> None:
    """A unit makes millions of objects that live as long as it: looking for cycles among them is wasted."""
    gc.disable()
    os.nice(niceness)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
