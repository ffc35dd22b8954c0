"""Readers of views at full speed: `python -m tests.bench.reading DSN SECONDS` prints `Reads` as JSON."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from typing import NamedTuple

import asyncpg
import msgspec
import uvloop

READERS = 8
READ = """
select lead.stage, visit.entered_at from bi.lead_current lead join bi.stage_visit visit using (journey_id)
where journey_id = $1
"""


class Reads(NamedTuple):
    """What reads took, in milliseconds, and how many there were."""

    p50: float
    p99: float
    longest: float
    reads: int


async def read_all(dsn: str, seconds: float) -> Reads:
    """Reads with all readers for so long."""
    reads: list[float] = []
    connections = [await asyncpg.connect(dsn) for _ in range(READERS)]
    await asyncio.gather(*(_read(each, seconds, reads) for each in connections))
    cuts = statistics.quantiles(reads, n=100)
    return Reads(cuts[49], cuts[98], max(reads), len(reads))


async def _read(connection: asyncpg.Connection[asyncpg.Record], seconds: float, reads: list[float]) -> None:
    ids = [row[0] for row in await connection.fetch("select journey_id from bi.lead_current limit 100")]
    statement = await connection.prepare(READ)
    await statement.fetch(ids[0])  # a session's first read finds cold caches
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        assert await statement.fetch(ids[len(reads) % len(ids)])
        reads.append((time.monotonic() - began) * 1e3)
    await connection.close()


if __name__ == "__main__":
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(read_all(sys.argv[1], float(sys.argv[2])))))
