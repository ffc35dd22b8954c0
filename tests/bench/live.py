"""The live path, Faust beside a bare aiokafka loop with the same transaction: `python -m tests.bench.live`.

Variants take turns, `--rounds` times; rates are medians, latencies of all rounds are put together. What is
compared is compared within one run: rates of different runs differ by the machine's other work.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

import click
import uvloop

from schemas.records import Record
from services.store.pool import session
from tests.bench import bare_rows, ground
from tests.bench.latency import Commits, Trickle, commits
from tests.bench.trial import BARE, FAUST, Trial, Used, Variant, tree_seconds, trial
from tests.servers import RunningServers

PARTS = ("rates", "latency", "long", "memory", "growth")
PER_SECOND = 20
"""Events a second while latency is measured."""
WARM_UP = 60
"""Events of a trickle that are not measured: the first ones find cold caches and plans to be made."""
BEFORE = 20_000
"""Events stored before a trickle begins, so that it meets journeys and tables of some size."""
LONG_EVENTS = 20_000
LONG_PER_SECOND = 5
"""Events a second for the long journey while others are measured."""

JOURNEYS = (10_000, 100_000, 1_000_000)
"""Journeys known when the cost of an event is measured."""
GROWTH_EVENTS = 20_000
GROWTH_ROUNDS = 9
"""Rounds of so many events of journeys in turn, measured at each number of them; a fifth as many as there are
journeys at most, or few journeys would be long ones as well. Medians are shown,
and the most of Postgres: in the first rounds after a checkpoint, one in 15 minutes, pages are written
whole."""

ONE = Variant("Faust, 1 worker, 1 version", FAUST, 1, 1)
BARE_ONE = Variant("bare loop, 1 worker, 1 version", BARE, 1, 1)
TWO_VERSIONS = Variant("Faust, 1 worker, 2 versions", FAUST, 1, 2)
GROWING = Variant("Faust, batches of 500", ("env", "LEADLOG_BATCH_RECORDS=500", *FAUST), 1, 1)
"""No two events of a batch are of one journey, also when there are 10,000 on 12 partitions."""
RATES = (
    BARE_ONE,
    ONE,
    Variant("bare loop, 1 worker, 2 versions", BARE, 1, 2),
    TWO_VERSIONS,
    Variant("bare loop, 2 workers, 1 version", BARE, 2, 1),
    Variant("Faust, 2 workers, 1 version", FAUST, 2, 1),
)
"""Each Faust variant behind its rival."""
LATENCIES = (BARE_ONE, ONE, TWO_VERSIONS)

Milliseconds = list[float]


async def rates(servers: RunningServers, events: int, rounds: int) -> None:
    """The table of rates and costs."""
    await ground.fill(servers.addresses, ground.made_up(events))
    runs: dict[Variant, list[Used]] = {variant: [] for variant in RATES}
    for _ in range(rounds):
        for variant in RATES:
            runs[variant].append(await drained(servers, variant))
    click.echo(f"\n{events:,} events from the topics to the tables; CPU in microseconds per event")
    click.echo(
        f"{'':34}{'events/s':>10}{'of bare':>9}{'worker':>9}{'broker':>9}{'Postgres':>10}{'peak MB':>9}"
        "  each round"
    )
    medians = {variant: median(found) for variant, found in runs.items()}
    for rival, variant in zip(RATES[::2], RATES[1::2], strict=True):
        for each in (rival, variant):
            rounds_told = " ".join(f"{used.rate:.0f}" for used in runs[each])
            click.echo(rate_line(each, medians[each], medians[rival]) + f"  {rounds_told}")


async def drained(servers: RunningServers, variant: Variant) -> Used:
    """One run from the topics' beginning."""
    async with trial(servers, variant) as running:
        return await running.drain()


def median(runs: Sequence[Used]) -> Used:
    """Field by field."""
    events, *measured = zip(*runs, strict=True)
    return Used(int(statistics.median(events)), *(statistics.median(each) for each in measured))


def rate_line(variant: Variant, used: Used, rival: Used) -> str:
    """A row of the table."""
    return (
        f"{variant.name:34}{used.rate:>10,.0f}{used.rate / rival.rate:>9.2f}{used.worker_us:>9.0f}"
        f"{used.broker_us:>9.0f}{used.postgres_us:>10.0f}{used.peak_mb:>9.0f}"
    )


