"""The HTTP door beside a bare handler that checks nothing: `python -m tests.bench.ingest`.

Both are one process each, on the same broker, and take turns with the same events. The load comes from this
process, on another core. A rate is what came through while broker and load shared the machine; the CPU of the
door, per event, is what it would take with a core for itself.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import uvloop

from services.generator import kinds
from services.generator.stream import Plan, lines
from services.settings import Addresses
from tests.bench import ground
from tests.bench.live import head, percentiles
from tests.bench.load import flood, request, trickle
from tests.door import COMMAND, Door, make_keys
from tests.servers import RunningServers

PARTS = ("batches", "singles", "latency")
PER_SECOND = 500
"""Single requests a second while latency is measured."""
WARM_UP = 200
"""Requests before a measurement."""
RIVALS = {"bare handler, unchecked": (sys.executable, "-m", "tests.bench.bare_door"), "the door": COMMAND}


class Flood(NamedTuple):
    """Requests as fast as they are answered."""

    size: int
    """Events in a request; a single one is sent as an object."""
    at_once: int

    def bodies(self, made: Sequence[bytes]) -> list[bytes]:
        """The events as bodies."""
        if self.size == 1:
            return list(made)
        return [b"[" + b",".join(made[at : at + self.size]) + b"]" for at in range(0, len(made), self.size)]


BATCHES, SINGLES = Flood(100, 8), Flood(1, 64)


class Used(NamedTuple):
    """What a flood took."""

    rate: float
    """Events a second."""
    cpu_us: float
    """Of the door, for each event."""
    resident_mb: float


def events(number: int) -> list[bytes]:
    """Made-up events as the door takes them: without `recorded_at`."""
    made = []
    for line in lines(Plan(1, number, None, ground.START, 365, kinds.shares("usual,refused=0"))):
        event = msgspec.json.decode(line.json)
        del event["recorded_at"]
        made.append(msgspec.json.encode(event))
    return made


@contextmanager
def door(addresses: Addresses, command: Sequence[str]) -> Iterator[Door]:
    """One of the rivals, ready."""
    with tempfile.TemporaryDirectory(prefix="leadlog-bench-") as folder:
        running = Door(addresses, Path(folder), command)
        try:
            if command == COMMAND:
                running.wait_until_ready()
            yield running
        finally:
            running.stop()


class Bench(NamedTuple):
    """What all parts need."""

    addresses: Addresses
    key: str
    made: Sequence[bytes]

    async def flooded(self, command: Sequence[str], load: Flood) -> Used:
        """One run of a rival."""
        with door(self.addresses, command) as running:
            requests = [request(running.url, self.key, body) for body in load.bodies(self.made)]
            await flood(running.url, requests[:WARM_UP], load.at_once)
            before = running.cpu_seconds()
            seconds = await flood(running.url, requests, load.at_once)
            cpu = running.cpu_seconds() - before
            number = len(self.made)
            return Used(number / seconds, cpu / number * 1e6, running.resident_mb())

    async def rates(self, load: Flood, rounds: int) -> None:
        """A table of rates."""
        what = f"{load.size} to a request, {load.at_once} requests at once"
        click.echo(f"\n{what:44}{'events/s':>10}{'CPU us':>8}{'1e6/CPU':>10}{'MB':>6}  each round")
        runs: dict[str, list[Used]] = {name: [] for name in RIVALS}
        for _ in range(rounds):
            for name, command in RIVALS.items():
                runs[name].append(await self.flooded(command, load))
        for name, found in runs.items():
            rate, cpu, memory = (statistics.median(each) for each in zip(*found, strict=True))
            told = " ".join(f"{used.rate:.0f}" for used in found)
            click.echo(f"{name:44}{rate:>10,.0f}{cpu:>8.0f}{1e6 / cpu:>10,.0f}{memory:>6.0f}  {told}")

    async def latency(self) -> None:
        """A table of latencies."""
        head(f"single requests at {PER_SECOND}/s")
        for name, command in RIVALS.items():
            with door(self.addresses, command) as running:
                requests = [request(running.url, self.key, body) for body in self.made]
                await trickle(running.url, requests[:WARM_UP], PER_SECOND, SINGLES.at_once)
                percentiles(name, await trickle(running.url, requests, PER_SECOND, SINGLES.at_once))


async def measure(
    servers: RunningServers, number: int, rounds: int, seconds: int, parts: Sequence[str]
) -> None:
    """The parts, table by table."""
    await ground.fill(servers.addresses, [])
    made = events(number)
    async with ground.database(servers.addresses, versions=0) as addresses:
        bench = Bench(addresses, (await make_keys(addresses.postgres_dsn)).everything, made)
        if "batches" in parts:
            await bench.rates(BATCHES, rounds)
        if "singles" in parts:
            await bench._replace(made=made[: number // 5]).rates(SINGLES, rounds)
        if "latency" in parts:
            await bench._replace(made=made[: seconds * PER_SECOND]).latency()


@click.command()
@click.option(
    "--events", "number", default=100_000, show_default=True, help="Of each run; a fifth as single requests."
)
@click.option("--rounds", default=3, show_default=True, help="Turns of both.")
@click.option("--seconds-latency", default=30, show_default=True, help="Of each.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this; may be repeated.")
def main(number: int, rounds: int, seconds_latency: int, parts: tuple[str, ...]) -> None:
    """Rate, CPU, memory and latency of the HTTP door on servers of its own. Takes about 5 minutes."""
    servers = ground.servers()
    try:
        uvloop.run(measure(servers, number, rounds, seconds_latency, parts or PARTS))
    finally:
        servers.close()


if __name__ == "__main__":
    main()
