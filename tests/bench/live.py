"""The live path beside a bare loop: `python -m tests.bench.live [--events N] [--rounds N] [--seconds N]`.

Every variant reads the same topics into a database of its own, in turn, `--rounds` times; the medians stand
in the table. Latency is from before `send` to the moment when a tight poll on a connection of its own sees
the event in Postgres, at a steady rate; Faust and the bare loop in the same run.
"""

import asyncio
import os
import statistics
import subprocess
import time
import uuid
from collections.abc import Sequence
from importlib import resources

import click
from aiokafka import AIOKafkaProducer

import projections
from schemas.records import TouchRecorded
from schemas.wire import encode
from services.broker import create_producer, ensure_topics
from services.settings import Addresses
from services.store.pool import Connection, connect
from tests.bench.trial import BARE, FAUST, LEADLOG, Used, Variant, drain, trial
from tests.histories import Timeline
from tests.servers import RunningServers, begin

RATE = 20
"""Events a second while latency is measured."""
VISIBLE_SECONDS = 30.0
LONG_EVENTS = 20_000


def default_timeline() -> Timeline:
    """The definition that ships."""
    return [(None, resources.files(projections).joinpath("default.yaml").read_text())]


def stricter_timeline() -> Timeline:
    """The same with a higher bar for an MQL."""
    text = default_timeline()[0][1]
    return [
        (
            None,
            text.replace("version: 1", "version: 2", 1).replace("score_at_least: 50", "score_at_least: 80"),
        )
    ]


def variants() -> list[Variant]:
    """What is compared; the bare loop is the measure."""
    one, two = [default_timeline()], [default_timeline(), stricter_timeline()]
    return [
        Variant("bare loop, 1 worker, 1 version", BARE, 1, one),
        Variant("Faust, 1 worker, 1 version", FAUST, 1, one),
        Variant("Faust, 1 worker, 2 versions", FAUST, 1, two),
        Variant("bare loop, 2 workers, 1 version", BARE, 2, one),
        Variant("Faust, 2 workers, 1 version", FAUST, 2, one),
    ]


