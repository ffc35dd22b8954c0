"""Real servers for tests: containers where a Docker engine answers, else the local stack in an own folder.

Promises the same addresses and the same accidents (`kill`, `stop`, `start`) from both, so that no test knows
which it has. What is missing raises; nothing is skipped.
"""

import asyncio
import fcntl
import json
import os
import random
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import docker
import psutil
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from infra import kafka, ports, postgres, registry
from infra.stack import ROLES, Stack, questions
from services.settings import Addresses

DEADLINE_SECONDS = 120.0
LOOK_AGAIN_SECONDS = 0.2
FOLDERS = "leadlog-tests-"

KAFKA_IMAGE = "apache/kafka:4.3.1"
POSTGRES_IMAGE = "postgres:18"
REGISTRY_IMAGE = "apicurio/apicurio-registry:3.3.3"


class Servers(Protocol):
    """Postgres, Kafka and the registry, running; `name` is `postgres`, `kafka` or `registry`."""

    addresses: Addresses
    bi_dsn: str
    """How a BI tool connects."""

    def kill(self, name: str) -> None:
        """SIGKILL; the server comes back by itself."""

    def stop(self, name: str) -> None:
        """Stop a server until `start`."""

    def start(self, name: str) -> None:
        """Start what was stopped; `ready` waits for it."""

    def close(self) -> None:
        """Stop everything and delete it."""


def ready(addresses: Addresses, name: str) -> None:
    """Wait until the server answers. TimeoutError after two minutes."""
    asyncio.run(until(questions(addresses)[name], f"{name} does not answer"))


async def take_away(servers: Servers, name: str) -> None:
    """SIGKILL, and not started again until `bring_back`."""
    await asyncio.to_thread(servers.kill, name)
    await asyncio.to_thread(servers.stop, name)  # what keeps it up would start it again at once


async def bring_back(servers: Servers, name: str) -> None:
    """Starts it again and waits until it answers."""
    await asyncio.to_thread(servers.start, name)
    await asyncio.to_thread(ready, servers.addresses, name)


async def until(holds: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Wait until a condition holds. TimeoutError, with `otherwise`, after two minutes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} after {DEADLINE_SECONDS:.0f} s")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def begin() -> Servers:
    """The servers of this test run."""
    running = os.environ.get("LEADLOG_TEST_STACK")
    if running:
        return RunningServers(Path(running))
    return ContainerServers() if docker_answers() else LocalServers()


def docker_answers() -> bool:
    """Whether there is a Docker engine."""
    try:
        return bool(docker.from_env().ping())
    except docker.errors.DockerException:
        return False


class RunningServers:
    """A local stack that is up already and stays so: for the quick loop of a developer."""

    def __init__(self, state: Path) -> None:
        self.stack = Stack(state)
        known = self.stack.known()
        if not known:
            raise RuntimeError(f"LEADLOG_TEST_STACK is {state}, but no stack is up there")
        if self.stack.has_definition():
            raise RuntimeError(
                f"the stack in {state} has a definition and perhaps events, and tests empty its topics: "
                "give them one of `leadlog up --servers-only`"
            )
        self.addresses = Addresses(*(known[name] for name in Addresses._fields))
        self.bi_dsn: str = known["bi_dsn"]

    def kill(self, name: str) -> None:
        """SIGKILL; the supervisor starts it again."""
        os.kill(self.stack.supervisor.processes()[name].pid, signal.SIGKILL)

    def stop(self, name: str) -> None:
        """Stop a server until `start`."""
        self.stack.supervisor.stop(name)

    def start(self, name: str) -> None:
        """Start what was stopped."""
        self.stack.supervisor.start(name)

    def close(self) -> None:
        """Nothing: it was there before."""


class LocalServers(RunningServers):
    """A local stack that lives as long as the test run."""

    def __init__(self) -> None:
        remove_abandoned()
        self.home = new_folder()
        stack = Stack(self.home / "state")
        stack.up(1, print)
        super().__init__(stack.state)

    def close(self) -> None:
        """Stop it and delete its data."""
        remove(self.stack)
        self.home.rmdir()


def new_folder() -> Path:
    """A folder for a stack of this run whose ports leave the usual ones to people."""
    home = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-"))
    home.chmod(0o755)
    state = home / "state"
    state.mkdir(mode=0o755)
    (state / "ports.json").write_text(json.dumps(other_ports()))
    return home


def other_ports() -> dict[str, int]:
    """A free port for each listener, none of them a usual one."""
    names = ports.wishes(workers=1)
    other = random.sample(ports.OTHERS, len(names))
    return ports.choose(dict(zip(names, other, strict=True)), {}, ())


