"""Workers, the broker and Postgres are killed while events arrive; in the end nothing may be different.

Promises: `run` brings generated events of every kind through two workers of one consumer group, which feed
two versions and die by SIGKILL inside open transactions, between commit and acknowledgement, and anywhere;
then through an outage of the broker and one of Postgres, in which no worker may die; and compares every table
with those of one undisturbed worker. `python -m tests.faults.crash --help` is the long run.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import IO, Any, NamedTuple

import asyncpg
import click

import infra
from services.deploy import publish_definition
from services.registry import Registry
from services.settings import Addresses
from services.store.locks import stop_feeding
from services.store.migrate import migrate
from services.store.pool import connect
from services.store.timeline import TimelineEntry
from services.store.versions import create_version, promote
from services.wait import Behind, wait
from tests.faults.equality import Compared, compare
from tests.faults.worker import Diary, Fate
from tests.fresh import drop_database, empty_topics
from tests.live import let_feed
from tests.servers import Servers, begin, bring_back, take_away, until

ROOT = Path(infra.__file__).parents[1]
LEADLOG = [sys.executable, "-c", "from services.cli import main; main()"]
VERSIONS: tuple[tuple[tuple[int | None, Path], ...], ...] = (
    ((None, ROOT / "projections" / "default.yaml"),),
    (
        (None, ROOT / "tests" / "vectors" / "definition.yaml"),
        (1_751_328_000_000_000, ROOT / "projections" / "default.yaml"),
    ),
)
"""The timelines of the two versions: one definition; another one, replaced in July 2025."""
SCHEMAS = ("log", "v0001", "v0002")
MOMENTS = ("transaction", "committed", "anywhere")
OF_EVENTS = (
    *("late", "duplicate", "conflict", "retracted_after", "retracted_before", "retracted_elsewhere"),
    *("out_of_order", "restamped", "conflict_elsewhere", "faulty"),
)
"""Kinds that must be 3 % of the events."""
OF_JOURNEYS = ("linked", "linked_across", "unlinked", "erased")
"""Kinds of which a journey has one or two: they must occur in 3 % of the journeys."""
LEAST_SHARE = 0.03
DISTURBED = 0.7
"""Part of the events that arrives while workers are killed; the rest comes with the outages."""
CAUGHT_UP = 0.9
"""Part of the published lines that is stored when little is left to read: some lines are refused."""
BLOW_SECONDS = (5.0, 20.0)
"""From one SIGKILL at any moment to the next."""
IMMORTAL = Fate("", 0, 0)
LOOK_SECONDS = 0.05
DEADLINE_SECONDS = 1_800.0
STOP_SECONDS = 30.0
OUTAGES = (("kafka", 10.0), ("postgres", 5.0))
"""Server, and seconds from its SIGKILL until it may start again."""

WITNESS = """
create schema witness;
create table witness.wrote (journey_id text, worker text, primary key (journey_id, worker));
create function witness.note() returns trigger language plpgsql as $$
begin
  insert into witness.wrote
  select journey_id, current_setting('application_name') from written on conflict do nothing;
  return null;
end $$;
create trigger inserted after insert on v0001.journey referencing new table as written
  for each statement execute function witness.note();
create trigger updated after update on v0001.journey referencing new table as written
  for each statement execute function witness.note();
