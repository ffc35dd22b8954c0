"""`leadlog up`, `down`, `status`, `logs`, `doctor`: the local stack, as `infra` runs it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import click

import projections
from infra import MIGRATIONS, artifacts, doctor, kafka, logs, postgres, supervision
from infra import stack as local
from infra.stack import Stack
from schemas.topics import INPUT_TOPICS
from services import settings
from services.cli.definition_file import read_file
from services.cli.exits import AWAY, REFUSED, ask, end, kafka_unheard, run
from services.cli.files import TEXT_FILE
from services.cli.layout import console, table
from services.cli.numbers import NumberRange
from services.deploy import AlreadyStarted, deploy, expect_new
from services.notifier.config import Faulty, read
from services.store.keys import put_key
from services.store.migrate import migrate
from services.store.versions import BUILD_AGAIN, OTHER_RELEASE

SHOWN = (
    *("postgres_dsn", "bi_dsn", "kafka_bootstrap", "registry_url"),
    *("ingest_url", "ingest_key", "page_url", "alerts_file", "log_folder"),
)
"""What `leadlog status` says of a stack, by its name in `--json`."""
NO_CHANNELS = "Nobody is told of alerts: LEADLOG_ALERTS names no file with channels."
TROUBLE = (artifacts.Unavailable, kafka.Failed, local.Failed, postgres.Failed, supervision.Failed)


@contextmanager
def _kindly(exit_code: int) -> Iterator[None]:
    try:
        yield
    except TROUBLE as error:
        end(exit_code, str(error))


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@click.option("--definition", "definition_file", type=TEXT_FILE, help="First start only.")
@click.option("--servers-only", is_flag=True, help="Start no service and touch no data.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 16), help="Projector processes."
)
def up(definition_file: Path | None, servers_only: bool, workers: int) -> None:
    """Start the local servers and the services.

    Services are workers, HTTP door, page, clock, notifier and verifier. Waits until servers and door answer,
    and the other services listen."""
    stack = Stack(settings.state_folder())
    began = time.monotonic()
    text = read_file(definition_file).text if definition_file else None
    _expect_channels()
    if text is not None:
        _expect_new(stack)
    with _kindly(AWAY):
        addresses = stack.up(workers, _say, with_services=not servers_only)
        if not servers_only:
            _deploy(text)
            stack.remember_definition()
            _let_in(stack.known()["ingest_key"])
            stack.start_services()
            known = stack.known()
            _say(f"Events are taken at {known['ingest_url']}/v1/events; `leadlog status` has the key.")
            _say(f"The page for both teams is {known['page_url']}")
            _say(f"Alerts go where {known['alerts_file']} says." if known["alerts_file"] else NO_CHANNELS)
    _say(f"Up after {time.monotonic() - began:.1f} s. Postgres, Kafka and the registry:")
    for address in addresses:
        click.echo(address)


def _expect_channels() -> None:
    """Refuses a file of channels with which the notifier would not start."""
    try:
        read(settings.ALERTS)
    except Faulty as error:
        end(REFUSED, f"LEADLOG_ALERTS: {error}")


def _expect_new(stack: Stack) -> None:
    """Refuses a second definition before anything is started or touched."""
    given = settings.given_servers().get("postgres_dsn")
    dsn = given or stack.known().get("postgres_dsn")
    with suppress(ConnectionError):  # what is away, `up` brings back first
        if dsn is not None:
            run(expect_new(dsn))
            return
    if given is None and stack.has_definition():
        raise AlreadyStarted("a definition")


def _deploy(text: str | None) -> None:
    """Migrations, topics, schemas and, on an empty log, the first projection version."""
    default = resources.files(projections).joinpath("default.yaml").read_text()
    deployed = run(deploy(settings.addresses(), MIGRATIONS, text, default))
    _say(f"Definition {deployed.promoted} is {'now' if deployed.is_first else 'still'} in force.")
    if deployed.is_of_other_release:
        _say(f"But {OTHER_RELEASE}: {BUILD_AGAIN}.")


@click.command("deploy")
@click.option("--definition", "definition_file", type=TEXT_FILE, help="For an empty log only.")
@click.option(
    *("--wait", "seconds"),
    default=20.0,
    type=NumberRange(0),
    show_default=True,
    help="Seconds to wait for the servers.",
)
def deploy_on_given(definition_file: Path | None, seconds: float) -> None:
    """Make given servers ready for this release.

    Migrations, topics, schemas and, on an empty log, the first definition: what `up` does between servers and
    workers. For servers that are not the local stack's, named by LEADLOG_POSTGRES_DSN,
    LEADLOG_KAFKA_BOOTSTRAP and LEADLOG_REGISTRY_URL. Safe to run again, also at once.
    """
    text = read_file(definition_file).text if definition_file else None
    with _kindly(AWAY):
        run(Stack(settings.state_folder()).wait_for_given(settings.addresses(), seconds))
    _deploy(text)


@click.command("databases")
def make_databases() -> None:
    """Make the roles and databases of a new Postgres server.

    Roles and databases `leadlog` and `registry`, and the role `bi_reader`, as the superuser of
    LEADLOG_SUPERUSER_DSN, with the passwords LEADLOG_PASSWORD_LEADLOG, LEADLOG_PASSWORD_REGISTRY and
    LEADLOG_PASSWORD_BI_READER. Safe to run again.
    """
    superuser = settings.superuser_dsn()
    passwords = {role: settings.role_password(role) for role in postgres.GIVEN_ROLES}
    missing = [f"LEADLOG_PASSWORD_{role.upper()}" for role, given in passwords.items() if not given]
    if not superuser or missing:
        names = ", ".join([*([] if superuser else ["LEADLOG_SUPERUSER_DSN"]), *missing])
        raise click.UsageError(f"not given in the environment: {names}")
    run(postgres.create_roles_and_databases(superuser, passwords))
    _say(f"Roles {', '.join(passwords)} and their databases are there.")


def _let_in(secret: str) -> None:
    """The key of the local stack, which may send everything but bring no history."""
    ask(lambda connection: put_key(connection, secret, None, INPUT_TOPICS, may_import=False))


@click.command("migrate")
def migrate_database() -> None:
    """Bring the tables in Postgres up to this release. Safe to run twice, also at once."""
    applied = run(migrate(settings.addresses().postgres_dsn, MIGRATIONS))
    _say(f"Applied {', '.join(applied)}." if applied else "Nothing to apply.")


@click.command()
def down() -> None:
    """Stop the local stack; its data stays for the next `up`."""
    stack = Stack(settings.state_folder())
    with _kindly(REFUSED):
        stack.down()
    _say(f"Down. The data stays in {stack.state}; `leadlog up` goes on with it.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Addresses and processes for programs.")
def status(as_json: bool) -> None:
    """Say what runs and where. Exit 3 when something that `up` started does not."""
    stack = Stack(settings.state_folder())
    now = stack.status()
    if as_json:
        click.echo(json.dumps(now, indent=2))
    elif now["processes"]:
        _show(now)
    else:
        click.echo(stack.why_down() or "Nothing runs. Start it with: leadlog up")
    missing = stack.missing()
    if missing and not as_json:
        click.echo(f"\nDoes not run: {', '.join(missing)}. `leadlog doctor` says what to do.")
    if missing or not now["processes"]:
        raise SystemExit(AWAY)


def _show(now: dict[str, Any]) -> None:
    rows = [
        (process["name"], process["state"].lower(), process["pid"] or None, _age(process))
        for process in now["processes"].values()
    ]
    table(console(), ("process", "state", "pid", "for"), rows, right=("pid",))
    click.echo()
    for name in SHOWN:
        click.echo(f"{name:16} {now.get(name) or 'none'}")


def _age(process: dict[str, Any]) -> str:
    return str(timedelta(seconds=process["up_seconds"])) if process["pid"] else process["description"]


@click.command("logs")
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=40, show_default=True, help="Lines of each log."
)
def show_logs(name: str | None, follow: bool, lines: int) -> None:
    """Print the end of the logs. Of all processes, or of NAME, for example `kafka` or `projector`."""
    folder = Stack(settings.state_folder()).supervisor.logs
    found = logs.files(folder, name)
    if not found:
        known = ", ".join(logs.files(folder, None)) or "none, `leadlog up` makes them"
        raise click.UsageError(f"no log of {name or 'anything'} in {folder}. There are: {known}")
    for line in logs.last_lines(found, lines):
        click.echo(line)
    if follow:
        with suppress(KeyboardInterrupt):
            for line in logs.follow(found):
                click.echo(line)


@click.command("doctor")
def examine() -> None:
    """Say what is wrong with this installation and what to do. Exit 1 when something is in the way."""
    worst = doctor.Level.OK
    with kafka_unheard():
        for finding in doctor.findings(Stack(settings.state_folder())):
            click.echo(f"{finding.level.value:8} {finding.what}")
            if finding.next_step:
                click.echo(f"{'':8} -> {finding.next_step}")
            if finding.level is doctor.Level.PROBLEM:
                worst = finding.level
    if worst is doctor.Level.PROBLEM:
        raise SystemExit(REFUSED)
    click.echo("Nothing is in the way.")
