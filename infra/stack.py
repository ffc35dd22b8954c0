"""The local stack of one state folder: Postgres, Kafka, the registry, and the services on top.

Promises after `up` that every server answers and that `stack.json` tells where; after `down` that nothing
runs and the data is there for the next `up`. A server given by the environment is used, never started. What
belongs between servers and services (migrations, topics, first build) is the caller's.
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg

from infra import artifacts, kafka, ports, postgres, processes, registry, served
from infra.progress import Say, download
from infra.supervision import Program, Supervisor, running_folders
from services import settings
from services.settings import Addresses
from services.store.keys import new_secret

LOOK_AGAIN_SECONDS = 0.1
# A given server is up already, or somebody else has to start it.
GIVEN_SECONDS = 20
# A server that died so often while it was waited for will not come up by itself.
DEATHS_TO_GIVE_UP = 3
GIVEN_BY = {
    "postgres": "LEADLOG_POSTGRES_DSN",
    "kafka": "LEADLOG_KAFKA_BOOTSTRAP",
    "registry": "LEADLOG_REGISTRY_URL",
}
"""Every server, and what gives it; all other processes are the product's own."""
DEPLOYED = "deployed"
"""The file that says so of the local Postgres."""
ROLES = (postgres.SUPERUSER, postgres.OWNER, postgres.REGISTRY, postgres.READER)

Question = Callable[[], Awaitable[bool]]


class Failed(RuntimeError):
    """A server does not come up."""


class Plan(NamedTuple):
    """What one `up` starts: the ports, the passwords, and which servers are ours (`local`)."""

    given: Mapping[str, str]
    ports: Mapping[str, int]
    passwords: Mapping[str, str]

    def is_local(self, address: str) -> bool:
        """Whether the server of that field of `Addresses` is started here."""
        return address not in self.given

    def dsn(self, role: str, database: str) -> str:
        """The address of a database of the local Postgres."""
        return postgres.dsn(self.ports["postgres"], role, self.passwords[role], database)

    @property
    def addresses(self) -> Addresses:
        """Where the servers are, given or local."""
        local = {
            "postgres_dsn": self.dsn(postgres.OWNER, postgres.OWNER),
            "kafka_bootstrap": f"{ports.HOST}:{self.ports['kafka']}",
            "registry_url": registry.url(self.ports),
        }
        return Addresses(**local | dict(self.given))

    @property
    def registry_storage(self) -> str:
        """The database of the registry: on the given Postgres it is named after the given one."""
        if self.is_local("postgres_dsn"):
            return self.dsn(postgres.REGISTRY, postgres.REGISTRY)
        parts = urlsplit(self.given["postgres_dsn"])
        return parts._replace(path=f"{parts.path}_registry", query="").geturl()


