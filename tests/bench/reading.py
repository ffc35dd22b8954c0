"""Readers of views at full speed: `python -m tests.bench.reading DSN SECONDS` prints milliseconds as JSON."""

from __future__ import annotations

import asyncio
import gc
import sys
import time

import asyncpg
import msgspec
import uvloop

READERS = 8
READ = """
select lead.stage, visit.entered_at from bi.lead_current lead join bi.stage_visit visit using (journey_id)
where journey_id = $1
"""


async def read_all(dsn: str, seconds: float) -> list[float]:
    """What each read took."""
    reads: list[float] = []
    connections = [await asyncpg.connect(dsn) for _ in range(READERS)]
    await asyncio.gather(*(_read(each, seconds, reads) for each in connections))
    return reads


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