def remove(stack: Stack) -> None:
    """Stop it and delete its data, wherever that lies."""
    stack.down()
    data = (stack.state / "postgres").resolve()
    if not data.is_relative_to(stack.state.resolve()):
        shutil.rmtree(data.parent, ignore_errors=True)
    shutil.rmtree(stack.state, ignore_errors=True)


def remove_abandoned() -> None:
    """End the stacks of earlier runs that were killed before they could.

    One process at a time: those of one run start together.
    """
    folder = Path(tempfile.gettempdir())
    with (folder / f"leadlog-abandoned-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for home in folder.glob(f"{FOLDERS}*"):
            if is_abandoned(home):
                remove(Stack(home / "state"))
                shutil.rmtree(home)


def is_abandoned(home: Path) -> bool:
    """Whether the run that made this folder is gone, and left it."""
    pid = int(home.name.removeprefix(FOLDERS).partition("-")[0])
    try:
        owner = home.stat().st_uid
    except FileNotFoundError:  # the run has just ended, and removed it
        return False
    return owner == os.geteuid() and not psutil.pid_exists(pid)


def settings_of(text: str) -> dict[str, str]:
    """Name and value of each setting in a text of `server.properties`."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


class ContainerServers:
    """The same servers in containers, on ports that stay when a container is started again."""

    def __init__(self) -> None:
        self.network = Network().create()
        self.host = DockerContainer(POSTGRES_IMAGE).get_docker_client().host()
        self.ports = other_ports()
        self.passwords = {role: uuid.uuid4().hex for role in ROLES}
        self.containers: dict[str, Any] = {}
        self._start_postgres()
        self._start_kafka()
        self.addresses = Addresses(
            self._dsn(postgres.OWNER, postgres.OWNER),
            f"{self.host}:{self.ports['kafka']}",
            f"http://{self.host}:{self.ports['registry']}/apis/ccompat/v7",
        )
        self.bi_dsn = self._dsn(postgres.READER, postgres.OWNER)
        asyncio.run(self._make_databases())
        self._start_registry()
        for name in ("kafka", "registry"):
            ready(self.addresses, name)

    def kill(self, name: str) -> None:
        """SIGKILL, and Docker starts it again."""
        self.containers[name].get_wrapped_container().kill()
        self.start(name)

    def stop(self, name: str) -> None:
        """Stop a container until `start`."""
        self.containers[name].get_wrapped_container().stop()

    def start(self, name: str) -> None:
        """Start what was stopped."""
        self.containers[name].get_wrapped_container().start()

    def close(self) -> None:
        """Delete the containers and their network."""
        for container in self.containers.values():
            container.stop()
        self.network.remove()

    def _dsn(self, role: str, database: str) -> str:
        local = postgres.dsn(self.ports["postgres"], role, self.passwords[role], database)
        return local.replace(f"@{ports.HOST}:", f"@{self.host}:")

    async def _make_databases(self) -> None:
        superuser = self._dsn(postgres.SUPERUSER, "postgres")
        await until(partial(postgres.answers, superuser), "postgres does not answer")
        await postgres.create_roles_and_databases(superuser, self.passwords)

    def _start_postgres(self) -> None:
        self._run("postgres", POSTGRES_IMAGE, 5432, {"POSTGRES_PASSWORD": self.passwords[postgres.SUPERUSER]})

    def _start_kafka(self) -> None:
        advertised = f"PLAINTEXT://{self.host}:{self.ports['kafka']},CONTROLLER://localhost:9093"
        given = settings_of(kafka.properties(Path("/tmp/kafka"), self.ports))
        # The image formats its storage in the old way, for which the quorum's members must be given.
        del given["controller.quorum.bootstrap.servers"]
        own = {
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": advertised,
            "controller.quorum.voters": "1@localhost:9093",
            "log.dirs": "/tmp/kafka",
        }
        environment = {f"KAFKA_{n.upper().replace('.', '_')}": value for n, value in (given | own).items()}
        self._run("kafka", KAFKA_IMAGE, 9092, environment)

    def _start_registry(self) -> None:
        inside = {"registry": 8080, "registry_management": 9000}
        dsn = f"postgresql://{postgres.REGISTRY}:{self.passwords[postgres.REGISTRY]}@postgres:5432/registry"
        environment = registry.environment(inside, dsn)
        everywhere = {name: "0.0.0.0" for name in environment if name.endswith("_HOST")}
        self._run("registry", REGISTRY_IMAGE, 8080, environment | everywhere)

    def _run(self, name: str, image: str, port: int, environment: dict[str, str]) -> None:
        container = DockerContainer(image).with_envs(**environment).with_bind_ports(port, self.ports[name])
        self.containers[name] = container.with_network(self.network).with_network_aliases(name).start()