class Stack:
    """The stack of one state folder, running or not."""

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self.supervisor = Supervisor(self.state)

    def known(self) -> dict[str, Any]:
        """What the last `up` wrote: addresses, ports, folders. Empty while the stack is down."""
        return _read(self.state / "stack.json")

    def has_definition(self) -> bool:
        """Whether the Postgres of this folder had a definition after a former `up`. Asks no server."""
        return (self.state / DEPLOYED).exists() and (self.state / "postgres").exists()

    def remember_definition(self) -> None:
        """Lets `has_definition` be known while the servers are down."""
        (self.state / DEPLOYED).touch(0o600)

    def up(self, workers: int, say: Say, *, with_services: bool = False) -> Addresses:
        """Start what is not given and wait until all of it answers. Services wait for `start_services`, which
        is to follow when they are wanted.

        Raises Failed, supervision.Failed, postgres.Failed, kafka.Failed, artifacts.Unavailable.
        """
        self._make_folder()
        with_services |= self.supervisor.is_running() and self.known().get("with_services", False)
        cache = settings.cache_folder()
        with artifacts.only_one(cache):
            download(cache, say)
            # Still alone: another stack of this user could choose the same ports, until the supervisor runs.
            plan = self._plan(workers)
            say("Starting " + ", ".join(_servers(plan)) if _servers(plan) else "Every server is given")
            self.supervisor.run(self._programs(plan, workers))
            asyncio.run(self._until_ready(plan))
        self._remember(plan, workers, with_services=with_services)
        return plan.addresses

    def start_services(self) -> None:
        """Start the workers, the door, the page, clock, notifier and verifier of the last `up`; wait until
        each listens, events are taken and shown.

        Raises supervision.Failed, Failed.
        """
        for name in self.supervisor.processes():
            if name not in GIVEN_BY:
                self.supervisor.start(name)
        asyncio.run(self._until_served())

    def down(self) -> None:
        """Stop everything; the data stays. Raises supervision.Failed."""
        self.supervisor.shut_down()
        (self.state / "stack.json").unlink(missing_ok=True)

    def status(self) -> dict[str, Any]:
        """What `up` wrote and every process of now, as `leadlog status --json` prints it."""
        found = self.supervisor.processes()
        return self.known() | {"processes": {name: process._asdict() for name, process in found.items()}}

    def missing(self) -> list[str]:
        """Processes that do not run although the last `up` was to start them. None when nothing runs."""
        wants_services = self.known().get("with_services", False)
        return [
            process.name
            for process in self.supervisor.processes().values()
            if process.state != "RUNNING"
            and (process.state != "STOPPED" or wants_services or process.name in GIVEN_BY)
        ]

    def why_down(self) -> str:
        """What became of a stack that was up and whose supervisor does not answer; nothing after `down`."""
        if self.supervisor.is_running() or not self.known():
            return ""
        left = len(self.supervisor.leftovers())
        return (
            "The stack was up, but its supervisor is gone (killed, or the machine was restarted); "
            f"{left or 'none'} of its processes still run{'' if left > 1 else 's'}. "
            "`leadlog up` goes on with the data, `leadlog down` ends what runs."
        )

    def bases(self) -> dict[str, str]:
        """Where each service that runs now serves its pages, by the name of its process."""
        return {
            name: f"http://{ports.HOST}:{self._port(name)}"
            for name, process in self.supervisor.processes().items()
            if name not in GIVEN_BY and process.state == "RUNNING"
        }

    def listens(self, name: str) -> bool:
        """Whether a server or service listens on its port itself, and no other program in its place."""
        return self.supervisor.listens(name, self._port(name))

    async def wait_for_given(self, addresses: Addresses, seconds: float) -> None:
        """Wait for so long until servers that somebody else may have to start answer. Raises Failed."""
        asked = questions(addresses).items()
        await asyncio.gather(*(self._until(name, answers, seconds) for name, answers in asked))

    def _make_folder(self) -> None:
        if not self.state.is_dir():
            self.state.mkdir(parents=True)
            # As root, Postgres' own user passes through to its data; only the owner reads what lies beside.
            self.state.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def _plan(self, workers: int) -> Plan:
        remembered = _ports(self.state)
        if not self.supervisor.is_running():
            self.supervisor.end_leftovers()
        promised = {port for folder in running_folders() - {self.state} for port in _ports(folder).values()}
        chosen = ports.choose(ports.wishes(workers), remembered, self.supervisor.held_ports(), promised)
        new = {role: secrets.token_urlsafe(24) for role in ROLES} | {"ingest_key": new_secret()}
        passwords = new | _read(self.state / "passwords.json")
        _write(self.state / "ports.json", remembered | chosen)
        _write(self.state / "passwords.json", passwords)
        return Plan(settings.given_servers(), chosen, passwords)

    def _programs(self, plan: Plan, workers: int) -> list[Program]:
        """What the supervisor runs, in the order of starting, with everything on disk that it needs."""
        makers = {
            "postgres_dsn": partial(_postgres, self.state, plan),
            "kafka_bootstrap": partial(_kafka, self.state, plan),
            "registry_url": partial(registry.program, plan.ports, plan.registry_storage),
        }
        with ThreadPoolExecutor() as pool:  # the first time, both databases take seconds to be made
            servers = [pool.submit(make) for address, make in makers.items() if plan.is_local(address)]
            programs = [server.result() for server in servers]
        return [*programs, *processes.programs(self.state, workers, plan.ports)]

    async def _until_ready(self, plan: Plan) -> None:
        addresses = plan.addresses
        await asyncio.gather(
            self._until("kafka", partial(kafka.answers, addresses.kafka_bootstrap)),
            self._until_databases(plan),
        )

    async def _until_served(self) -> None:
        known = self.known()
        names = [name for name in self.supervisor.processes() if name not in GIVEN_BY]
        questions = {"ingest": partial(served.is_ready, known[served.URLS["ingest"]])}
        await asyncio.gather(*(self._until(name, questions.get(name, _at_once)) for name in names))

    async def _until_databases(self, plan: Plan) -> None:
        if plan.is_local("postgres_dsn"):
            superuser = plan.dsn(postgres.SUPERUSER, "postgres")
            await self._until("postgres", partial(postgres.answers, superuser))
            await postgres.create_roles_and_databases(superuser, plan.passwords)
        else:
            await self._until("postgres", partial(postgres.answers, plan.given["postgres_dsn"]))
        if plan.is_local("registry_url"):
            await self._start_registry(plan)
        await self._until("registry", partial(registry.answers, plan.addresses.registry_url))

    async def _start_registry(self, plan: Plan) -> None:
        if not plan.is_local("postgres_dsn"):
            await _make_registry_database(plan)
        self.supervisor.start("registry")

    async def _until(self, name: str, answers: Question, seconds: float | None = None) -> None:
        """Ask until the server answers, itself if it is ours. Raises Failed when it took longer than
        `seconds`, or dies again and again."""
        is_local = name in self.supervisor.processes() and not _is_given(name)
        usual = settings.START_SECONDS if is_local else GIVEN_SECONDS
        deadline = time.monotonic() + (usual if seconds is None else seconds)
        pids: set[int] = set()
        while (is_local and not self.listens(name)) or not await answers():
            process = self.supervisor.processes().get(name)
            if is_local and process is None:
                raise Failed(f"{name} is gone while it was waited for: somebody took the stack down")
            pids |= {process.pid} if process and process.pid else set()
            if time.monotonic() > deadline or len(pids) > DEATHS_TO_GIVE_UP:
                raise Failed(self._why_not(name, is_local))
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    def _port(self, process: str) -> int:
        return _ports(self.state)[processes.listener(process)]

    def _why_not(self, name: str, is_local: bool) -> str:
        if not is_local:
            return (
                f"the {name} given by {GIVEN_BY[name]} does not answer: is it up, and is the address right, "
                "with user and password if it has them?"
            )
        return (
            f"{name} does not come up. The end of {self.supervisor.logs / name}.log:\n"
            f"{self.supervisor.last_lines(name)}\n`leadlog doctor` looks for the usual reasons."
        )

    def _remember(self, plan: Plan, workers: int, *, with_services: bool) -> None:
        used = [f"worker_{number}" for number in range(1, workers + 1)]
        metered = ("ingest", *used, *ports.BACKGROUND)
        known = plan.addresses._asdict() | {
            "bi_dsn": plan.dsn(postgres.READER, postgres.OWNER) if plan.is_local("postgres_dsn") else "",
            **served.urls(plan.ports),
            "ingest_key": plan.passwords["ingest_key"],
            "worker_urls": [f"http://{ports.HOST}:{plan.ports[name]}" for name in used],
            "state_folder": str(self.state),
            "log_folder": str(self.supervisor.logs),
            "alerts_file": settings.ALERTS,
            "with_services": with_services,
            "code": processes.installed_code(),
            "supervisor_pid": self.supervisor.pid(),
            "metrics_urls": {name: f"http://{ports.HOST}:{plan.ports[name]}/metrics" for name in metered},
            "ports": {name: plan.ports[name] for name in ports.wishes(workers)},
        }
        _write(self.state / "stack.json", known)


