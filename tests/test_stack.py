"""The local stack keeps its promises: data stays, the dead come back, nothing is reachable from outside.

Runs stacks of its own, whatever the other tests get their servers from.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
import pytest
import requests
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra import artifacts, kafka, ports, processes, served
from infra.stack import Failed, Stack
from infra.supervision import SOCKET_PATH_BYTES, Supervisor
from services import settings
from services.settings import Addresses
from tests.servers import (
    FOLDERS,
    RunningServers,
    is_abandoned,
    new_folder,
    ready,
    remove,
    remove_abandoned,
    until,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
DEFINITION = ROOT / "projections" / "default.yaml"
SMALL = "log4j-slf4j-impl"
EVENT = {
    "record": "LeadAssigned",
    "event_id": "1",
    "subject_id": "crm:1",
    "occurred_at": "2026-03-02T10:15:00Z",
    "source": "crm",
    "owner_id": "anna",
}


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack of this module's own."""
    remove_abandoned()
    home = new_folder()
    stack = Stack(home / "state")
    stack.up(1, print)
    yield stack
    remove(stack)
    home.rmdir()


@pytest.fixture(scope="module")
def serving(own: Stack) -> Stack:
    """The same, from here on with its services."""
    done = leadlog(own, "up")
    assert done.returncode == 0, done.stderr
    return own


def leadlog(stack: Stack, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, as a person calls it, on a stack."""
    command = [str(Path(sys.executable).with_name("leadlog")), *arguments]
    environment = os.environ | {"LEADLOG_STATE": str(stack.state)} | settings
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def pids(stack: Stack) -> dict[str, int]:
    """The process id of everything that the stack runs."""
    return {name: process.pid for name, process in stack.supervisor.processes().items()}


def addresses(stack: Stack) -> Addresses:
    """Where the servers of a running stack are."""
    known = stack.known()
    return Addresses(*(known[name] for name in Addresses._fields))


def test_test_runs_that_start_together_remove_an_abandoned_stack_once() -> None:
    """Two processes of a run found the same one: the slower failed, and with it all of its tests."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = [Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{process.pid}-")) for _ in range(200)]
    for each in left:
        (each / "state").mkdir()
        (each / "work").mkdir()  # a test of the demo has it
    command = [sys.executable, "-c", "from tests.servers import remove_abandoned; remove_abandoned()"]
    removing = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [each.wait() for each in removing] == [0, 0, 0, 0]
    assert not any(each.exists() for each in left)
    assert not is_abandoned(left[0])  # as when another run ends by itself meanwhile


def kill(stack: Stack, server: str) -> None:
    """SIGKILL to a server, and wait until another process answers in its place."""
    dead = stack.supervisor.processes()[server].pid
    os.kill(dead, signal.SIGKILL)

    async def is_another() -> bool:
        return stack.supervisor.processes()[server].pid not in (0, dead)

    asyncio.run(until(is_another, f"{server} is not started again"))
    ready(addresses(stack), server)


async def put_row(dsn: str) -> None:
    """Commit a row."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table if not exists kept (value text)")
    await connection.execute("insert into kept values ('here')")
    await connection.close()


async def rows(dsn: str) -> int:
    """Rows committed so far."""
    connection = await asyncpg.connect(dsn)
    count: int = await connection.fetchval("select count(*) from kept")
    await connection.close()
    return count


async def put_record(bootstrap: str, topic: str) -> None:
    """Create the topic and have a record acknowledged."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    await producer.send_and_wait(topic, b"here")
    await producer.stop()


