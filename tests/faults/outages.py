"""Postgres and the receivers are away while clocks become due; nothing may be lost, and nobody may help.

Promises: `run` lets leads come through clock, notifier and projector, the processes of production, which tell
a webhook and Alertmanager. Postgres dies by SIGKILL and stays away; then Alertmanager does, while the webhook
first refuses connections and then hangs. In the end each obligation is one incident and over, told in order,
by the same processes. `python -m tests.faults.outages --away 60` is the long run.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import click

from infra import MIGRATIONS
from services.broker import create_producer
from services.deploy import deploy
from services.store.pool import session
from tests.faults.leads import ALL_OVER, ALL_TOLD, LEADS_A_SECOND, SHORT, Leads, environment
from tests.fresh import drop_database, empty_topics
from tests.receivers import AlertmanagerServer, Receiver, http_receiver
from tests.servers import Servers, begin, bring_back, take_away, until

LEADLOG = [sys.executable, "-c", "from services.cli import main; main()"]
PROCESSES = ("clock", "notifier", "projector")
FIRST_SECONDS = 10.0
"""From the return of a server to the next alert that is received, at most: a few looks, and one retry."""
LAST_SECONDS = 40.0
"""From the return of a server until all that was due meanwhile is received, at most: what comes in a minute
takes 25 s at the webhook's 600 messages a minute."""
SILENCE = ["hang"] * 100_000
"""Of a receiver that answers nothing for however long."""

OPEN_ALERTS = """
select alert_key from ops.obligation join ops.alert using (alert_id) where obligation.closed_at is null
"""


class Outage(NamedTuple):
    """What was away for so many seconds, and the seconds from its return to the next message that every
    receiver took, and to the last that was due."""

    name: str
    away: float
    first: float
    last: float


class Report(NamedTuple):
    """What came out."""

    outages: list[Outage]
    obligations: Counter[str]
    """Alert to the obligations that it told of, before they were reviewed."""
    incidents: dict[str, Counter[str]]
    """Receiver to the times that each alert opened there."""
    disordered: list[str]
    left: list[str]
    """What a receiver still thinks is open."""

    @property
    def failures(self) -> list[str]:
        """What should not be."""
        return [
            *(
                f"{name}: {key} opened {opened[key]} times"
                for name, opened in self.incidents.items()
                for key in {*self.obligations, *opened}
                if opened[key] != 1
            ),
            *(f"{key} was told out of order" for key in self.disordered),
            *(f"{key} did not end" for key in self.left),
            *(
                f"{each.name}: {each.first:.1f} s until more was told, {each.last:.1f} s until all was"
                for each in self.outages
                if each.first > FIRST_SECONDS or each.last > LAST_SECONDS
            ),
        ]

    def lines(self) -> list[str]:
        """The report for people."""
        return [
            f"{self.obligations.total()} obligations in {len(self.obligations)} alerts were open at the end",
            *(f"{name:<16}{opened.total():>6} incidents" for name, opened in self.incidents.items()),
            *(
                f"{each.name} away {each.away:.0f} s: the next alert {each.first:.1f} s after its return, "
                f"all {each.last:.1f} s"
                for each in self.outages
            ),
            *self.failures,
        ]


class Trial:
    """One log, the processes that work on it, and who is told."""

    def __init__(self, dsn: str, leads: Leads, receivers: dict[str, Receiver]) -> None:
        self._dsn = dsn
        self._leads = leads
        self.receivers = receivers
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, settings: dict[str, str], logs: Path) -> None:
        """Starts the processes, once and for all."""
        for name in PROCESSES:
            with (logs / f"{name}.log").open("ab") as log:
                command = [*LEADLOG, "run", name]
                self._processes[name] = subprocess.Popen(command, env=settings, stdout=log, stderr=log)

    def end(self) -> None:
        """Ends them in order."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(30)

    @asynccontextmanager
    async def leads_coming(self) -> AsyncIterator[None]:
        """Lets leads come meanwhile, from when receivers hear of the first."""
        before = self._taken()
        coming = asyncio.create_task(self._come())
        try:
            await until(partial(self._more_than, before), "nothing is told")
            yield
        finally:
            coming.cancel()
            await asyncio.wait([coming])

    async def _come(self) -> None:
        while True:
            await self._leads.arrive()
            await asyncio.sleep(1 / LEADS_A_SECOND)

    async def recovery(self, name: str, away: float) -> Outage:
        """Waits from its return until all that is due was told."""
        returned = time.monotonic()
        await until(partial(self._more_than, self._taken()), f"nothing is told after {name} was away")
        first = time.monotonic() - returned
        await until(partial(self.none, *ALL_TOLD), f"not all is told after {name} was away")
        return Outage(name, away, first, time.monotonic() - returned)

    def _taken(self) -> list[int]:
        return [len(each.taken) for each in self.receivers.values()]

    async def _more_than(self, taken: list[int]) -> bool:
        return all(now > then for now, then in zip(self._taken(), taken, strict=True))

    async def review_all(self) -> None:
        """Lets every lead be reviewed, and waits until all is over and told."""
        await self._leads.review_rest()
        await until(partial(self.none, *ALL_OVER), "not everything ended and was told")

    async def none(self, *queries: str) -> bool:
        """Whether each of these counts nothing. Fails when a process has ended."""
        ended = [name for name, each in self._processes.items() if each.poll() is not None]
        assert not ended, f"ended by itself: {ended}"
        return not any([(await self.column(query))[0] for query in queries])

    async def column(self, query: str) -> list[Any]:
        """The first column of a query's rows."""
        async with session(self._dsn) as connection:
            return [row[0] for row in await connection.fetch(query)]


