"""The broker: one node of Apache Kafka that is its own controller (KRaft), on 127.0.0.1 only.

Promises that acknowledged records survive the death of the process. A real deployment has three brokers and
replication. The topics and their settings are those of `schemas.topics`.
"""

import asyncio
import base64
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infra import artifacts, java
from infra.ports import HOST
from infra.supervision import Program
from services import settings

FORMAT_HEAP_MB = 128
STOP_SECONDS = 30
CHECK_TIMEOUT_MS = 2_000

LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
"""


class Failed(RuntimeError):
    """The broker's storage cannot be prepared."""


def properties(data: Path, ports: Mapping[str, int]) -> str:
    """The text of `server.properties`."""
    broker, controller = f"{HOST}:{ports['kafka']}", f"{HOST}:{ports['kafka_controller']}"
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={controller}
listeners=PLAINTEXT://{broker},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{broker},CONTROLLER://{controller}
controller.listener.names=CONTROLLER
log.dirs={data}

# Topics are created by deployment code, with the settings of the contract, and keep everything.
auto.create.topics.enable=false
log.retention.ms=-1

# One node: nothing to replicate to.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# No transactions: their markers take offsets, and whoever looks for lost records needs offsets without holes.
# Their topic asks for one broker more than there is: it is never made, and no transactional producer begins.
transaction.state.log.replication.factor=2

# A group of few members need not wait for more (default 3 s).
group.initial.rebalance.delay.ms=0
# Two cores are shared with Postgres and the workers.
num.network.threads=2
num.io.threads=4
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=1048577
file.delete.delay.ms=1000
"""


def prepare(folder: Path, ports: Mapping[str, int]) -> None:
    """Write the configuration and, the first time, format the storage. Raises Failed."""
    data = folder / "data"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)  # the records say who the leads are
    (folder / "server.properties").write_text(properties(data, ports))
    (folder / "logging.properties").write_text(LOGGING)
    if not (data / "meta.properties").exists():
        _format(folder)


def _format(folder: Path) -> None:
    tool = _command(folder, FORMAT_HEAP_MB, java.BRIEF, "kafka.tools.StorageTool", "format", "--standalone")
    tool += [
        "--cluster-id",
        _cluster_id(),
        "--ignore-formatted",
        "--config",
        str(folder / "server.properties"),
    ]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Failed(
            f"Kafka could not format {folder}: {said}\n`leadlog doctor` looks for the usual reasons."
        )


def _cluster_id() -> str:
    # The prefix keeps a leading "-" away, which the tool would take for an option.
    return "L" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:21]


def program(folder: Path) -> Program:
    """How supervisord runs the broker."""
    options = [*settings.KAFKA_JAVA_OPTIONS, "kafka.Kafka", str(folder / "server.properties")]
    command = _command(folder, settings.KAFKA_HEAP_MB, *options)
    return Program("kafka", command, {}, None, "TERM", STOP_SECONDS, starts_alone=True)


def _command(folder: Path, heap_mb: int, *rest: str) -> list[str]:
    jars = [artifact.path(settings.cache_folder()) for artifact in artifacts.locked("kafka")]
    logging = f"-Dlog4j2.configurationFile={folder / 'logging.properties'}"
    return java.command(heap_mb, logging, "-cp", ":".join(map(str, jars)), *rest)


async def answers(bootstrap: str) -> bool:
    """Whether the broker serves requests about topics."""
    if not await _listens(bootstrap):  # aiokafka would complain aloud at every try
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=CHECK_TIMEOUT_MS)
    try:
        await admin.start()
        await admin.list_topics()
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return True


async def _listens(bootstrap: str) -> bool:
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True
