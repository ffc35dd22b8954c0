"""Where a worker's time goes: Python by CPU samples, SQL by the client's clock, for one worker and one
version.

`python -m tests.bench.profile` runs the bare loop inside this process, so the projector itself is unchanged.
A sample is taken each millisecond of this process' CPU time and counts for the innermost frame of each file
and function on the stack. The seconds of a statement are those the worker waits for it, its encoding
included.
"""

import asyncio
import signal
import time
from collections import Counter
from types import FrameType
from typing import Any, NamedTuple

import asyncpg
import click
import uvloop

from schemas.topics import INPUT_TOPICS
from services.broker import end_offsets
from services.projector.handler import Projector
from services.settings import Addresses
from services.store import pool
from services.wait import look
from tests.bench import ground
from tests.bench.bare import consume

SAMPLE_SECONDS = 0.001
SHOWN = 60


class Cost(NamedTuple):
    """Of the whole run, in seconds."""

    wall: float
    cpu: float


class Samples:
    """Counts of what ran: own time by function, and time including callees."""

    def __init__(self) -> None:
        self.own: Counter[str] = Counter()
        self.all: Counter[str] = Counter()

    def take(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        names = []
        while frame is not None:
            code = frame.f_code
            names.append(f"{'/'.join(code.co_filename.split('/')[-2:])}:{code.co_qualname}")
            frame = frame.f_back
        if names:
            self.own[names[0]] += 1
            self.all.update(set(names))


class Statements:
    """Seconds and calls by statement."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def take(self, query: Any) -> None:
        """The query logger."""
        text = " ".join(query.query.split())[:90]
        self.seconds[text] += query.elapsed
        self.calls[text] += 1


async def measure(addresses: Addresses, events: int, samples: Samples, statements: Statements) -> Cost:
    """Runs until all is stored; returns what it took."""
    prepare = pool.prepare

    async def logged(connection: "asyncpg.Connection[Any]") -> None:
        await prepare(connection)
        connection.add_query_logger(statements.take)

    pool.prepare = logged
    handler = Projector(addresses)
    await handler.start()
    ends = await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS)
    reader = await asyncpg.connect(addresses.postgres_dsn)
    signal.signal(signal.SIGPROF, samples.take)
    work = asyncio.create_task(consume(handler, addresses, addresses.postgres_dsn.rpartition("/")[2]))
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)
    started, cpu = time.monotonic(), time.process_time()
    try:
        while not (await look(reader, ends)).nothing:
            await asyncio.wait([work], timeout=0.2)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        cost = Cost(time.monotonic() - started, time.process_time() - cpu)
        work.cancel()
        await asyncio.wait([work])
        await handler.stop()
        await reader.close()
    return cost


def show(counter: Counter[str], scale: float, calls: Counter[str] | None = None) -> None:
    """The biggest entries."""
    for name, count in counter.most_common(SHOWN):
        more = f"{calls[name]:>8}x" if calls else ""
        click.echo(f"{count * scale:>9.1f}{more}  {name}")


async def _run(addresses: Addresses, events: int, versions: int, is_filled: bool) -> None:
    samples, statements = Samples(), Statements()
    if not is_filled:
        await ground.fill(addresses, ground.made_up(events, seed=1))
    events = sum((await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS)).values())
    async with ground.database(addresses, versions) as own:
        cost = await measure(own, events, samples, statements)
    click.echo(
        f"{events} events in {cost.wall:.1f} s, {events / cost.wall:.0f}/s, "
        f"{cost.cpu / events * 1e6:.1f} us of CPU per event, {sum(samples.own.values())} samples"
    )
    of_sample = cost.cpu / sum(samples.own.values()) / events * 1e6
    click.echo("\nPython, microseconds of CPU per event, own")
    show(samples.own, of_sample)
    click.echo("\nPython, microseconds of CPU per event, with what it calls")
    show(samples.all, of_sample)
    click.echo(
        f"\nSQL, microseconds waited per event, {sum(statements.seconds.values()) / events * 1e6:.1f} in all"
    )
    show(statements.seconds, 1e6 / events, statements.calls)


@click.command()
@click.option("--events", default=20_000, show_default=True)
@click.option("--versions", default=1, show_default=True)
@click.option("--filled", is_flag=True, help="Read what is on the topics.")
def main(events: int, versions: int, filled: bool) -> None:
    """Shows what an event costs."""
    servers = ground.servers()
    try:
        uvloop.run(_run(servers.addresses, events, versions, filled))
    finally:
        servers.close()


if __name__ == "__main__":
    main()