"""
"""Postgres itself notes which worker wrote a journey, in the transaction that did."""
BOTH_WROTE = (
    "select count(*) from (select from witness.wrote group by journey_id having count(*) > 1) both_wrote"
)
STORED = "select coalesce(sum(next_offset), 0)::bigint from log.position"


class Size(NamedTuple):
    """How long a run is."""

    events: int
    kills: int
    """Of each moment, at least."""
    batch_records: int
    shared_journeys: int
    """Journeys that both workers must have written, at least."""
    seed: int


class Report(NamedTuple):
    """What happened and what came out."""

    size: Size
    kinds: dict[str, tuple[int, float]]
    """Kind to number and share."""
    kills: Counter[str]
    recoveries: list[float]
    """Seconds from a SIGKILL to the next batch that this worker stored."""
    outages: dict[str, float]
    """Server to seconds from its return to the next stored record."""
    shared_journeys: int
    seconds: dict[str, float]
    tables: list[Compared]

    @property
    def failures(self) -> list[str]:
        """Differences of tables, and what did not happen often enough to prove anything."""
        seldom = [
            f"only {share:.1%} {kind}" for kind, (_, share) in self.kinds.items() if share < LEAST_SHARE
        ]
        if any(self.kills[moment] < self.size.kills for moment in MOMENTS[:2]):
            seldom.append(f"fewer than {self.size.kills} kills of a moment")
        if self.shared_journeys < self.size.shared_journeys:
            seldom.append(f"fewer than {self.size.shared_journeys} journeys of both workers")
        return seldom + [f"{each.table}: {line}" for each in self.tables for line in each.differences]

    def lines(self) -> list[str]:
        """The report for people."""
        recoveries = sorted(self.recoveries)
        return [
            *(f"{name:<24}{number:>9}{share:>8.1%}" for name, (number, share) in self.kinds.items()),
            *(f"killed {moment:<17}{self.kills[moment]:>9}" for moment in MOMENTS),
            f"recovered after{len(recoveries):>18}  median {recoveries[len(recoveries) // 2]:.1f} s, "
            f"longest {recoveries[-1]:.1f} s",
            *(f"{name} away, then{'':<11}{after:>9.1f} s" for name, after in self.outages.items()),
            f"journeys of both workers{self.shared_journeys:>9}",
            *(f"{what:<24}{taken:>9.1f} s" for what, taken in self.seconds.items()),
            *(
                f"{each.table:<24}{each.rows:>9} rows {'DIFFERENT' if each.differences else 'equal'}"
                for each in self.tables
            ),
            *self.failures,
        ]


class Worker:
    """A process of the projector that is started again whenever it dies, with the fate that is due then."""

    def __init__(self, name: str, trial: Trial) -> None:
        self.name = name
        self._trial = trial
        self.process = self._start(IMMORTAL)

    def _start(self, fate: Fate) -> subprocess.Popen[bytes]:
        environment = self._trial.environment(self.name)
        environment |= {
            "FAULTS_FATE": str(fate) if fate.moment else "",
            "FAULTS_DIARY": str(self._trial.diary),
        }
        command = [sys.executable, "-m", "tests.faults.worker", self.name]
        with (self._trial.folder / f"{self.name}.log").open("ab") as sink:
            return subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, cwd=ROOT)

    @property
    def is_dead(self) -> bool:
        """Whether it was killed. Fails when it ended otherwise."""
        code = self.process.poll()
        assert code in (None, -signal.SIGKILL), f"worker {self.name} ended with {code}, see its log"
        return code is not None

    def kill(self) -> None:
        """SIGKILL, wherever it is, unless it is dead already."""
        if not self.is_dead:
            self._trial.note(self, "anywhere")
            self.process.kill()
            self.process.wait()

    def revive(self, fate: Fate) -> None:
        """Starts it again."""
        self.process = self._start(fate)

    async def stop(self) -> None:
        """Ends it in order."""
        self.process.terminate()
        code = await asyncio.to_thread(self.process.wait, STOP_SECONDS)
        assert code == 0, f"worker {self.name} ended with {code}"

    def end(self) -> None:
        """Ends it at any price."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Trial:
    """One database and consumer group on the servers, and the workers that feed it."""

    def __init__(self, servers: Servers, folder: Path, batch_records: int) -> None:
        self.name = f"crash_{uuid.uuid4().hex[:8]}"
        self.folder = folder / self.name
        self.folder.mkdir(parents=True)
        self.diary = self.folder / "diary.jsonl"
        self.addresses = servers.addresses._replace(
            postgres_dsn=f"{servers.addresses.postgres_dsn.rpartition('/')[0]}/{self.name}"
        )
        self._server_dsn = servers.addresses.postgres_dsn
        self._batch_records = batch_records
        self.workers: list[Worker] = []

    def environment(self, worker: str) -> dict[str, str]:
        """The settings of a process of this trial."""
        return os.environ | {
            "LEADLOG_POSTGRES_DSN": f"{self.addresses.postgres_dsn}?application_name={worker}",
            "LEADLOG_KAFKA_BOOTSTRAP": self.addresses.kafka_bootstrap,
            "LEADLOG_REGISTRY_URL": self.addresses.registry_url,
            "LEADLOG_STATE": str(self.folder),
            "LEADLOG_CONSUMER_GROUP": self.name,
            "LEADLOG_BATCH_RECORDS": str(self._batch_records),
        }

    async def open(self, *workers: str) -> None:
        """Makes the database with both versions and starts workers on it."""
        server = await asyncpg.connect(self._server_dsn)
        await server.execute(f"create database {self.name}")
        await server.close()
        await migrate(self.addresses.postgres_dsn, infra.MIGRATIONS)
        connection = await connect(self.addresses.postgres_dsn)
        for timeline in VERSIONS:
            entries = [TimelineEntry(start, file.read_text()) for start, file in timeline]
            async with connection.transaction():
                await stop_feeding(connection)
                number = await create_version(connection, entries)
                await let_feed(connection, number)
                if number == 1:
                    await promote(connection, number)
        await connection.execute(WITNESS)
        await connection.close()
        self.workers = [Worker(name, self) for name in workers]

    async def close(self) -> None:
        """Ends the workers, drops the database."""
        for worker in self.workers:
            worker.end()
        server = await asyncpg.connect(self._server_dsn)
        await drop_database(server, self.name)
        await server.close()

    def entries(self) -> list[dict[str, Any]]:
        """The diary so far."""
        return (
            [json.loads(line) for line in self.diary.read_text().splitlines()] if self.diary.exists() else []
        )

    def note(self, worker: Worker, moment: str) -> None:
        """What the harness did to a worker."""
        Diary(self.diary, worker.name).note(moment)

    async def value(self, query: str) -> int:
        """The number that a query gives; -1 while Postgres is away."""
        try:
            connection = await connect(self.addresses.postgres_dsn)
        except (OSError, asyncpg.PostgresError):
            return -1
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()

    async def stored(self) -> int:
        """Records in Postgres; -1 while it is away."""
        return await self.value(STORED)

    async def stored_more_than(self, records: int) -> None:
        """Waits for progress."""

        async def is_more() -> bool:
            return await self.stored() > records

        await until(is_more, "nothing more is stored")

    async def finish(self) -> None:
        """Waits until everything is in Postgres, then stops the workers in order."""
        behind = await wait(self.addresses, DEADLINE_SECONDS, _silent)
        assert behind.nothing, behind
        assert await self.value("select count(*) from ops.parked") == 0
        for worker in self.workers:
            await worker.stop()


