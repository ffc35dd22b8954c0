"""Replay of all projections from Kafka beside a full refresh by SQL: `python -m tests.bench.replay`.

One run, the same events and machine. The build is `leadlog replay build` as a user calls it; the rival is
`rival.sql` over a typed, unlogged table, without and with its load from Kafka. What the log tables hold is
no part of a build, so they stay empty here but for the positions.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from schemas.records import Envelope
from schemas.topics import INPUT_TOPICS
from services.broker import end_offsets
from services.projector.decoding import Decoding
from services.registry import Registry
from services.replay.topics import read, units_of
from services.settings import Addresses
from services.store.pool import Connection, session
from tests.bench import ground

BUILD = (sys.executable, "-c", "from services.cli import main; main()", "replay", "build", "--full-speed")
RIVAL = Path(__file__).parent / "rival.sql"
UNIT_RECORDS = 50_000
SETTINGS = (
    *("max_parallel_workers_per_gather", "work_mem", "shared_buffers", "effective_cache_size", "jit"),
)
TYPED = """
create schema rival;
create unlogged table rival.event (
  subject_id text collate "C", event_id text collate "C", occurred_at timestamptz, record text,
  actor_kind text, touch_type text, direction text, channel text, offer_id text, campaign_id text,
  to_stage text, reason_code text, owner_id text, opportunity_id text, amount_minor bigint, currency text
)
"""
INDEX = "create index on rival.event (subject_id); analyze rival.event"
COLUMNS = (
    *("touch_type", "direction", "channel", "offer_id", "campaign_id", "to_stage", "reason_code"),
    *("owner_id", "opportunity_id", "amount_minor", "currency"),
)
PHASES = """
select phase, count(*), sum(records)::bigint, sum(seconds),
  extract(epoch from max(finished_at) - min(finished_at - seconds * interval '1 second'))::float8,
  max(peak_bytes) / 1e6
from ops.replay_unit group by phase order by min(finished_at)
"""


class Built(NamedTuple):
    """One build."""

    seconds: float
    peak_mb: float
    """Of the largest process."""
    phases: list[tuple[Any, ...]]
    """Phase, units, records, seconds of work, seconds on the clock, peak MB of a worker."""


async def built(addresses: Addresses, processes: int) -> Built:
    """Builds the default definition from the topics."""
    async with session(addresses.postgres_dsn) as connection:
        rows = [
            (*place, end)
            for place, end in (await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS)).items()
        ]
        await connection.copy_records_to_table("position", schema_name="log", records=rows)
        began = time.monotonic()
        peak = await _run(addresses, processes)
        seconds = time.monotonic() - began
        return Built(seconds, peak / 1e6, [tuple(row) for row in await connection.fetch(PHASES)])


async def _run(addresses: Addresses, processes: int) -> int:
    """The command; returns the peak memory of its largest process, in bytes."""
    named = {f"LEADLOG_{name.upper()}": value for name, value in addresses._asdict().items()}
    with tempfile.TemporaryDirectory() as state:
        arguments = ["--definition", str(ground.DEFINITIONS[0]), "--processes", str(processes)]
        environment = {**os.environ, **named, "LEADLOG_STATE": state}
        process = subprocess.Popen([*BUILD, *arguments], env=environment)  # noqa: ASYNC220 (returns at once)
        _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
    if status:
        raise RuntimeError(f"the build ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024


class Refreshed(NamedTuple):
    """The rival's seconds, and rows."""

    load: float
    analyse: float
    refresh: float
    rows: dict[str, int]
    settings: dict[str, str]


async def refreshed(addresses: Addresses) -> Refreshed:
    """Loads the typed table from Kafka, then refreshes the four results."""
    async with session(addresses.postgres_dsn) as connection:
        await connection.execute(TYPED)
        load = await _timed(_load(connection, addresses))
        index = await _timed(connection.execute(INDEX))
        refresh = await _timed(connection.execute(RIVAL.read_text(), timeout=None))
        tables = ("stage_visit", "sla_clock", "credit", "lead_state")
        rows = {name: await connection.fetchval(f"select count(*) from rival.{name}") for name in tables}
        known = {name: await connection.fetchval(f"show {name}") for name in SETTINGS}
        return Refreshed(load, index, refresh, rows, known)


async def _timed(work: Any) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def _load(connection: Connection, addresses: Addresses) -> None:
    ends = await end_offsets(addresses.kafka_bootstrap, ("lead.events",))
    async with Registry(addresses.registry_url) as registry:
        decoding = Decoding(registry)
        for unit in units_of(ends, UNIT_RECORDS):
            async for _, portion in read(addresses.kafka_bootstrap, unit):
                decoded = await decoding.batch(portion)
                await connection.copy_records_to_table(
                    "event", schema_name="rival", records=_typed(each.record for each in decoded.arrivals)
                )


def _typed(events: Iterator[Envelope]) -> Iterator[tuple[Any, ...]]:
    for event in events:
        envelope = (
            event.subject_id,
            event.event_id,
            event.occurred_at,
            type(event).__name__,
            event.actor.kind,
        )
        yield (*envelope, *(getattr(event, name, None) for name in COLUMNS))


def show(events: int, found: Built, rival: Refreshed) -> None:
    """Prints the table."""
    click.echo(f"\n{events:,} events; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    headings = (f"{name:>11}" for name in ("units", "records", "work s", "clock s", "records/s", "peak MB"))
    click.echo(f"{'phase':8}{''.join(headings)}")
    for phase, units, records, work, clock, peak in found.phases:
        rate = f"{records / clock:,.0f}" if records and clock else ""
        click.echo(f"{phase:8}{units:>11}{records:>11,}{work:>11.1f}{clock:>11.1f}{rate:>11}{peak:>11.0f}")
    whole = rival.load + rival.analyse + rival.refresh
    click.echo(f"replay from the command to the version: {found.seconds:.1f} s")
    click.echo(f"  {events / found.seconds:,.0f} events/s, largest process {found.peak_mb:.0f} MB")
    click.echo(f"rival: refresh {rival.refresh:.1f} s, rows {rival.rows}")
    click.echo(f"  load {rival.load:.1f} s, index and statistics {rival.analyse:.1f} s, all {whole:.1f} s")
    click.echo(f"  settings {rival.settings}")
    click.echo(f"replay / refresh {found.seconds / rival.refresh:.2f}")
    click.echo(f"replay / refresh with load {found.seconds / whole:.2f}")


async def measure(addresses: Addresses, events: int, processes: int) -> tuple[Built, Refreshed]:
    """One size: the topics filled, then replay and rival in databases of their own."""
    await ground.fill(addresses, ground.made_up(events))
    async with ground.database(addresses, 1) as own:
        found = await built(own, processes)
    async with ground.database(addresses, 1) as own:
        return found, await refreshed(own)


@click.command()
@click.option("--events", "sizes", multiple=True, type=int, default=(200_000, 2_000_000), show_default=True)
@click.option("--processes", default=os.cpu_count(), show_default=True)
def main(sizes: tuple[int, ...], processes: int) -> None:
    """Measure replay beside the rival, for each size."""
    servers = ground.servers()
    try:
        for events in sizes:
            show(events, *asyncio.run(measure(servers.addresses, events, processes)))
    finally:
        servers.close()


if __name__ == "__main__":
    main()
