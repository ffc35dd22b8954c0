"""How soon on-call is told, what a storm does, and what a million open clocks cost.

Clock and notifier are the processes of production; the receiver is an HTTP server in this process. Clocks are
rows put into the promoted version by hand, so nothing but alerting is measured. `LEADLOG_TEST_STACK` names a
stack that is up. Text to paste into README.md.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import click
import psutil
from aiohttp import web

from services.clock import look
from services.store.locks import CLOCK
from services.store.pool import Connection, connect
from tests.alerting import REVIEW, definition
from tests.bench.ground import servers
from tests.feeding import prepare_database
from tests.fresh import drop_database
from tests.servers import until

LEADLOG = [sys.executable, "-c", "from services.cli import main; main()"]
NOBODY = "127.0.0.1:9"
"""An address that neither process needs."""
START_SECONDS = 5
"""From now until the first clock is due: the processes are up by then."""

# Clocks of one policy: `count` of them are due from `first` on, evenly over `seconds`.
CLOCKS = """
insert into v0001.sla_clock (journey_id, policy_id, clock_no, started_at, started_event_id, due_at,
  paused_seconds, definition_version)
select $1 || no, 'review', 1, now(), $1 || no,
  $2::timestamptz + make_interval(secs => $3::float8 * no / $4::float8), 0, 'bench@1'
from generate_series(0, $4::int - 1) no
"""

WARNINGS = """
insert into v0001.sla_warning (journey_id, policy_id, clock_no, share, warn_at)
select journey_id, policy_id, clock_no, 0.8, due_at - interval '1 hour' from v0001.sla_clock
"""


class Received(NamedTuple):
    """What one channel received: alert key to the Unix time of its first message, and the messages."""

    first: dict[str, float]
    messages: dict[str, int]

    def note(self, key: str) -> None:
        """One message."""
        self.first.setdefault(key, time.time())
        self.messages[key] = self.messages.get(key, 0) + 1


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[dict[str, str], dict[str, Received]]]:
    """Addresses of a webhook and of something like Alertmanager, and what they received."""
    got = {name: Received({}, {}) for name in ("webhook", "alertmanager")}

    async def hook(request: web.Request) -> web.Response:
        got["webhook"].note((await request.json())["data"]["key"])
        return web.Response()

    async def alerts(request: web.Request) -> web.Response:
        for alert in await request.json():
            if key := alert["labels"].get("alert_key"):  # the watchdog has none; it counted as the last one
                got["alertmanager"].note(key)
        return web.Response()

    app = web.Application(client_max_size=2**24)
    app.add_routes([web.post("/hook", hook), web.post("/api/v2/alerts", alerts)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield {"webhook": f"{base}/hook", "alertmanager": base}, got
    await runner.cleanup()


@asynccontextmanager
async def processes(dsn: str, urls: dict[str, str]) -> AsyncIterator[dict[str, psutil.Process]]:
    """A clock and a notifier on this database."""
    channels = {
        "webhook": {"type": "webhook", "secrets": ["whsec_bmV3"], "per_minute": 1_000_000},
        "alertmanager": {"type": "alertmanager", "per_minute": 1_000_000, "resend": 600},
    }
    config = {"channels": {name: each | {"url": urls[name]} for name, each in channels.items()}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "channels.yaml"
        file.write_text(json.dumps(config))
        environment = {**os.environ, "LEADLOG_POSTGRES_DSN": dsn, "LEADLOG_ALERTS": str(file)}
        environment |= {"LEADLOG_KAFKA_BOOTSTRAP": NOBODY, "LEADLOG_REGISTRY_URL": f"http://{NOBODY}"}
        running = {
            name: psutil.Popen([*LEADLOG, "run", name], env=environment, stderr=subprocess.DEVNULL)
            for name in ("clock", "notifier")
        }
        try:
            yield running
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()


@asynccontextmanager
async def fresh(admin_dsn: str) -> AsyncIterator[tuple[str, Connection]]:
    """A database with a promoted version and no clocks."""
    name = f"bench_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(admin_dsn)
    await admin.execute(f"create database {name}")
    dsn = f"{admin_dsn.rpartition('/')[0]}/{name}"
    connection = await connect(dsn)
    await prepare_database(dsn, connection, definition(REVIEW))
    yield dsn, connection
    await connection.close()
    await drop_database(admin, name)
    await admin.close()


async def due(admin_dsn: str, count: int, seconds: float) -> list[str]:
    """Clocks due evenly over some seconds: from due to received."""
    async with fresh(admin_dsn) as (dsn, connection), receiving() as (urls, got):
        async with processes(dsn, urls):
            first = time.time() + START_SECONDS
            await connection.execute(CLOCKS, "c", round(first * 1e6), seconds, count)

            async def all_received() -> bool:
                return min(len(each.first) for each in got.values()) >= count

            await until(all_received, "not every alert was received")
        alerts = await connection.fetchval("select count(*) from ops.alert where not is_digest")
    due_at = {f"review:c{no}": first + seconds * no / count for no in range(count)}
    lines = []
    for name, each in got.items():
        late = sorted(at - due_at[key] for key, at in each.first.items() if key in due_at)
        twice = sum(number > 1 for number in each.messages.values())
        last = max(each.first.values(), default=0.0) - first
        lines.append(
            f"{name:14}{count:8,}{seconds:8.0f}{len(late):10,}{twice:8}{alerts:9,}"
            f"{quantile(late, 0.5):9.2f}{quantile(late, 0.99):9.2f}{quantile(late, 1):9.2f}{last:9.1f}"
        )
    return lines


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


async def million(admin_dsn: str, count: int, seconds: float) -> list[str]:
    """Open clocks that are not due: CPU of the clock, and the plans of what it asks."""
    async with fresh(admin_dsn) as (dsn, connection), receiving() as (urls, _):
        tomorrow = round((time.time() + 86_400) * 1e6)
        await connection.execute(CLOCKS, "c", tomorrow, 86_400 * 30, count, timeout=600)
        await connection.execute(WARNINGS, timeout=600)
        await connection.execute("analyze v0001.sla_clock; analyze v0001.sla_warning")
        async with processes(dsn, urls) as running:
            await asyncio.sleep(START_SECONDS)
            before = sum(running["clock"].cpu_times()[:2])
            session = psutil.Process(await connection.fetchval(BACKEND, CLOCK))
            began = sum(session.cpu_times()[:2])
            await asyncio.sleep(seconds)
            used = sum(running["clock"].cpu_times()[:2]) - before
            served = sum(session.cpu_times()[:2]) - began
        lines = [
            f"{count:,} open clocks, nothing due: clock {used / seconds:.2%} of a core, "
            f"its Postgres session {served / seconds:.2%}"
        ]
        for query in (look.DUE_WINDOW, look.WARNING_WINDOW, look.NEXT):
            lines += ["", *await plan(connection, query)]
    return lines


BACKEND = """
select pid from pg_locks where locktype = 'advisory' and objid = $1::bigint::oid and granted
  and database = (select oid from pg_database where datname = current_database())