def _silent(_: Behind) -> None:
    """Nobody reads along."""


class Publishing:
    """Generated lines, published slice by slice through the product's own door."""

    def __init__(self, addresses: Addresses, file: IO[bytes], folder: Path) -> None:
        self._environment = os.environ | {
            "LEADLOG_POSTGRES_DSN": addresses.postgres_dsn,
            "LEADLOG_KAFKA_BOOTSTRAP": addresses.kafka_bootstrap,
            "LEADLOG_REGISTRY_URL": addresses.registry_url,
            "LEADLOG_STATE": str(folder),
        }
        self._file = file
        self._log = folder / "publish.log"
        self.published = 0

    async def slice(self, lines: int) -> None:
        """The next lines; refused ones are part of the plan."""
        text = b"".join(islice(self._file, lines))
        self.published += text.count(b"\n")
        with self._log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *LEADLOG,
                "publish",
                "-",
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                env=self._environment,
            )
            await process.communicate(text)
        assert process.returncode in (0, 1), f"publish ended with {process.returncode}, see {self._log}"


async def run(servers: Servers, size: Size, folder: Path) -> Report:
    """The whole run. What fell short is in the report's `failures`."""
    events, kinds = await asyncio.to_thread(generate, size, folder)
    await prepare_log(servers.addresses)
    disturbed, calm = Trial(servers, folder, size.batch_records), Trial(servers, folder, 1_000)
    clock = Clock()
    try:
        await disturbed.open("one", "two")
        with events.open("rb") as lines:
            publishing = Publishing(servers.addresses, lines, disturbed.folder)
            await under_kills(disturbed, publishing, size)
            clock.lap("under kills")
            outages = await under_outages(servers, disturbed, publishing, size)
        await disturbed.finish()
        clock.lap("under outages")
        await calm.open("alone")
        await calm.finish()
        clock.lap("one worker, undisturbed")
        kills, recoveries = read_diary(disturbed.entries())
        shared = await disturbed.value(BOTH_WROTE)
        tables = await compared(disturbed, calm)
        return Report(size, kinds, kills, recoveries, outages, shared, clock.laps, tables)
    finally:
        await disturbed.close()
        await calm.close()


