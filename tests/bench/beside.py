"""What a replay does to everybody else: `python -m tests.bench.beside`.

Live events while versions are built beside them, and readers while the views go from one version to another
and back. Each is compared with the same moments before, in the same run.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from typing import NamedTuple

import asyncpg
import click
import msgspec
import uvloop

from schemas.records import Actor, Record
from services.replay.switch import switch
from services.settings import Addresses
from services.store.pool import session
from tests.bench import ground
from tests.bench.latency import Trickle
from tests.bench.live import ONE, PER_SECOND, TWO_VERSIONS, WARM_UP, head, percentiles, trickle
from tests.bench.reading import READERS, Reads
from tests.bench.replay import BUILD
from tests.bench.trial import trial
from tests.servers import RunningServers

PARTS = ("live", "readers")
SWITCHES = 20
PAUSE_SECONDS = 0.5
"""Between two switches."""
CURSOR_SECONDS = 5.0
"""How long a cursor stays open in the way of a switch."""
ENGINEER = Actor("human", "bench")


async def live(servers: RunningServers, events: int, seconds: int) -> None:
    """Latency of live events alone, beside builds that throttle themselves, and beside builds that do not."""
    measured = PER_SECOND * seconds
    records = ground.made_up(events + WARM_UP + 3 * measured)
    await ground.fill(servers.addresses, islice(records, events))
    async with trial(servers, ONE) as running:
        await running.drain()
        await trickle(Trickle(running.addresses), islice(records, WARM_UP), counts=False)
        head(f"live events, {PER_SECOND}/s, after {events:,}")
        percentiles("no build", await trickled(running.addresses, islice(records, measured)))
        for name, options in (("beside a build", ()), ("beside a build, --full-speed", ("--full-speed",))):
            async with builds(running.addresses, options) as built:
                percentiles(name, await trickled(running.addresses, islice(records, measured)))
            click.echo(f"  {len(built)} builds, seconds each: {' '.join(f'{each:.1f}' for each in built)}")


async def trickled(addresses: Addresses, records: Iterable[Record]) -> list[float]:
    """Milliseconds of events sent at the steady rate."""
    return await trickle(Trickle(addresses), records, counts=True)


@asynccontextmanager
async def builds(addresses: Addresses, options: Sequence[str]) -> AsyncIterator[list[float]]:
    """One build after the other while the block runs; the seconds that each took."""
    took: list[float] = []
    stop = asyncio.Event()
    building = asyncio.create_task(_build(addresses, options, took, stop))
    try:
        yield took
    finally:
        stop.set()
        await building


async def _build(
    addresses: Addresses, options: Sequence[str], took: list[float], stop: asyncio.Event
) -> None:
    environment = os.environ | {f"LEADLOG_{name.upper()}": each for name, each in addresses._asdict().items()}
    command = [each for each in BUILD if each != "--full-speed"]
    with tempfile.TemporaryDirectory() as state:
        while not stop.is_set():
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *(*command, *options, "--definition", str(ground.DEFINITIONS[1])),
                env=environment | {"LEADLOG_STATE": state},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            if await process.wait():
                raise RuntimeError(f"the build ended with {process.returncode}")
            took.append(time.monotonic() - began)


async def readers(servers: RunningServers, events: int) -> None:
    """What reads take while nothing happens, while the views are switched, and with a cursor in the way."""
    await ground.fill(servers.addresses, ground.made_up(events))
    async with trial(servers, TWO_VERSIONS) as running:
        await running.drain()
        dsn = running.addresses.postgres_dsn
        click.echo(f"\n{READERS} readers at full speed; ms{'':25}{'p50':>8}{'p99':>8}{'max':>8}{'reads':>9}")
        reads_line("nothing happens", await reading(dsn, SWITCHES * PAUSE_SECONDS))
        during, found = await asyncio.gather(reading(dsn, SWITCHES * PAUSE_SECONDS + 2), switches(dsn))
        reads_line(f"{SWITCHES} switches", during)
        blocked, _, waited = await asyncio.gather(
            reading(dsn, CURSOR_SECONDS + 2), cursor(dsn), switched(dsn, 2)
        )
        reads_line(f"a cursor is open for {CURSOR_SECONDS:.0f} s", blocked)
    seconds = [each.seconds for each in found]
    click.echo(
        f"switch: median {statistics.median(seconds) * 1e3:.0f} ms, longest {max(seconds) * 1e3:.0f} ms, "
        f"attempts {sum(each.attempts for each in found)} for {SWITCHES}; "
        f"with the cursor {waited.seconds:.2f} s, {waited.attempts} attempts"
    )


class Took(NamedTuple):
    """One switch."""

    seconds: float
    attempts: int


async def switches(dsn: str) -> list[Took]:
    """To and fro."""
    return [await switched(dsn, 2 - number % 2) for number in range(SWITCHES)]


async def switched(dsn: str, number: int) -> Took:
    """Lets the readers have another version, after a pause."""
    await asyncio.sleep(PAUSE_SECONDS)
    async with session(dsn) as connection:
        done = await switch(connection, number, ENGINEER)
        return Took(done.seconds, done.attempts)


async def cursor(dsn: str) -> None:
    """A report that is read slowly."""
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        rows = await connection.cursor("select * from bi.lead_current")
        await rows.fetch(1)
        await asyncio.sleep(CURSOR_SECONDS)
    await connection.close()


async def reading(dsn: str, seconds: float) -> Reads:
    """What reads took, by readers in a process of their own: nothing else that runs here is in them."""
    command = [sys.executable, "-m", "tests.bench.reading", dsn, str(seconds)]
    run = partial(subprocess.run, command, cwd=ground.ROOT, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode((await asyncio.to_thread(run)).stdout, type=Reads)


def reads_line(name: str, took: Reads) -> None:
    """A row of reads."""
    click.echo(f"{name:44}{took.p50:>8.1f}{took.p99:>8.1f}{took.longest:>8.1f}{took.reads:>9,}")


async def measure(events: int, seconds: int, parts: Sequence[str]) -> None:
    """The parts, table by table."""
    work = {
        "live": lambda servers: live(servers, events, seconds),
        "readers": lambda servers: readers(servers, events // 10),
    }
    await ground.run_parts(parts, work)


@click.command()
@click.option("--events", default=200_000, show_default=True, help="In the log when it begins.")
@click.option("--seconds", default=30, show_default=True, help="Of live events in each row.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this; may be repeated.")
def main(events: int, seconds: int, parts: tuple[str, ...]) -> None:
    """What live events and readers notice of a replay. Takes about 6 minutes."""
    uvloop.run(measure(events, seconds, parts or PARTS))


if __name__ == "__main__":
    main()