async def run(servers: Servers, dsn: str, away: float, folder: Path) -> Report:
    """The whole run, on an empty database and empty topics."""
    addresses = servers.addresses._replace(postgres_dsn=dsn)
    await deploy(addresses, MIGRATIONS, SHORT, "")
    producer = create_producer(addresses.kafka_bootstrap)
    await producer.start()
    async with http_receiver() as hook, http_receiver() as people:
        manager = AlertmanagerServer(folder, people)
        trial = Trial(dsn, Leads(producer), {"webhook": hook, "Alertmanager": people})
        try:
            await manager.start()
            trial.begin(environment(addresses, channels(hook, manager), folder), folder)
            outages = [
                await without_postgres(trial, servers, away),
                await without_receivers(trial, hook, manager, away),
            ]
            obligations = Counter(await trial.column(OPEN_ALERTS))
            await trial.review_all()
            left = [*hook.firing(), *({*await manager.active()} - {"watchdog"})]
        finally:
            trial.end()
            manager.kill()
            await producer.stop()
    incidents = {"webhook": hook.incidents(), "Alertmanager": people.alertmanager_incidents()}
    return Report(outages, obligations, incidents, hook.disordered(), left)


def channels(hook: Receiver, manager: AlertmanagerServer) -> dict[str, Any]:
    """Where alerts go."""
    return {
        "hook": {"type": "webhook", "url": hook.url, "secrets": ["whsec_bmV3"], "timeout": 2},
        "pager": {"type": "alertmanager", "url": manager.url, "resend": 2},
    }


async def without_postgres(trial: Trial, servers: Servers, away: float) -> Outage:
    """Postgres dies while leads come, is away, and comes back."""
    async with trial.leads_coming():
        await take_away(servers, "postgres")
        await asyncio.sleep(away)
        await bring_back(servers, "postgres")
    return await trial.recovery("Postgres", away)


async def without_receivers(trial: Trial, hook: Receiver, manager: AlertmanagerServer, away: float) -> Outage:
    """Alertmanager dies; the webhook refuses connections, then takes them and says nothing."""
    async with trial.leads_coming():
        manager.kill()
        await hook.leave()
        await asyncio.sleep(away / 2)
        hook.behaviours = list(SILENCE)
        await hook.listen()
        await asyncio.sleep(away / 2)
        hook.behaviours.clear()
        await manager.start()
    return await trial.recovery("receivers", away)


async def _main(servers: Servers, away: float, folder: Path) -> Report:
    name = f"outages_{uuid.uuid4().hex[:8]}"
    server = await asyncpg.connect(servers.addresses.postgres_dsn)
    await server.execute(f"create database {name}")
    await server.close()
    await empty_topics(servers.addresses.kafka_bootstrap)
    try:
        return await run(servers, f"{servers.addresses.postgres_dsn.rpartition('/')[0]}/{name}", away, folder)
    finally:
        server = await asyncpg.connect(servers.addresses.postgres_dsn)
        await drop_database(server, name)
        await server.close()


@click.command()
@click.option("--away", default=60.0, show_default=True, help="Seconds of each outage.")
def main(away: float) -> None:
    """Take Postgres and the receivers away while clocks become due; exit 0 when all is told once, else 1."""
    servers = begin()
    folder = Path(tempfile.mkdtemp(prefix="leadlog-outages-"))
    click.echo(f"logs are in {folder}", err=True)
    try:
        report = asyncio.run(_main(servers, away, folder))
    finally:
        servers.close()
    click.echo("\n".join(report.lines()))
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