def publish(addresses: Addresses, events: int) -> None:
    """Puts generated events of a tidy company on the topics."""
    environment = os.environ | {f"LEADLOG_{k.upper()}": v for k, v in addresses._asdict().items()}
    made = subprocess.Popen(
        [LEADLOG, "generate", "--events", str(events), "--kinds", "usual"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    subprocess.run(
        [LEADLOG, "publish", "-"], stdin=made.stdout, env=environment, stderr=subprocess.DEVNULL, check=False
    )


async def latencies(servers: RunningServers, variant: Variant, seconds: int) -> list[float]:
    """Milliseconds from send to visible of a steady trickle, once everything older is stored."""
    async with trial(servers, variant) as (addresses, _):
        producer = create_producer(addresses.kafka_bootstrap)
        await producer.start()
        connection = await connect(addresses.postgres_dsn)
        try:
            await visible(producer, connection, 600.0)
            for _ in range(RATE):
                await visible(producer, connection, VISIBLE_SECONDS)
            found = []
            for _ in range(RATE * seconds):
                began = time.monotonic()
                found.append(await visible(producer, connection, VISIBLE_SECONDS) * 1e3)
                await asyncio.sleep(max(0.0, 1 / RATE - (time.monotonic() - began)))
            return found
        finally:
            await connection.close()
            await producer.stop()


async def visible(producer: AIOKafkaProducer, connection: Connection, patience: float) -> float:
    """Sends one event and returns the seconds until Postgres has it."""
    event = touch(f"bench:{uuid.uuid4().hex}")
    began = time.monotonic()
    await producer.send("lead.events", encode(event), key=event.subject_id.encode())
    while not await connection.fetchval(
        "select exists (select from log.event where event_id = $1)", event.event_id
    ):
        if time.monotonic() - began > patience:
            raise TimeoutError(f"{event.event_id} is not in Postgres after {patience} s")
    return time.monotonic() - began


def touch(event_id: str, subject_id: str | None = None) -> TouchRecorded:
    """A page view of now."""
    now = time.time_ns() // 1000
    return TouchRecorded(
        event_id=event_id,
        subject_id=subject_id or event_id,
        occurred_at=now,
        recorded_at=now,
        source="bench",
        touch_type="page_view",
        direction="inbound",
        channel="email",
    )


async def commit_milliseconds(dsn: str, commits: int = 300) -> list[float]:
    """What a COMMIT of one row takes on this disk, by itself."""
    connection = await connect(dsn)
    await connection.execute("create table if not exists commit_probe (n int)")
    found = []
    for n in range(commits):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("insert into commit_probe values ($1)", n)
        began = time.monotonic()
        await transaction.commit()
        found.append((time.monotonic() - began) * 1e3)
    await connection.execute("drop table commit_probe")
    await connection.close()
    return found


async def with_long_journey(
    servers: RunningServers, variant: Variant, seconds: int
) -> tuple[list[float], list[float]]:
    """Latencies of others without, and then with, a journey of LONG_EVENTS events that gets events too."""
    async with trial(servers, variant) as (addresses, _):
        producer = create_producer(addresses.kafka_bootstrap)
        await producer.start()
        connection = await connect(addresses.postgres_dsn)
        try:
            await visible(producer, connection, 600.0)
            calm = [await paced(producer, connection) for _ in range(RATE * seconds)]
            subject = f"bench:long:{uuid.uuid4().hex}"
            for n in range(LONG_EVENTS):
                await send_long(producer, subject, n)
            await visible(producer, connection, 600.0)
            beside = []
            for n in range(RATE * seconds):
                await send_long(producer, subject, LONG_EVENTS + n)
                beside.append(await paced(producer, connection))
            return calm, beside
        finally:
            await connection.close()
            await producer.stop()


async def send_long(producer: AIOKafkaProducer, subject: str, n: int) -> None:
    """One more event of the long journey."""
    event = touch(f"{subject}:{n}", subject)
    await producer.send("lead.events", encode(event), key=subject.encode())


async def paced(producer: AIOKafkaProducer, connection: Connection) -> float:
    """Milliseconds until visible, at the steady rate."""
    began = time.monotonic()
    found = await visible(producer, connection, VISIBLE_SECONDS) * 1e3
    await asyncio.sleep(max(0.0, 1 / RATE - (time.monotonic() - began)))
    return found


def median_of(runs: Sequence[Used]) -> Used:
    """Field by field the median of several runs of one variant."""
    columns = list(zip(*(run[1:] for run in runs), strict=True))
    return Used(runs[0].variant, *(statistics.median(column) for column in columns))


def print_rates(found: Sequence[Used]) -> None:
    """The table of rates."""
    click.echo(
        f"{'':34}{'events/s':>10}{'ratio':>7}{'worker us':>11}{'broker us':>11}{'postgres us':>13}{'MB':>6}"
    )
    bare = {used.variant.split(", ")[1]: used.rate for used in found if used.variant.startswith("bare")}
    for used in found:
        ratio = used.rate / bare[used.variant.split(", ")[1]]
        click.echo(
            f"{used.variant:34}{used.rate:10,.0f}{ratio:7.2f}{used.worker_cpu:11.0f}{used.broker_cpu:11.0f}"
            f"{used.postgres_cpu:13.0f}{used.worker_mb:6.0f}"
        )


def print_latency(name: str, found: Sequence[float]) -> None:
    """A row of percentiles."""
    cuts = statistics.quantiles(found, n=100)
    click.echo(f"{name:44}{cuts[49]:9.1f}{cuts[94]:9.1f}{cuts[98]:9.1f}{len(found):8}")


async def measure(servers: RunningServers, events: int, rounds: int, seconds: int) -> None:
    """Everything, table by table."""
    await ensure_topics(servers.addresses.kafka_bootstrap)
    publish(servers.addresses, events)
    runs: dict[str, list[Used]] = {}
    for _ in range(rounds):
        for variant in variants():
            runs.setdefault(variant.name, []).append(await drain(servers, variant))
    print_rates([median_of(each) for each in runs.values()])
    click.echo(f"\n{'milliseconds at 20 events/s':44}{'p50':>9}{'p95':>9}{'p99':>9}{'events':>8}")
    for variant in variants()[:3]:
        print_latency(variant.name, await latencies(servers, variant, seconds))
    print_latency("a commit of one row by itself", await commit_milliseconds(servers.addresses.postgres_dsn))
    calm, beside = await with_long_journey(servers, variants()[1], seconds)
    print_latency("Faust, without a long journey", calm)
    print_latency(f"Faust, beside one of {LONG_EVENTS:,} events", beside)


@click.command()
@click.option("--events", default=100_000, show_default=True)
@click.option("--rounds", default=2, show_default=True)
@click.option("--seconds", default=30, show_default=True, help="Of latency, each.")
def main(events: int, rounds: int, seconds: int) -> None:
    """Measure the live path."""
    servers = begin()
    assert isinstance(servers, RunningServers), "processes are measured on the local stack"
    try:
        asyncio.run(measure(servers, events, rounds, seconds))
    finally:
        servers.close()


if __name__ == "__main__":
    main()