def _is_given(name: str) -> bool:
    """Whether the environment names a server, whatever runs in the state folder."""
    return bool(settings.given().get(GIVEN_BY.get(name, "")))


async def _at_once() -> bool:
    """Of a service that is there as soon as it listens. The page says itself what it waits for: after an
    upgrade for a build, which needs the stack."""
    return True


def questions(addresses: Addresses) -> dict[str, Question]:
    """For each server (`postgres`, `kafka`, `registry`) whether it answers."""
    return {
        "postgres": partial(postgres.answers, addresses.postgres_dsn),
        "kafka": partial(kafka.answers, addresses.kafka_bootstrap),
        "registry": partial(registry.answers, addresses.registry_url),
    }


def _servers(plan: Plan) -> list[str]:
    names = {"postgres_dsn": "PostgreSQL", "kafka_bootstrap": "Kafka", "registry_url": "the schema registry"}
    return [name for address, name in names.items() if plan.is_local(address)]


def _postgres(state: Path, plan: Plan) -> Program:
    where = postgres.place(state)
    postgres.prepare(where, plan.ports["postgres"], plan.passwords[postgres.SUPERUSER])
    return postgres.program(where)


def _kafka(state: Path, plan: Plan) -> Program:
    kafka.prepare(state / "kafka", plan.ports)
    return kafka.program(state / "kafka")


async def _make_registry_database(plan: Plan) -> None:
    storage = urlsplit(plan.registry_storage)
    connection = await asyncpg.connect(plan.given["postgres_dsn"])
    try:
        owner = await connection.fetchval("select current_user")
        await postgres.ensure_database(connection, storage.path.lstrip("/"), owner=owner)
    except asyncpg.InsufficientPrivilegeError as error:
        raise Failed(
            f"the given Postgres does not let us create {storage.path.lstrip('/')}, where the registry keeps "
            "its schemas: create that database for the same user, or give a registry as LEADLOG_REGISTRY_URL"
        ) from error
    finally:
        await connection.close()


def _ports(state: Path) -> dict[str, int]:
    """The ports that a stack has chosen, for this and for former starts."""
    return _read(state / "ports.json")


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _write(file: Path, value: Mapping[str, Any]) -> None:
    """Replace a file in one step, readable by its owner only: it holds passwords."""
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(value, indent=2) + "\n")
    new.replace(file)
