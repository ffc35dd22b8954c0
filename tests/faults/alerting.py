"""A clock, notifier or projector that kills itself: `python -m tests.faults.alerting NAME PATH`.

Promises: the process dies by SIGKILL right after the steps of its path were taken in this order; a path is a
name of `PATHS`, `anywhere` = after some seconds whatever it does, `-` = never. A step is a statement that
Postgres has executed, or an alert that a receiver has taken. Everything else is the process of production.
"""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
from aiohttp import ClientSession

from schemas.topics import INPUT_TOPICS
from services import settings
from services.clock import look, opening
from services.clock import process as clock
from services.daemon import serve
from services.notifier import deliver, dispatch, message
from services.notifier import process as notifier
from services.notifier.config import AnyChannel, read
from services.notifier.message import Message
from services.projector import worker
from services.projector.handler import Projector
from services.store import obligations, outbox, settling

ANYWHERE = "anywhere"
LIFE_SECONDS = (2.0, 6.0)
"""How long a process lives that dies anywhere: from its first look to some work done."""
RECEIVED = "an alert was received"
PATHS: dict[str, dict[str, tuple[str, ...]]] = {
    "clock": {
        "looked": (look.STATE,),
        "fired": (look.FIRE,),
        "opened": (opening.OPEN_ALERTS,),
        "kept": (look.FIRE, obligations.KEEP),
        "concluded": (look.FIRE, outbox.LEAVE),
        "moved": (look.FIRE, look.MOVE),
        "committed": (look.FIRE, look.STATE),
    },
    "notifier": {
        "handed over": (dispatch.HAND_OVER,),
        "dispatched": (dispatch.DISPATCHED,),
        "claimed": (message.ALERTS,),
        "received": (RECEIVED,),
        "taken": (deliver.TAKEN,),
    },
    "projector": {
        "known": (obligations.KNOWN,),
        "settled": (settling.FIRED,),
        "closed": (obligations.CLOSE,),
        "closed the alert": (obligations.CLOSE_ALERTS,),
        "concluded": (outbox.LEAVE,),
    },
}


class Fate:
    """Counts the steps taken and strikes after the last."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self._left = list(path)

    def taken(self, step: str) -> None:
        """A step was taken; may not return."""
        if self._left and step.split("{", maxsplit=1)[0] == self._left[0].split("{")[0]:
            self._left.pop(0)
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def watch(fate: Fate) -> None:
    """Lets every statement and every delivery be a step."""

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
            found = await method(self, query, *arguments, **options)
            fate.taken(query)
            return found

        return call

    for name in ("execute", "fetch", "fetchrow", "fetchval"):
        setattr(asyncpg.Connection, name, watched(getattr(asyncpg.Connection, name)))
    send = deliver.send

    async def sent(http: ClientSession, channel: AnyChannel, wanted: Sequence[Message]) -> None:
        await send(http, channel, wanted)
        fate.taken(RECEIVED)

    deliver.send = sent


def main(name: str, path: str) -> int:
    """Runs the process until its fate, or a signal."""
    if path == ANYWHERE:
        threading.Timer(random.uniform(*LIFE_SECONDS), os.kill, (os.getpid(), signal.SIGKILL)).start()
    watch(Fate(PATHS[name].get(path, ())))
    addresses = settings.addresses()
    if name == "clock":
        return serve(name, 0, lambda: clock.run(addresses.postgres_dsn))
    if name == "notifier":
        return serve(name, 0, lambda: notifier.run(addresses.postgres_dsn, read(settings.ALERTS)))
    return worker.run(Projector(addresses), frozenset(INPUT_TOPICS), worker.identity("alerting"), port=0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