"""


async def plan(connection: Connection, query: str) -> list[str]:
    """How Postgres answers a question of the clock, with buffers and time."""
    asked = query.format(schema="v0001")
    for name, value in (("$1", "now() - interval '2 s'"), ("$2", "now()"), ("$3", "5000")):
        asked = asked.replace(name, value)
    rows = await connection.fetch(f"explain (analyze, buffers, costs off) {asked}")
    return [str(row[0]) for row in rows]


async def measure(admin_dsn: str, seconds: float, storm: int, clocks: int) -> None:
    """All parts, one after the other."""
    click.echo(f"load {os.getloadavg()[0]:.1f}")
    head = ("clocks", "over s", "received", "twice", "alerts", "p50 s", "p99 s", "max s", "last s")
    widths = (8, 8, 10, 8, 9, 9, 9, 9, 9)
    click.echo(" " * 14 + "".join(f"{name:>{width}}" for name, width in zip(head, widths, strict=True)))
    for count, over in ((round(5 * seconds), seconds), (storm, 60.0)):
        click.echo("\n".join(await due(admin_dsn, count, over)))
    click.echo("\n" + "\n".join(await million(admin_dsn, clocks, seconds)))


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="Of the quiet part and of the idle part.")
@click.option("--storm", default=10_000, show_default=True, help="Clocks due within one minute.")
@click.option("--clocks", default=1_000_000, show_default=True, help="Open clocks of the idle part.")
def main(seconds: float, storm: int, clocks: int) -> None:
    """Measure alerting."""
    stack = servers()
    try:
        asyncio.run(measure(stack.addresses.postgres_dsn, seconds, storm, clocks))
    finally:
        stack.close()


if __name__ == "__main__":
    main()
