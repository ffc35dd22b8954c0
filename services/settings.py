"""Every setting in one place: name, unit, default and reason. Nothing else asks for a `LEADLOG_` variable.

A setting `x` is given as the environment variable `LEADLOG_X`.
"""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from services.environment import WrongSetting, number, path, text, word


class NotRunning(RuntimeError):
    """No server addresses are known: the stack is down and none were given."""


class Addresses(NamedTuple):
    """Where the servers are."""

    postgres_dsn: str
    kafka_bootstrap: str
    registry_url: str


FORMS = {
    "postgres_dsn": (
        r"postgres(?:ql)?://(?:.*@)?(?:[^@/:,\[\]]*|\[[^\]]*\])(?::\d+)?(?:,.*)?(?:[/?].*)?",
        "postgresql://user:password@host:port/database",
    ),
    "kafka_bootstrap": (
        r"(?:[^\s:,/]+|\[[^\]]*\]):\d+(?:,(?:[^\s:,/]+|\[[^\]]*\]):\d+)*",
        "host:port, such as 127.0.0.1:9092, of one or more brokers with commas between",
    ),
    "registry_url": (
        r"https?://[^\s/]+(?:/\S*)?",
        "the base of the Confluent API, such as http://127.0.0.1:8081/apis/ccompat/v7",
    ),
}
"""For each address what it must look like, as a pattern and in words."""


def state_folder() -> Path:
    """Where this installation keeps its state: `LEADLOG_STATE`, else `.leadlog` in the working folder."""
    return Path(text("STATE", ".leadlog")).absolute()


def data_folder() -> Path:
    """Where the real data sets lie: `LEADLOG_DATA`, else `../shared/data`."""
    return Path(text("DATA", "../shared/data")).absolute()


def cache_folder() -> Path:
    """Where downloads are kept for all projects: `LEADLOG_CACHE`, else `leadlog` in the user's cache
    folder."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(text("CACHE", str(user_cache / "leadlog"))).absolute()


def given_servers() -> dict[str, str]:
    """The servers that the environment names, by the field of `Addresses`: the local stack starts the
    others."""
    given = {name: text(name.upper(), "") for name in Addresses._fields}
    return {name: _checked(name, value) for name, value in given.items() if value}


def _checked(name: str, value: str) -> str:
    """An address of the form that its server takes. Raises WrongSetting."""
    pattern, example = FORMS[name]
    if not re.fullmatch(pattern, value):
        shown = value.rpartition("@")[2]  # without a password
        raise WrongSetting(f"LEADLOG_{name.upper()} is {shown!r}: expected {example}")
    return value


def given() -> dict[str, str]:
    """Every `LEADLOG_` variable of the environment, to hand on to the processes of the stack."""
    return {name: value for name, value in os.environ.items() if name.startswith("LEADLOG_")}


def addresses() -> Addresses:
    """Addresses given by the environment, else those of the running local stack. Raises NotRunning,
    WrongSetting."""
    file = state_folder() / "stack.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    found = {name: known[name] for name in Addresses._fields if name in known} | given_servers()
    missing = [f"LEADLOG_{name.upper()}" for name in Addresses._fields if name not in found]
    if missing:
        raise NotRunning(
            f"no stack is up in {state_folder()}: start it with `leadlog up`, run the command where it was "
            f"started, or name servers of your own by {' and '.join(missing)}"
        )
    return Addresses(**found)


def superuser_dsn() -> str:
    """A superuser of a Postgres server, for `leadlog databases`: `LEADLOG_SUPERUSER_DSN`, or nothing."""
    return text("SUPERUSER_DSN", "")


def role_password(role: str) -> str:
    """The password that `leadlog databases` gives to a role: `LEADLOG_PASSWORD_<ROLE>`, or nothing."""
    return text(f"PASSWORD_{role.upper()}", "")


CONSUMER_GROUP = text("CONSUMER_GROUP", "leadlog-projector")
"""Kafka consumer group of the projector's workers: those of one group share the partitions."""

BATCH_RECORDS = number("BATCH_RECORDS", 1_000)
"""Records at most in one transaction of the projector. More gains little throughput and makes a kill undo
more."""

SESSION_TIMEOUT_SECONDS = number("SESSION_TIMEOUT_SECONDS", 10)
"""After this silence Kafka gives a worker's partitions to the others. Lower would take a long pause for
death."""

REBALANCE_TIMEOUT_SECONDS = number("REBALANCE_TIMEOUT_SECONDS", 20)
"""How long Kafka waits for every worker to join anew; a batch in hand may use half of it before it is
undone."""

SHUTDOWN_SECONDS = number("SHUTDOWN_SECONDS", 20)
"""A worker told to stop is gone after this time, come what may: the client library waits without a
deadline."""

STUCK_SECONDS = number("STUCK_SECONDS", 60)
"""`/livez` fails when there was work, both servers answered, and nothing was stored for this long. A batch
of the longest journeys takes a few seconds; a restart is cheap but stops the worker for about three."""

READY_LAG_RECORDS = number("READY_LAG_RECORDS", 5_000)
"""`/readyz` says yes below this many unread records: about half a second of a worker's work."""

