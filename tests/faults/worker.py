"""A projector that kills itself: `python -m tests.faults.worker WORKER_ID`, addresses in the environment.

Promises: the process dies by SIGKILL at the moment that `FAULTS_FATE` appoints (`MOMENT:BATCHES:SEED`, empty
= never), and a line in the file `FAULTS_DIARY` says so before. The moments: `transaction` = somewhere inside
the open transaction of a batch, `committed` = after its commit and before the engine hears of it. Everything
else is the projector of production.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from asyncpg.transaction import Transaction

from schemas.topics import INPUT_TOPICS, Offsets, Partition
from services import settings
from services.projector import worker
from services.projector.decoding import Decoded
from services.projector.delivery import Record
from services.projector.handler import Projector
from services.store.pool import Connection

FIRST_GUESS_SECONDS = 0.1
"""Length of a transaction before one was measured."""


class Fate(NamedTuple):
    """When the worker dies."""

    moment: str
    """`transaction`, `committed`, or empty for never."""
    batches: int
    """Batches that it stores before."""
    seed: int

    @classmethod
    def read(cls, text: str) -> "Fate":
        """From `MOMENT:BATCHES:SEED`."""
        if not text:
            return cls("", 0, 0)
        moment, batches, seed = text.split(":")
        return cls(moment, int(batches), int(seed))

    def __str__(self) -> str:
        return f"{self.moment}:{self.batches}:{self.seed}"


class Diary:
    """What a worker lived through: one JSON object a line, kept although the process is killed."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._name = name

    def note(self, moment: str) -> None:
        """A moment, with the machine's monotonic seconds."""
        entry = {"worker": self._name, "pid": os.getpid(), "moment": moment, "at": time.monotonic()}
        os.write(self._file, json.dumps(entry).encode() + b"\n")


class Doomed(Projector):
    """The projector of production until its fate is due."""

    def __init__(self, addresses: settings.Addresses, fate: Fate, diary: Diary) -> None:
        super().__init__(addresses)
        self._fate = fate
        self._random = Random(fate.seed)
        self._diary = diary
        self._stored = 0
        self._seconds = FIRST_GUESS_SECONDS
        self._turn = threading.Lock()
        self._open: Connection | None = None

    async def positions(self, partitions: set[Partition]) -> Offsets:
        """The next offsets; asked when partitions are taken over."""
        self._diary.note("assigned")
        return await super().positions(partitions)

    async def apply(self, batch: list[Record]) -> Offsets:
        """One batch; dies after its commit if that is due."""
        reached = await super().apply(batch)
        if self._stored == 0:
            self._diary.note("stored")
        if self._is_due("committed"):
            self._die("committed")
        self._stored += 1
        return reached

    async def _transact(
        self, connection: Connection, records: Sequence[Record], decoded: Decoded, seeds: set[str]
    ) -> Offsets:
        with self._in_danger(connection):
            return await super()._transact(connection, records, decoded, seeds)

    @contextmanager
    def _in_danger(self, connection: Connection) -> Iterator[None]:
        """Dies within, at a random moment, if that is due; a moment that came too late comes again."""
        started, self._open = time.monotonic(), connection
        blow = threading.Timer(self._seconds * self._random.random(), self._strike)
        blow.daemon = True
        if self._is_due("transaction"):
            blow.start()
        try:
            yield
        finally:
            blow.cancel()
            with self._turn:
                self._open = None
        self._seconds = time.monotonic() - started

    async def _commit(self, transaction: Transaction) -> None:
        with self._turn:
            self._open = None
        await super()._commit(transaction)

    def _is_due(self, moment: str) -> bool:
        return self._fate.moment == moment and self._stored >= self._fate.batches

    def _strike(self) -> None:
        with self._turn:  # held until death, so that the commit cannot begin in between
            if self._open is not None and self._open.is_in_transaction():
                self._die("transaction")

    def _die(self, moment: str) -> None:
        self._diary.note(moment)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    who = worker.identity(sys.argv[1])
    handler = Doomed(
        settings.addresses(),
        Fate.read(os.environ.get("FAULTS_FATE", "")),
        Diary(Path(os.environ["FAULTS_DIARY"]), who.name),
    )
    sys.exit(worker.run(handler, frozenset(INPUT_TOPICS), who, port=0))