async def first_record(bootstrap: str, topic: str) -> bytes | None:
    """The value of the topic's first record."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), timeout=30)
    finally:
        await consumer.stop()
    value: bytes | None = record.value
    return value


async def register(url: str) -> int:
    """Register a schema; the id is the same when it is known."""
    schema = {"schema": json.dumps({"type": "record", "name": "Kept", "fields": []})}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/subjects/kept/versions", json=schema) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return int((await answer.json(content_type=None))["id"])


SERVICES = ("clock", "ingest", "notifier", "projector-1", "verifier", "web")


def test_up_opens_the_door_with_a_key_of_its_own(own: Stack) -> None:
    """`status --json` has its address and key, the same after every `up`; `doctor` and `logs` know it."""
    keys = []
    for _ in range(2):
        done = leadlog(own, "up")
        assert done.returncode == 0, done.stderr
        now = json.loads(leadlog(own, "status", "--json").stdout)
        answer = requests.post(
            f"{now['ingest_url']}/v1/events?dry_run=true",
            json=EVENT,
            auth=(now["ingest_key"], ""),
            timeout=60,
        )
        assert (answer.status_code, answer.json()["results"][0]["status"]) == (200, "valid")
        keys.append(now["ingest_key"])
    assert keys[0] == keys[1]
    assert now["ingest_key"] in leadlog(own, "status").stdout
    assert "served" in leadlog(own, "logs", "ingest").stdout
    examined = leadlog(own, "doctor").stdout
    assert f"the HTTP door answers at {now['ingest_url']}" in examined
    assert f"the page answers at {now['page_url']}" in examined
    assert re.search(r"ok +clock answers at ", examined)


@pytest.mark.parametrize("name", ["clock", "projector-1"])
def test_doctor_notices_a_process_that_stands(serving: Stack, name: str) -> None:
    """Frozen, it was running and nothing in the way."""
    frozen = psutil.Process(pids(serving)[name])
    frozen.suspend()
    try:
        done = leadlog(serving, "doctor")
    finally:
        frozen.resume()
    assert done.returncode == 1
    assert re.search(rf"problem +{name} at .* stands: no answer within 2 s", done.stdout)


@pytest.mark.parametrize("name", served.LAST_LOOK)
def test_a_process_is_judged_by_its_last_look(
    serving: Stack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that answers and waits for ever within its work does nothing either."""
    base = serving.bases()[name]
    assert served.stuck(name, base) == ""
    monkeypatch.setattr(served, "LOOKS_EVERY_SECONDS", 0.0)
    assert re.fullmatch("it last looked [01] s ago", served.stuck(name, base))