METRICS_HOST = text("METRICS_HOST", "127.0.0.1")
"""Address on which workers, clock, notifier and verifier listen with `/livez` and `/metrics`. They ask nobody
who they are: 0.0.0.0 is for a network of containers, where Prometheus comes from another one."""

PROJECTOR_PORT = number("PROJECTOR_PORT", 0)
"""Port of a worker's `/livez`, `/readyz` and `/metrics`; 0 takes a free one, as two workers need."""

INGEST_HOST = text("INGEST_HOST", "127.0.0.1")
"""Address on which the HTTP door listens. Only this machine reaches it unless another one is given; the door
speaks plain HTTP, so TLS belongs before it."""

INGEST_PORT = number("INGEST_PORT", 8080)
"""Port of the HTTP door when it is run by hand; 0 takes a free one."""

WEB_HOST = text("WEB_HOST", "127.0.0.1")
"""Address on which the page listens. It asks nobody who they are: where others reach it, what knows the
company's people belongs before it."""

WEB_PORT = number("WEB_PORT", 8088)
"""Port of the page when it is run by hand; 0 takes a free one."""

WEB_NAMES = text("WEB_NAMES", "127.0.0.1,localhost")
"""Names under which the page may be asked for, with commas between: a foreign site in somebody's browser must
not pass for it. `*` takes any."""

INGEST_MAX_EVENTS = number("INGEST_MAX_EVENTS", 1_000)
"""Events in one request at most. Larger ones gain nothing: 100 are as fast for each event."""

INGEST_MAX_BYTES = number("INGEST_MAX_BYTES", 1024 * 1024)
"""Largest body of one request, bytes, as sent and after inflating."""

INGEST_HELD_BYTES = number("INGEST_HELD_BYTES", 64 * 1024 * 1024)
"""Bodies of all requests in hand together, bytes, each with some for itself; beyond it the door answers 429.
Bounds the memory of the process, and is some 4,000 single events."""

INGEST_BODY_SECONDS = number("INGEST_BODY_SECONDS", 30)
"""A body that has not come by then is given up. A megabyte takes so long at 35 kB/s."""

INGEST_ACK_SECONDS = number("INGEST_ACK_SECONDS", 10)
"""What Kafka has not acknowledged by then is answered with 503. It takes milliseconds; a broker that is
started again is back within ten seconds; clients seldom wait for more than thirty."""

WORKER = text("WORKER", "")
"""A worker's lasting name. With one, a restarted worker has its partitions back within seconds; without, they
go to the others as soon as it stops."""

LOG_LEVEL = word("LOG_LEVEL", "info", ("debug", "info", "warning", "error"))
"""Level of our own log entries: debug, info, warning or error. Libraries always speak from warning up."""

KAFKA_HEAP_MB = number("KAFKA_HEAP_MB", 512)
"""Heap of the local broker at most, MiB. It idles in 100; Kafka's own default is 1,024."""

KAFKA_JAVA_OPTIONS = text("KAFKA_JAVA_OPTIONS", "").split()
"""More options for the Java of the local broker, with blanks between: for one that lives for seconds,
`-XX:TieredStopAtLevel=1` (it starts with two thirds of the work, and then needs twice as much a request)."""

REGISTRY_HEAP_MB = number("REGISTRY_HEAP_MB", 256)
"""Heap of the local registry at most, MiB. It has next to nothing to do."""

