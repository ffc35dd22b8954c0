"""`leadlog run …`: one process of the system, in the foreground, until a signal ends it.

Each command imports its own process only: all of them together take a second, and memory in each.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click

from schemas.topics import INPUT_TOPICS
from services import settings
from services.cli.exits import REFUSED, end
from services.settings import Addresses

Process = Callable[..., None]
"""A command that runs until it is told to stop."""


@click.group("run")
def command() -> None:
    """Run one process in the foreground."""


def with_web_port(default: int, pages: str) -> Callable[[Process], Process]:
    """The option for the port of a process' own pages."""
    return click.option(
        "--web-port",
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        help=f"Port of {pages} on LEADLOG_METRICS_HOST, 127.0.0.1; 0 takes a free one and logs it.",
    )


def listening(host: str, port: int, needs: str) -> Callable[[Process], Process]:
    """The options of a process that others may reach, and what it needs then."""

    def add(process: Process) -> Process:
        with_port = click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="Port to listen on; 0 takes a free one and logs it.",
        )(process)
        return click.option(
            "--host",
            default=host,
            show_default=True,
            help=f"Address to listen on. 0.0.0.0 lets other machines in; {needs}",
        )(with_port)

    return add


@command.command()
@click.option(
    "--worker-id",
    metavar="NAME",
    default=settings.WORKER,
    help="A name that stays the same when this worker is started again, so that it has its partitions back"
    " within seconds. Without one they go to the other workers as soon as it stops.",
)
@with_web_port(settings.PROJECTOR_PORT, "/livez, /readyz and /metrics")
@click.option("--fold-only", is_flag=True, help="Read no topic: only bring up the versions of this release.")
def projector(worker_id: str, web_port: int, fold_only: bool) -> None:
    """Feed the log and the projections from the topics, exactly once.

    Start as many as there are cores to use: they share the partitions.
    """
    from services.projector import worker  # noqa: PLC0415 (its own only)
    from services.projector.handler import Projector  # noqa: PLC0415 (its own only)

    topics = frozenset[str]() if fold_only else frozenset(INPUT_TOPICS)
    try:
        handler = Projector(settings.addresses())
        code = worker.run(handler, topics, worker.identity(worker_id), web_port)
    except worker.AlreadyRunning as error:
        end(REFUSED, str(error))
    sys.exit(code)


@command.command()
@listening(settings.INGEST_HOST, settings.INGEST_PORT, "TLS belongs before it.")
def ingest(host: str, port: int) -> None:
    """Take events over HTTP. POST /v1/events, with a key of `leadlog key create`.

    /openapi.json describes it; /livez, /readyz and /metrics say how it is.
    """
    from services.ingest.app import create_app  # noqa: PLC0415 (its own only)

    _listen("ingest", create_app, host, port)


@command.command()
@listening(settings.WEB_HOST, settings.WEB_PORT, "A login belongs before it.")
def web(host: str, port: int) -> None:
    """Show both teams the numbers on a page, as BI reads them. It only reads.

    Others reach it under the names of LEADLOG_WEB_NAMES. /livez and /readyz say how it is.
    """
    from services.web.app import create_app  # noqa: PLC0415 (its own only)

    _listen("web", create_app, host, port)


@command.command()
@with_web_port(settings.CLOCK_PORT, "/livez and /metrics")
def clock(web_port: int) -> None:
    """Say what is due when no event comes. Warnings and breaches of SLA clocks, once each.

    A second clock stands by.
    """
    from services.clock import process  # noqa: PLC0415 (its own only)

    _serve("clock", web_port, lambda addresses: process.run(addresses.postgres_dsn))


@command.command()
@with_web_port(settings.NOTIFIER_PORT, "/livez and /metrics")
def notifier(web_port: int) -> None:
    """Tell on-call about alerts. Over the channels of the file LEADLOG_ALERTS.

    A second notifier stands by, channel by channel.
    """
    from services.notifier import process  # noqa: PLC0415 (its own only)
    from services.notifier.config import read  # noqa: PLC0415 (its own only)

    config = read(settings.ALERTS)
    _serve("notifier", web_port, lambda addresses: process.run(addresses.postgres_dsn, config))


@command.command()
@with_web_port(settings.VERIFIER_PORT, "/livez and /metrics")
def verifier(web_port: int) -> None:
    """Do `leadlog replay verify` again and again.

    Every LEADLOG_VERIFY_HOURS hours, counted from the last one.

    With one process at low priority; it gives way to any other `leadlog replay`, and needs as much room in
    Postgres as a version. The outcome: `leadlog replay status`. A second verifier stands by.
    """
    from services.verifier import process  # noqa: PLC0415 (its own only)

    _serve("verifier", web_port, process.run)


def _serve(name: str, port: int, work: Callable[[Addresses], Awaitable[None]]) -> None:
    from services.daemon import serve  # noqa: PLC0415 (its own only)

    addresses = settings.addresses()
    sys.exit(serve(name, port, lambda: work(addresses)))


def _listen(name: str, create_app: Callable[[Addresses], Any], host: str, port: int) -> None:
    from services import web_server  # noqa: PLC0415 (its own only)

    sys.exit(web_server.serve(name, create_app(settings.addresses()), host, port))