def test_a_relative_file_of_channels_is_that_of_the_shell(
    serving: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notifier looked for it in the folder of the first `up`. `up` and `status` say which is in force."""
    assert "alerts_file      none\n" in leadlog(serving, "status").stdout
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("channels: {}\n")
    done = leadlog(serving, "up", LEADLOG_ALERTS="mine.yaml")
    assert f"Alerts go where {tmp_path / 'mine.yaml'} says." in done.stderr
    assert f"alerts_file      {tmp_path / 'mine.yaml'}\n" in leadlog(serving, "status").stdout
    notifier = psutil.Process(pids(serving)["notifier"])
    assert notifier.environ()["LEADLOG_ALERTS"] == str(tmp_path / "mine.yaml")


def test_tests_leave_a_stack_with_a_definition_alone(serving: Stack) -> None:
    """They would have deleted its topics, and made them again."""
    with pytest.raises(RuntimeError, match="up --servers-only"):
        RunningServers(serving.state)


def test_a_refused_up_leaves_the_services_running(serving: Stack) -> None:
    """It stopped them first, for a setting that had changed, and then refused the second definition."""
    before = pids(serving)
    refused = leadlog(serving, "up", "--definition", str(DEFINITION), LEADLOG_VERIFY_HOURS="48")
    assert refused.returncode == 1
    assert "is in force already" in refused.stderr
    assert pids(serving) == before


def test_services_are_started_anew_by_other_code(serving: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` left them as they were: what was then built by the new release, as it advised, nobody fed."""
    before = pids(serving)
    with monkeypatch.context() as before_the_upgrade:
        before_the_upgrade.setattr(processes, "installed_code", lambda: "of the release before")
        serving.up(1, print)
    assert {name for name, pid in pids(serving).items() if pid != before[name]} == {*SERVICES}
    serving.start_services()
    assert "problem  the services run other code than is installed now" in leadlog(serving, "doctor").stdout
    assert leadlog(serving, "up").returncode == 0
    assert leadlog(serving, "doctor").stdout.endswith("Nothing is in the way.\n")


def test_services_that_are_stopped_are_missed_after_up(serving: Stack) -> None:
    """Both commands called it fine: a service that `up` started and somebody stopped."""
    for name in SERVICES:
        serving.supervisor.stop(name)
    seen = leadlog(serving, "status")
    assert seen.returncode == 3
    missing = re.search(r"Does not run: (.*)\. `leadlog doctor`", seen.stdout)
    assert missing
    assert set(missing[1].split(", ")) == set(SERVICES)
    examined = leadlog(serving, "doctor")
    assert examined.returncode == 1
    assert re.search(r"problem +clock: stopped, .*\n +-> `leadlog up` starts it", examined.stdout)


def test_status_names_addresses_that_answer(own: Stack) -> None:
    """Every address that `leadlog status --json` gives can be used as it stands; services that nobody wanted
    are not missed."""
    assert leadlog(own, "down").returncode == 0
    assert leadlog(own, "up", "--servers-only").returncode == 0
    done = leadlog(own, "status", "--json")
    now = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    asyncio.run(put_row(now["postgres_dsn"]))
    asyncio.run(put_record(now["kafka_bootstrap"], uuid.uuid4().hex))
    asyncio.run(register(now["registry_url"]))
    states = {name: process["state"] for name, process in now["processes"].items()}
    assert states == {
        "postgres": "RUNNING",
        "kafka": "RUNNING",
        "registry": "RUNNING",
    } | dict.fromkeys(SERVICES, "STOPPED")


def test_nothing_listens_beyond_this_machine(own: Stack) -> None:
    """Every port of every process of the stack is open on 127.0.0.1 alone."""
    daemon = psutil.Process(own.known()["supervisor_pid"])
    listening = {
        connection.laddr
        for process in daemon.children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {port for _, port in listening} >= {own.known()["ports"][name] for name in ports.USUAL}
    assert {address for address, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_only_its_owner_reads_the_state_folder(own: Stack) -> None:
    """Every user of the machine read the records of the broker, and so what was said of leads, and logs."""
    open_to_others = [each.name for each in own.state.iterdir() if each.stat().st_mode & 0o077]
    assert open_to_others == []


def test_killed_postgres_comes_back_with_what_was_committed(own: Stack) -> None:
    """SIGKILL to Postgres: it is started again, and no committed row is lost."""
    dsn = addresses(own).postgres_dsn
    asyncio.run(put_row(dsn))
    before = asyncio.run(rows(dsn))
    kill(own, "postgres")
    assert asyncio.run(rows(dsn)) == before
    ready(addresses(own), "registry")  # its storage was away


def test_bi_tools_leave_the_services_their_connections(own: Stack) -> None:
    """A dashboard that opens all it can get kept the projector out."""
    asyncio.run(take_all_connections(own.known()["bi_dsn"], addresses(own).postgres_dsn))


async def take_all_connections(bi_dsn: str, owner_dsn: str) -> None:
    """Connects as a BI tool until Postgres refuses, then as the services do."""
    taken: list[Any] = []
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(bi_dsn))
    try:
        assert 30 < len(taken) < 50
        await (await asyncpg.connect(owner_dsn)).close()
    finally:
        for connection in taken:
            await connection.close()


def test_killed_broker_comes_back_with_what_was_acknowledged(own: Stack) -> None:
    """SIGKILL to the broker: it is started again, and no acknowledged record is lost."""
    topic = uuid.uuid4().hex
    bootstrap = addresses(own).kafka_bootstrap
    asyncio.run(put_record(bootstrap, topic))
    kill(own, "kafka")
    assert asyncio.run(first_record(bootstrap, topic)) == b"here"


def test_what_is_stopped_just_after_it_died_is_not_started_again(own: Stack) -> None:
    """Between its death and its restart it did not run, so there was nothing to stop."""
    for _ in range(5):
        os.kill(pids(own)["kafka"], signal.SIGKILL)
        own.supervisor.stop("kafka")
        time.sleep(1)
        assert pids(own)["kafka"] == 0
        own.supervisor.start("kafka")
    ready(addresses(own), "kafka")


def test_doctor_names_the_process_that_is_down(own: Stack) -> None:
    """With the broker stopped, `doctor` says so, says what to do, and ends with 1; `status` shows it."""
    own.supervisor.stop("kafka")
    try:
        done = leadlog(own, "doctor")
    finally:
        own.supervisor.start("kafka")
        ready(addresses(own), "kafka")
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"kafka: stopped", done.stdout)
    assert re.search(r"problem +Kafka does not answer", done.stdout)


def test_what_java_died_of_is_told_without_the_way_there(own: Stack) -> None:
    """Of a broker on a full disk the report showed five lines of a stack trace, and not what was wrong."""
    meta = own.state / "kafka" / "data" / "meta.properties"
    kept = meta.read_text()
    own.supervisor.stop("kafka")
    meta.write_text(kept.replace("version=1", "version=77"))
    own.supervisor.start("kafka")
    asyncio.run(until(partial(_has_told, own, "77"), "the broker takes it"))
    own.supervisor.stop("kafka")
    meta.write_text(kept)
    own.supervisor.start("kafka")
    ready(addresses(own), "kafka")


async def _has_told(stack: Stack, what: str) -> bool:
    return what in stack.supervisor.last_lines("kafka", lines=5)


def test_a_given_server_that_is_away_is_named_beside_a_running_stack(own: Stack) -> None:
    """`deploy` took it for the stack's own: it waited for three minutes, then showed that one's log."""
    done = leadlog(own, "deploy", "--wait", "1", LEADLOG_KAFKA_BOOTSTRAP="127.0.0.1:9")
    assert done.returncode == 3
    assert "the kafka given by LEADLOG_KAFKA_BOOTSTRAP does not answer" in done.stderr


def test_up_again_changes_nothing(own: Stack) -> None:
    """`up` on a running stack leaves every server as it is."""
    before = pids(own)
    assert own.up(1, print) == addresses(own)
    assert pids(own) == before


def test_logs_show_one_process(own: Stack) -> None:
    """`logs NAME` prints that process' log; an unknown name is a usage error that lists the known ones."""
    assert "database system is ready" in leadlog(own, "logs", "postgres").stdout
    unknown = leadlog(own, "logs", "nobody")
    assert unknown.returncode == 2
    known = unknown.stderr.partition("There are: ")[2]
    assert {"kafka", "postgres", "registry"} <= set(known.strip().split(", "))


@pytest.mark.slow
def test_down_and_up_keep_everything_though_the_ports_are_taken(own: Stack) -> None:
    """Rows, records and schema ids outlive `down`; when other programs took the ports, `up` finds others."""
    topic = uuid.uuid4().hex
    before = addresses(own)
    asyncio.run(put_row(before.postgres_dsn))
    asyncio.run(put_record(before.kafka_bootstrap, topic))
    count, schema = asyncio.run(rows(before.postgres_dsn)), asyncio.run(register(before.registry_url))
    old = {name: own.known()["ports"][name] for name in ports.USUAL}
    assert leadlog(own, "down").returncode == 0
    assert leadlog(own, "status").returncode == 3
    with contextlib.ExitStack() as others:
        for port in old.values():
            others.enter_context(socket.create_server((ports.HOST, port)))
        done = leadlog(own, "up", "--servers-only")
    assert done.returncode == 0, done.stderr
    after = addresses(own)
    assert not set(own.known()["ports"].values()) & set(old.values())
    assert asyncio.run(rows(after.postgres_dsn)) == count
    assert asyncio.run(first_record(after.kafka_bootstrap, topic)) == b"here"
    assert asyncio.run(register(after.registry_url)) == schema


@pytest.mark.slow
def test_a_second_definition_is_refused_before_a_stack_is_started(serving: Stack) -> None:
    """The servers were started, left without their services, and only then was it refused."""
    assert leadlog(serving, "down").returncode == 0
    refused = leadlog(serving, "up", "--definition", str(DEFINITION))
    assert (refused.returncode, serving.supervisor.is_running()) == (1, False)
    assert "is in force already" in refused.stderr
    assert leadlog(serving, "up").returncode == 0


@pytest.mark.slow
def test_up_after_the_supervisor_was_killed_leaves_one_of_each(own: Stack) -> None:
    """What a killed supervisor left running is ended before anything is started on the same data."""
    asyncio.run(put_row(addresses(own).postgres_dsn))
    count = asyncio.run(rows(addresses(own).postgres_dsn))
    old = {pid for pid in pids(own).values() if pid}
    os.kill(own.known()["supervisor_pid"], signal.SIGKILL)
    assert "supervisor is gone" in leadlog(own, "doctor").stdout
    seen = leadlog(own, "status")
    assert seen.returncode == 3
    assert re.search(r"supervisor is gone .*; \d+ of its processes still run\.", seen.stdout)
    own.up(1, print)
    assert not any(psutil.pid_exists(pid) for pid in old)
    assert asyncio.run(rows(addresses(own).postgres_dsn)) == count


def test_an_up_whose_stack_is_taken_down_meanwhile_says_so(own: Stack) -> None:
    """It waited for three minutes for servers that nobody was to start any more."""
    own.down()
    with ThreadPoolExecutor() as pool:
        up = pool.submit(leadlog, own, "up", "--servers-only")
        asyncio.run(until(partial(_runs, own), "no supervisor"))
        assert leadlog(own, "down").returncode == 0
        assert (up.result(60).returncode, "somebody took the stack down" in up.result().stderr) == (3, True)
    own.up(1, print)


async def _runs(stack: Stack) -> bool:
    return stack.supervisor.is_running()


def test_two_stacks_that_start_together_take_different_ports(own: Stack, tmp_path: Path) -> None:
    """Both tested a port before either listened, and each took the other's door for its own."""
    wished = ports.choose(ports.wishes(1), {}, (), promised=range(6000, 9000))
    stacks = [Stack(tmp_path / name) for name in ("a", "b")]
    given = {f"LEADLOG_{name.upper()}": value for name, value in addresses(own)._asdict().items()}
    for stack in stacks:
        stack.state.mkdir()
        (stack.state / "ports.json").write_text(json.dumps(wished))
    with ThreadPoolExecutor() as pool:
        ups = [
            pool.submit(leadlog, stack, "up", LEADLOG_CONSUMER_GROUP=stack.state.name, **given)
            for stack in stacks
        ]
    try:
        assert [up.result().returncode for up in ups] == [0, 0], [up.result().stderr for up in ups]
        a, b = ({stack.known()["ports"][name] for name in ports.SERVED} for stack in stacks)
        assert not a & b
        assert all(stack.listens(name) for stack in stacks for name in SERVICES)
    finally:
        for stack in stacks:
            stack.down()


def test_a_service_that_cannot_listen_fails_up(serving: Stack) -> None:
    """`up` ended with 0 when another program answered in its place."""
    taken = serving.known()["ports"]["web"]
    serving.supervisor.stop("web")
    with socket.create_server((ports.HOST, taken)):
        with pytest.raises(Failed, match="web does not come up"):
            serving.start_services()
        assert leadlog(serving, "up").returncode == 0
    assert serving.known()["ports"]["web"] != taken


def test_a_taken_port_is_passed_over() -> None:
    """The remembered port comes first, then the wished one, then any other; ports in use by others never."""
    with socket.create_server((ports.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        free = ports.choose({"a": port}, {}, ())["a"]
        assert free in ports.OTHERS
        assert ports.choose({"a": port}, {"a": free}, ()) == {"a": free}
        assert ports.choose({"a": free}, {"a": port}, ()) == {"a": free}
        assert ports.choose({"a": free}, {"a": port}, held=[port]) == {"a": port}
        assert ports.choose({"a": free}, {}, (), promised=[free])["a"] not in (free, port)


def test_a_deep_state_folder_has_a_short_socket() -> None:
    """The supervisor's socket fits into the operating system's limit wherever the state folder is."""
    for depth in (1, 40):
        path = Supervisor(Path("/tmp", *["leadlog"] * depth)).socket
        assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES


def test_a_file_that_is_not_what_the_lock_names_is_refused(tmp_path: Path) -> None:
    """A download with another checksum is thrown away and named; so is one that changed in the cache."""
    small = next(artifact for artifact in artifacts.all_locked() if artifact.name == SMALL)
    with pytest.raises(artifacts.Unavailable, match=f"{SMALL}.*SHA-256"):
        artifacts.fetch([small._replace(sha256="0" * 64)], tmp_path, lambda _size: None)
    assert not small.path(tmp_path).exists()
    artifacts.fetch([small], tmp_path, lambda _size: None)
    assert artifacts.altered(tmp_path) == []
    small.path(tmp_path).write_bytes(b"something else")
    assert artifacts.altered(tmp_path) == [small]
    assert small in artifacts.missing(tmp_path)


def test_options_of_the_setting_reach_the_brokers_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the class that it runs, or Java would hand them to Kafka."""
    monkeypatch.setattr(settings, "KAFKA_JAVA_OPTIONS", ["-Xint", "-Xrs"])
    command = kafka.program(tmp_path).command
    assert command[command.index("kafka.Kafka") - 2 : -1] == ["-Xint", "-Xrs", "kafka.Kafka"]


@pytest.mark.parametrize("lock", ["servers.lock", "requirements.lock", "requirements-test.lock"])
def test_lock_files_name_no_host(lock: str) -> None:
    """Where packages come from is a matter of the machine, not of the lock files."""
    assert "://" not in (ROOT / "infra" / lock).read_text()