POSTGRES_SHARED_BUFFERS_MB = number(
    "POSTGRES_SHARED_BUFFERS_MB",
    min(max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 // 8, 256), 2_048),
)
"""Pages that the local Postgres keeps in its own memory, MiB: an eighth of the machine's, but 256 to 2,048.
512 hold the hot state of about 200,000 journeys, 2,048 that of a million; what is not held is read and
written again for every event."""

POSTGRES_MAX_WAL_MB = number("POSTGRES_MAX_WAL_MB", 4_096)
"""Log that the local Postgres lets grow before it forces a checkpoint, MiB of disk."""

START_SECONDS = number("START_SECONDS", 180)
"""How long `leadlog up` waits for a server to answer. The slowest takes 6 s, but a minute on a busy
machine."""

CALENDAR_YEARS_BACK = number("CALENDAR_YEARS_BACK", 20)
"""Years before now for which calendars are laid out in SQL, to measure open visits. About 260 rows a year
each."""

CALENDAR_YEARS_AHEAD = number("CALENDAR_YEARS_AHEAD", 2)
"""Years after now for which calendars are laid out in SQL: how long a version may go without being looked
after."""

MARKOV_QUIET_DAYS = number("MARKOV_QUIET_DAYS", 90)
"""After so many days without an event a lead without a deal counts as gone in `leadlog report markov`. Longer
than most leads take to come back, a quarter as sales counts."""

POSTGRES_CONNECT_SECONDS = number("POSTGRES_CONNECT_SECONDS", 10)
"""How long a connection to Postgres may take before it counts as away. It takes milliseconds, and longer on a
server that starts."""

REGISTRY_TIMEOUT_SECONDS = number("REGISTRY_TIMEOUT_SECONDS", 15)
"""How long one call of the registry may take before it counts as away. It answers in milliseconds, and in
seconds right after its start."""

PRODUCER_LINGER_MS = number("PRODUCER_LINGER_MS", 0)
"""How long a producer waits for more records before it sends, milliseconds. Under load batches fill while the
one before is on its way."""

PRODUCER_BATCH_BYTES = number("PRODUCER_BATCH_BYTES", 262_144)
"""Largest batch of a producer for one partition, bytes before compression. Well below the topics' 1 MiB,
above which the broker refuses it."""

GENERATE_MEMORY_BYTES = number("GENERATE_MEMORY_BYTES", 64 * 1024 * 1024)
"""Made-up lines that wait for their turn in memory before they wait on disk, bytes."""

PUBLISH_BLOCK_BYTES = number("PUBLISH_BLOCK_BYTES", 1024 * 1024)
"""Lines are checked, encoded and sent by blocks of so many bytes: the position moves by one. A quarter of it
costs the broker twice the time, since each partition's share of a block is a batch."""

PUBLISH_CHUNK_RECORDS = number("PUBLISH_CHUNK_RECORDS", 4_000)
"""Events that `import` makes, sends and reports as one step: about a block of `publish`."""

PUBLISH_CHUNKS_IN_FLIGHT = number("PUBLISH_CHUNKS_IN_FLIGHT", 4)
"""Chunks sent and not yet acknowledged: enough to keep the broker busy, few enough to hold in memory."""

PUBLISH_DEADLINE_SECONDS = number("PUBLISH_DEADLINE_SECONDS", 120)
"""A broker that acknowledges nothing is waited for this long before `publish` and `import` give up (exit
3)."""

PUBLISH_NOTICE_SECONDS = number("PUBLISH_NOTICE_SECONDS", 5)
"""After so many seconds without an acknowledgement the waiting is mentioned."""

PUBLISH_RETRY_SECONDS = number("PUBLISH_RETRY_SECONDS", 1)
"""Pause between two tries to reach a broker that is away, seconds."""

PROGRESS_SECONDS = number("PROGRESS_SECONDS", 10)
"""Where there is no terminal to draw on, `publish`, `import` and `wait` say so often how far they are."""

TOPIC_COPIES = number("TOPIC_COPIES", 1)
"""Replication factor of topics that are created, 1 since the local stack has one broker. A cluster of three
takes 3, with `min.insync.replicas` 2 on the brokers."""

REPLAY_UNIT_RECORDS = number("REPLAY_UNIT_RECORDS", 200_000)
"""Records of a work unit of reading: what a kill undoes, a few seconds of work."""

REPLAY_BUCKET_RECORDS = number("REPLAY_BUCKET_RECORDS", 25_000)
"""Records of a bucket that is folded at once, on average. Decoded and folded they take about 100 MB."""

REPLAY_ID_RECORDS = number("REPLAY_ID_RECORDS", 400_000)
"""Event ids that are looked through at once for copies. They take about 60 MB."""

REPLAY_STALLED_SECONDS = number("REPLAY_STALLED_SECONDS", 60)
"""A replay that waits for the broker's next records gives up after so long (exit 3)."""

REPLAY_DIFF_JOURNEYS = number("REPLAY_DIFF_JOURNEYS", 500)
"""Journeys that `replay diff` looks at as one work unit: a few seconds with many changes."""

VERIFY_HOURS = number("VERIFY_HOURS", 24)
"""`leadlog run verifier` verifies anew so many hours after the last verification has finished. So what goes
wrong is known within about a day, and millions of events cost some minutes of a core a day."""

DECISION_SECONDS = number("DECISION_SECONDS", 30)
"""How long `leadlog definition` waits until the projector has taken a decision: usually well under a
second."""

ALERT_MAX_AGE_SECONDS = number("ALERT_MAX_AGE_SECONDS", 3_600)
"""An obligation that was due for longer than this when its starting event reached the broker, or when its
version was promoted, opens silently: history pages nobody."""

ALERT_DIGEST_OVER = number("ALERT_DIGEST_OVER", 100)
"""More obligations than this that open in one look of the clock become one alert. Looks are half a second
apart, so 10,000 spread over a minute are still told one by one."""

ALERT_DIGEST_SECONDS = number("ALERT_DIGEST_SECONDS", 300)
"""A storm that goes on joins the open digest of the last so many seconds: Alertmanager's usual interval."""

CLOCK_PORT = number("CLOCK_PORT", 0)
"""Port of the clock's `/livez` and `/metrics`; 0 takes a free one."""

NOTIFIER_PORT = number("NOTIFIER_PORT", 0)
"""Port of the notifier's `/livez` and `/metrics`; 0 takes a free one."""

VERIFIER_PORT = number("VERIFIER_PORT", 0)
"""Port of the verifier's `/livez` and `/metrics`; 0 takes a free one."""

ALERTS = path("ALERTS")
"""The file that says where alerts go, see infra/alerts/channels.yaml. Without one they are only listed."""