async def latency(servers: RunningServers, seconds: int, rounds: int) -> None:
    """The table of latencies."""
    found: dict[Variant, Milliseconds] = {variant: [] for variant in LATENCIES}
    committed: dict[Variant, list[Commits]] = {variant: [] for variant in LATENCIES}
    for _ in range(rounds):
        for variant in LATENCIES:
            times, added = await trickled(servers, variant, seconds // rounds)
            found[variant] += times
            committed[variant].append(added)
    head("publish to visible, then commit")
    for variant in LATENCIES:
        percentiles(variant.name, found[variant])
    for variant in LATENCIES:
        commit_line(f"  commit: {variant.name}", committed[variant])


async def trickled(servers: RunningServers, variant: Variant, seconds: int) -> tuple[Milliseconds, Commits]:
    """Latencies and commits of a trickle that goes on where the stored events end."""
    measured = PER_SECOND * seconds
    records = ground.made_up(BEFORE + WARM_UP + measured)
    await ground.fill(servers.addresses, islice(records, BEFORE))
    async with trial(servers, variant) as running:
        await running.drain()
        await trickle(Trickle(running.addresses), islice(records, WARM_UP), counts=False)
        before = commits(worker.metrics() for worker in running.workers)
        found = await trickle(Trickle(running.addresses), records, counts=True)
        return found, commits(worker.metrics() for worker in running.workers).since(before)


async def trickle(watched: Trickle, records: Iterable[Record], counts: bool) -> Milliseconds:
    """Sends records at the steady rate."""
    await watched.run(((record, counts) for record in records), PER_SECOND)
    return watched.found


def head(what: str) -> None:
    """The first line of a table of milliseconds."""
    click.echo(f"\n{f'{what}, ms':44}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}{'events':>8}")


def percentiles(name: str, found: Milliseconds) -> None:
    """A row of a table of milliseconds."""
    cuts = statistics.quantiles(found, n=100)
    click.echo(f"{name:44}{cuts[49]:>8.1f}{cuts[94]:>8.1f}{cuts[98]:>8.1f}{max(found):>8.1f}{len(found):>8}")


def commit_line(name: str, parts: Sequence[Commits]) -> None:
    """A row of commits, from the workers' histograms."""
    buckets = {bound: sum(part.buckets[bound] for part in parts) for bound in parts[0].buckets}
    whole = Commits(buckets, sum(part.seconds for part in parts))
    cells = "".join(f"{whole.percentile(share):>8.1f}" for share in (0.50, 0.95, 0.99))
    click.echo(f"{name:44}{cells}{'':8}{whole.number:>8.0f}  mean {whole.seconds / whole.number * 1e3:.1f}")


async def long(servers: RunningServers, events: int, seconds: int) -> None:
    """What a journey of LONG_EVENTS events does to the others."""
    await long_latency(servers, seconds)
    await long_rate(servers, events)


async def long_latency(servers: RunningServers, seconds: int) -> None:
    """Latency of the others before there is a long journey, and while it gets events too."""
    measured = PER_SECOND * seconds
    records = ground.made_up(BEFORE + 2 * (WARM_UP + measured))
    await ground.fill(servers.addresses, islice(records, BEFORE))
    async with trial(servers, ONE) as running:
        await running.drain()
        await trickle(Trickle(running.addresses), islice(records, WARM_UP), counts=False)
        alone = await trickle(Trickle(running.addresses), islice(records, measured), counts=True)
        await ground.publish(servers.addresses, ground.long_journey(0, LONG_EVENTS))
        await trickle(Trickle(running.addresses), islice(records, WARM_UP), counts=False)
        beside = Trickle(running.addresses)
        await beside.run(with_long(records), PER_SECOND + LONG_PER_SECOND)
    head(f"others, {PER_SECOND}/s")
    percentiles("no long journey", alone)
    percentiles(f"one of {LONG_EVENTS:,} events gets {LONG_PER_SECOND}/s", beside.found)


def with_long(records: Iterator[Record]) -> Iterator[tuple[Record, bool]]:
    """The records, which count, with events of the long journey in between, which do not."""
    others = PER_SECOND // LONG_PER_SECOND
    endless = ground.long_journey(LONG_EVENTS, 1_000_000)
    while group := list(islice(records, others)):
        yield next(endless), False
        yield from ((record, True) for record in group)


async def long_rate(servers: RunningServers, events: int) -> None:
    """The rate at which a backlog is stored, without and with a long journey spread over it."""
    click.echo(
        f"\n{'backlog':44}{'events':>8}{'events/s':>10}{'until stored s':>16}{'then stale s':>14}"
        f"{'peak MB':>9}"
    )
    for name, wanted in (("others only", 0), (f"with a journey of {LONG_EVENTS:,} events", LONG_EVENTS)):
        await ground.fill(servers.addresses, interleaved(ground.made_up(events), events, wanted))
        used = await drained(servers, ONE)
        until_stored = used.seconds - used.stale_seconds
        click.echo(
            f"{name:44}{used.events:>8}{used.events / until_stored:>10,.0f}{until_stored:>16.1f}"
            f"{used.stale_seconds:>14.1f}{used.peak_mb:>9.0f}"
        )


def interleaved(records: Iterator[Record], events: int, of_long: int) -> Iterator[Record]:
    """The records with the events of a long journey spread evenly over them."""
    for number, record in enumerate(records):
        yield record
        done, due = number * of_long // events, (number + 1) * of_long // events
        yield from ground.long_journey(done, due - done)


async def memory(servers: RunningServers, backlog: int) -> None:
    """The peak of a worker that finds a backlog."""
    await ground.fill(servers.addresses, ground.made_up(backlog))
    used = await drained(servers, ONE)
    click.echo(f"\nbacklog of {backlog:,} events: {used.rate:,.0f} events/s, peak {used.peak_mb:.0f} MB")


async def growth(servers: RunningServers) -> None:
    """What an event costs when there are ever more journeys, beside what its bare rows cost, and with few
    again: what the machine does to all of them."""
    columns = ("events/s", "worker", "broker", "Postgres", "at most", "bare rows", "of bare", "peak MB")
    click.echo(f"\n{'journeys':>10}" + "".join(f"{name:>10}" for name in columns))
    for sizes in (JOURNEYS, JOURNEYS[:1]):
        bare = await _bare_growth(servers, sizes)
        await ground.fill(servers.addresses, ())
        async with trial(servers, GROWING) as running:
            for known, journeys in pairwise((0, *sizes)):
                await ground.publish(servers.addresses, ground.first_touches(known, journeys))
                await running.drain()
                await ground.settle(running.addresses)
                found = [await _touched(servers, running, journeys, n) for n in range(GROWTH_ROUNDS)]
                most = max(each.postgres_us for each in found)
                click.echo(_growth_line(journeys, median(found), most, bare[journeys]))


def _growth_line(journeys: int, used: Used, most: float, bare: float) -> str:
    return (
        f"{journeys:>10,}{used.rate:>10,.0f}{used.worker_us:>10.0f}{used.broker_us:>10.0f}"
        f"{used.postgres_us:>10.0f}{most:>10.0f}{bare:>10.0f}{used.postgres_us / bare:>10.2f}"
        f"{used.peak_mb:>10.0f}"
    )


async def _touched(servers: RunningServers, running: Trial, journeys: int, number: int) -> Used:
    await ground.publish(servers.addresses, ground.later_touches(journeys, _turn(journeys, number)))
    return await running.drain()


def _turn(journeys: int, number: int) -> range:
    """The numbers of the events of a round."""
    events = min(GROWTH_EVENTS, journeys // 5)
    return range(number * events, (number + 1) * events)


async def _bare_growth(servers: RunningServers, sizes: Sequence[int]) -> dict[int, float]:
    """Journeys to what the bare rows of one event cost Postgres, microseconds: the median of as many
    rounds."""
    postgres = servers.stack.status()["processes"]["postgres"]["pid"]
    costs: dict[int, float] = {}
    async with ground.database(servers.addresses, 1) as addresses, session(addresses.postgres_dsn) as bare:
        await bare.execute(bare_rows.TABLES)
        for known, journeys in pairwise((0, *sizes)):
            await bare_rows.first_touches(bare, known, journeys)
            await ground.settle(addresses)
            found = []
            for number in range(GROWTH_ROUNDS):
                turn, before = _turn(journeys, number), tree_seconds(postgres)
                await bare_rows.later_touches(bare, journeys, turn)
                found.append((tree_seconds(postgres) - before) / len(turn) * 1e6)
            costs[journeys] = statistics.median(found)
    return costs


async def measure(events: int, rounds: int, seconds: int, backlog: int, parts: Sequence[str]) -> None:
    """The parts, table by table."""
    work = {
        "rates": lambda servers: rates(servers, events, rounds),
        "latency": lambda servers: latency(servers, seconds, rounds),
        "long": lambda servers: long(servers, events, seconds // 2),
        "memory": lambda servers: memory(servers, backlog),
        "growth": growth,
    }
    await ground.run_parts(parts, work)


@click.command()
@click.option("--events", default=100_000, show_default=True, help="Backlog of each run of a rate.")
@click.option("--rounds", default=2, show_default=True, help="Turns of every variant.")
@click.option(
    "--seconds-latency", default=60, show_default=True, help="Of each variant, all rounds together."
)
@click.option("--backlog", default=300_000, show_default=True, help="Events of the run for memory.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this; may be repeated.")
def main(events: int, rounds: int, seconds_latency: int, backlog: int, parts: tuple[str, ...]) -> None:
    """Rate, CPU, memory and latency of the live path on servers of its own. Takes about 20 minutes."""
    uvloop.run(measure(events, rounds, seconds_latency, backlog, parts or PARTS))


if __name__ == "__main__":
    main()