async def prepare_log(addresses: Addresses) -> None:
    """Empty topics, schemas, and the definition facts."""
    await empty_topics(addresses.kafka_bootstrap)
    async with Registry(addresses.registry_url) as registry:
        await registry.deploy()
    for file in sorted({file for timeline in VERSIONS for _, file in timeline}):
        await publish_definition(addresses, file.read_text())


class Clock:
    """Seconds of each part of a run."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, name: str) -> None:
        """A part has ended."""
        now = time.monotonic()
        self.laps[name], self._since = now - self._since, now


def generate(size: Size, folder: Path) -> tuple[Path, dict[str, tuple[int, float]]]:
    """A file of events of every kind, with number and share of each kind that must occur."""
    file = folder / "events.jsonl"
    command = ["generate", "--events", str(size.events), "--seed", str(size.seed), "--json", "-o", str(file)]
    done = subprocess.run([*LEADLOG, *command], check=True, stderr=subprocess.PIPE)
    report = json.loads(done.stderr)
    counts, journeys = report["kinds"], report["kinds"]["journey"]["journeys"]
    kinds = {name: (counts[name]["events"], counts[name]["events"] / report["events"]) for name in OF_EVENTS}
    kinds |= {name: (counts[name]["events"], counts[name]["journeys"] / journeys) for name in OF_JOURNEYS}
    return file, kinds


async def under_kills(trial: Trial, publishing: Publishing, size: Size) -> None:
    """Publishes most of the events while the workers die, as often as it takes."""
    rng = Random(size.seed)
    source = asyncio.create_task(_publish(trial, publishing, size))
    next_blow = time.monotonic() + rng.uniform(*BLOW_SECONDS)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not source.done():
            for worker in trial.workers:
                if worker.is_dead:
                    worker.revive(await fate(trial, rng, size))
            if time.monotonic() > next_blow:
                rng.choice(trial.workers).kill()
                next_blow = time.monotonic() + rng.uniform(*BLOW_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)
    await source
    for worker in trial.workers:  # one may have a fate left
        worker.kill()
        worker.revive(IMMORTAL)


async def _publish(trial: Trial, publishing: Publishing, size: Size) -> None:
    """Most of the events as fast as they can be published, then a batch at a time while more kills are
    needed: at least a batch is left for the outages."""
    end, portion = int(size.events * DISTURBED), max(250, size.events // 40)
    while publishing.published < end or not _is_enough(trial, size):
        if publishing.published > size.events - 2 * size.batch_records:
            raise AssertionError(f"all is published, but workers died only {_kills(trial)}")
        await publishing.slice(portion if publishing.published < end else size.batch_records)
        while publishing.published >= end and not _is_enough(trial, size):
            if await trial.stored() > CAUGHT_UP * publishing.published:
                break
            await asyncio.sleep(LOOK_SECONDS)


def _kills(trial: Trial) -> Counter[str]:
    return Counter(entry["moment"] for entry in trial.entries() if entry["moment"] in MOMENTS)


def _is_enough(trial: Trial, size: Size) -> bool:
    kills = _kills(trial)
    return all(kills[moment] >= size.kills for moment in MOMENTS[:2])


async def fate(trial: Trial, rng: Random, size: Size) -> Fate:
    """What becomes of a worker that is started now: the deaths left are spread over the events left."""
    kills = _kills(trial)
    left = [moment for moment in MOMENTS[:2] for _ in range(size.kills - kills[moment])]
    if not left:
        return IMMORTAL
    batches = max(0, int(size.events * DISTURBED) - await trial.stored()) // size.batch_records
    return Fate(rng.choice(left), rng.randrange(1 + 3 * batches // (2 * len(left) + 2)), rng.randrange(2**32))


async def under_outages(
    servers: Servers, trial: Trial, publishing: Publishing, size: Size
) -> dict[str, float]:
    """Publishes the rest while each server dies once; the workers, alive now, must be the same at the end."""
    await _all_read(trial)
    before = [worker.process.pid for worker in trial.workers]
    portion = (size.events - publishing.published) // (2 * len(OUTAGES)) + 1
    outages = {}
    for name, seconds in OUTAGES:
        await publishing.slice(portion)
        outages[name] = await _outage(servers, trial, name, seconds, partial(publishing.slice, portion))
    assert [worker.process.pid for worker in trial.workers] == before
    assert all(worker.process.poll() is None for worker in trial.workers)
    return outages


async def _all_read(trial: Trial) -> None:
    """Waits until every worker has partitions."""

    async def do_read() -> bool:
        return {worker.process.pid for worker in trial.workers} <= _assigned(trial)

    await until(do_read, "a worker has no partitions")


def _assigned(trial: Trial) -> set[int]:
    return {entry["pid"] for entry in trial.entries() if entry["moment"] == "assigned"}


async def _outage(
    servers: Servers, trial: Trial, name: str, seconds: float, publish: Callable[[], Awaitable[None]]
) -> float:
    """SIGKILL, and away for so long; returns the seconds from its return to the next stored record.

    Publishes only while it is away, or all could be stored before and there would be no next record.
    """
    before = await trial.stored()
    await take_away(servers, name)
    source = asyncio.ensure_future(publish())
    await asyncio.sleep(seconds)
    before = max(before, await trial.stored())
    await bring_back(servers, name)
    returned = time.monotonic()
    await trial.stored_more_than(before)
    recovered = time.monotonic() - returned
    await source
    return recovered


def read_diary(entries: list[dict[str, Any]]) -> tuple[Counter[str], list[float]]:
    """Kills by moment, and per kill the seconds until that worker stored again, if it did before the next."""
    kills: Counter[str] = Counter()
    recoveries = []
    killed_at: dict[str, float] = {}
    for entry in sorted(entries, key=lambda entry: float(entry["at"])):
        worker, moment, at = entry["worker"], entry["moment"], float(entry["at"])
        if moment in MOMENTS:
            kills[moment] += 1
            killed_at[worker] = at
        elif moment == "stored" and worker in killed_at:
            recoveries.append(at - killed_at.pop(worker))
    return kills, recoveries


async def compared(disturbed: Trial, calm: Trial) -> list[Compared]:
    """Every table of the log and of both versions."""
    one, other = await connect(disturbed.addresses.postgres_dsn), await connect(calm.addresses.postgres_dsn)
    try:
        return await compare(one, other, SCHEMAS)
    finally:
        await one.close()
        await other.close()


@click.command()
@click.option("--events", default=200_000, show_default=True, help="Generated events of every kind.")
@click.option("--kills", default=20, show_default=True, help="SIGKILLs at each of the two moments, at least.")
@click.option(
    "--batch", default=250, show_default=True, help="Records of a batch: smaller ones, more moments."
)
@click.option(
    "--shared", default=100, show_default=True, help="Journeys that both workers must have written."
)
@click.option("--seed", default=1, show_default=True)
def main(events: int, kills: int, batch: int, shared: int, seed: int) -> None:
    """Kill workers and servers under a stream of events; exit 0 when no table tells, else 1."""
    servers = begin()
    folder = Path(tempfile.mkdtemp(prefix="leadlog-crash-"))
    click.echo(f"logs and diary are in {folder}, until the run has ended well", err=True)
    try:
        report = asyncio.run(run(servers, Size(events, kills, batch, shared, seed), folder))
    finally:
        servers.close()
    click.echo("\n".join(report.lines()))
    if report.failures:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
