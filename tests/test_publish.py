"""Guards `leadlog publish`: what it says is taken is on the topics, whatever is killed meanwhile.

What a line must look like is guarded by test_contract, bytes on a topic by test_schemas_wire.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import pytest
from aiokafka.partitioner import DefaultPartitioner

from schemas.contract import parse_line
from schemas.records import MAX_INSTANT, TOPIC_OF
from schemas.topics import INPUT_TOPICS
from schemas.wire import Decoder
from services import json_lines
from services.broker import end_offsets
from services.generator import kinds
from services.generator.stream import Plan, lines
from services.json_lines import Bookmark, Position
from services.settings import Addresses
from tests.reading import everything
from tests.servers import Servers, ready

LEADLOG = Path(sys.executable).parent / "leadlog"
START = 1_704_672_000_000_000
DEADLINE_SECONDS = 120
DEAD = "127.0.0.1:1"
"""An address at which no broker is."""
GOOD = {
    "record": "AttributeChanged",
    "event_id": "a-1",
    "subject_id": "crm:1",
    "occurred_at": "2026-03-01T09:30:00Z",
    "recorded_at": "2026-03-01T09:31:00Z",
    "source": "crm",
    "name": "country",
    "value": "DE",
}


@pytest.fixture
def environment(topics: Addresses, tmp_path: Path) -> dict[str, str]:
    """What a command run by a test sees: empty topics and a state folder of its own."""
    addresses = {f"LEADLOG_{name.upper()}": value for name, value in topics._asdict().items()}
    return os.environ | addresses | {"LEADLOG_STATE": str(tmp_path / "state")}


def publish(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [LEADLOG, "publish", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def start(environment: dict[str, str], *arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [LEADLOG, "publish", *arguments],
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write(file: Path, events: Iterable[object]) -> str:
    """A file of JSON lines; returns its path."""
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    return str(file)


def generated(file: Path, events: int) -> list[bytes]:
    """Write a file of made-up events that the door takes; returns its lines."""
    made = [each.json for each in lines(Plan(1, events, None, START, 365, kinds.shares("every,refused=0")))]
    file.write_bytes(b"\n".join(made) + b"\n")
    return made


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, at most DEADLINE_SECONDS."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


async def test_every_line_is_on_its_topic(
    topics: Addresses, environment: dict[str, str], tmp_path: Path
) -> None:
    """Each event lies on the topic of its record, on the partition of its subject, as what the line says."""
    made = generated(tmp_path / "events.jsonl", 3_000)
    ended = publish(environment, str(tmp_path / "events.jsonl"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("3,000 taken, 0 refused")
    expected = [parse_line(line, now=MAX_INSTANT, may_import=True) for line in made]
    decoder, partition = Decoder(), DefaultPartitioner()
    found = []
    for each in await everything(topics):
        record = decoder.decode(each.value)
        found.append(record)
        assert each.topic == TOPIC_OF[type(record).__name__]
        count = 1 if each.topic == "lead.reference" else 12
        assert each.partition == partition(each.key, list(range(count)), list(range(count)))
        assert each.key.decode() == record.subject_id
        assert dict(each.headers)["ce_id"].decode() == record.event_id
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


async def test_lines_of_a_key_keep_their_order(
    topics: Addresses, environment: dict[str, str], tmp_path: Path
) -> None:
    """Events of one subject reach their partition in the order of the file."""
    events = [GOOD | {"event_id": f"a-{number}"} for number in range(5_000)]
    assert publish(environment, write(tmp_path / "events.jsonl", events)).returncode == 0
    found = sorted(await everything(topics), key=lambda each: each.offset)
    assert [dict(each.headers)["ce_id"].decode() for each in found] == [event["event_id"] for event in events]


async def test_refused_lines_are_listed_and_the_rest_goes_on(
    topics: Addresses, environment: dict[str, str], tmp_path: Path
) -> None:
    """Each refused line is told with its number, its event and every fault; the exit code is 1."""
    twice_wrong = GOOD | {"event_id": "a-2", "occurred_at": "yesterday", "colour": "red"}
    file = tmp_path / "events.jsonl"
    file.write_text(
        "\n".join([json.dumps(GOOD), "", json.dumps(twice_wrong), "{", "x" * 1_000_000, json.dumps(GOOD)])
    )
    ended = publish(environment, str(file), "--json")
    assert ended.returncode == 1
    summary = json.loads(ended.stdout)
    assert (summary["taken"], summary["refused"], summary["lines"]) == (2, 3, 6)
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    faults = [(each["line"], each["event_id"], [fault["code"] for fault in each["faults"]]) for each in told]
    assert [faults[0][:2], *faults[1:]] == [
        (3, "a-2"),
        (4, None, ["not_json"]),
        (5, None, ["too_large"]),
    ]
    assert sorted(faults[0][2]) == ["bad_instant", "unknown_field"]
    assert len(await everything(topics)) == 2


async def test_recorded_at_is_kept_or_stamped(
    topics: Addresses, environment: dict[str, str], tmp_path: Path
) -> None:
    """A line that says when it was recorded keeps it; one that does not is recorded now."""
    unstamped = {name: value for name, value in GOOD.items() if name != "recorded_at"} | {"event_id": "a-2"}
    before = time.time_ns() // 1000
    assert publish(environment, write(tmp_path / "events.jsonl", [GOOD, unstamped])).returncode == 0
    decoder = Decoder()
    found = {
        record.event_id: record
        for record in (decoder.decode(each.value) for each in await everything(topics))
    }
    assert found["a-1"].recorded_at == 1_772_357_460_000_000
    assert before <= found["a-2"].recorded_at <= time.time_ns() // 1000


def lines_saved(folder: Path) -> int:
    """The position of the one file that is being published."""
    return sum(json.loads(each.read_text())["position"]["lines"] for each in folder.glob("*.json"))


@pytest.mark.slow
async def test_killed_and_started_again_it_goes_on_where_it_was_acknowledged(
    topics: Addresses, environment: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL in the middle loses nothing, and the second run does not begin at the beginning."""
    made = generated(tmp_path / "events.jsonl", 30_000)
    saved = Path(environment["LEADLOG_STATE"]) / "publish"
    first = start(environment, str(tmp_path / "events.jsonl"))
    until(lambda: lines_saved(saved) > 0 or first.poll() is not None, "no position was saved")
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    lines_before = lines_saved(saved)
    assert 0 < lines_before < len(made)
    second = publish(environment, str(tmp_path / "events.jsonl"))
    assert second.returncode == 0
    assert f"going on after line {lines_before:,}" in second.stderr
    assert second.stdout.startswith("30,000 taken")
    sent = {dict(each.headers)["ce_id"].decode() for each in await everything(topics)}
    assert sent == {json.loads(line)["event_id"] for line in made}
    assert not any(saved.glob("*.json"))


def test_what_was_refused_is_told_before_the_position_is_saved(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A run that ends before it could tell a refusal leaves it to the next one: its position was saved first,
    and the refused line was never heard of again."""
    file = write(tmp_path / "events.jsonl", [GOOD, GOOD | {"event_id": "a-2", "colour": "red"}])
    first = start(environment, file)
    assert first.stderr is not None
    first.stderr.close()  # nobody reads what it says
    assert first.wait(DEADLINE_SECONDS) == 1
    assert "line 2, event a-2 is refused" in publish(environment, file).stderr


async def test_a_position_counts_only_for_the_same_bytes_and_the_same_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in which anything before the position was changed, be it far from it, and a new log are
    published from the start; lines added after the position go on there."""
    monkeypatch.setenv("LEADLOG_STATE", str(tmp_path))
    file = tmp_path / "events.jsonl"
    events = [GOOD | {"event_id": f"a-{number}"} for number in range(1_000)]
    write(file, events)
    with file.open("rb") as lines_of_file:
        [chunk] = [chunk async for chunk in json_lines.read(lines_of_file, Position())]
    reached = chunk.note.position
    Bookmark(file, "log-1").save(reached)
    assert Bookmark(file, "log-1").load() == reached
    assert Bookmark(file, "log-2").load() == Position()
    write(file, [*events, GOOD | {"event_id": "more"}])
    assert Bookmark(file, "log-1").load() == reached
    with file.open("rb") as lines_of_file:
        [chunk] = [chunk async for chunk in json_lines.read(lines_of_file, reached)]
    assert [record.event_id for record in chunk.records] == ["more"]
    Bookmark(file, "log-1").save(chunk.note.position)
    assert Bookmark(file, "log-1").load().lines == 1_001
    write(file, [events[0] | {"value": "AT"}, *events[1:]])
    assert Bookmark(file, "log-1").load() == Position()


@pytest.mark.slow
async def test_a_broker_that_dies_is_waited_for(
    servers: Servers, topics: Addresses, environment: dict[str, str], tmp_path: Path
) -> None:
    """A broker that is killed and stays away for a while costs time and nothing else."""
    made = generated(tmp_path / "events.jsonl", 30_000)
    saved = Path(environment["LEADLOG_STATE"]) / "publish"
    running = start(environment, str(tmp_path / "events.jsonl"))
    until(lambda: any(saved.glob("*.json")) or running.poll() is not None, "no position was saved")
    servers.stop("kafka")
    assert running.poll() is None
    servers.start("kafka")
    await _ready(topics)
    told, said = running.communicate(timeout=DEADLINE_SECONDS)
    assert (running.returncode, told[:12]) == (0, "30,000 taken"), said
    sent = {dict(each.headers)["ce_id"].decode() for each in await everything(topics)}
    assert sent == {json.loads(line)["event_id"] for line in made}


async def _ready(addresses: Addresses) -> None:
    """Wait in a thread: `ready` has a loop of its own."""
    await asyncio.to_thread(ready, addresses, "kafka")


def test_without_a_broker_it_gives_up_after_the_deadline(environment: dict[str, str], tmp_path: Path) -> None:
    """No broker: the waiting is told, nothing is said to be taken, and the exit code is 3."""
    lost = environment | {"LEADLOG_KAFKA_BOOTSTRAP": DEAD, "LEADLOG_PUBLISH_DEADLINE_SECONDS": "1"}
    ended = publish(lost, write(tmp_path / "events.jsonl", [GOOD]))
    assert (ended.returncode, ended.stdout) == (3, "")
    assert f"waiting for the broker at {DEAD}" in ended.stderr
    assert "leadlog status" in ended.stderr


async def test_a_pipe_is_not_waited_for(topics: Addresses, environment: dict[str, str]) -> None:
    """A line from a pipe that stays open is on the topic at once."""
    running = start(environment, "-", stdin=subprocess.PIPE)
    pipe: IO[str] | None = running.stdin
    assert pipe is not None
    pipe.write(json.dumps(GOOD) + "\n")
    pipe.flush()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not sum((await end_offsets(topics.kafka_bootstrap, INPUT_TOPICS)).values()):
        assert time.monotonic() < deadline
        assert running.poll() is None
    told, _ = running.communicate(timeout=DEADLINE_SECONDS)
    assert (running.returncode, told[:7]) == (0, "1 taken")


async def test_what_is_no_file_is_read_as_it_comes(
    topics: Addresses, environment: dict[str, str], tmp_path: Path
) -> None:
    """A named pipe and /dev/stdin were a traceback, since they cannot be sought in; /dev/null hung, since no
    loop waits for it."""
    os.mkfifo(tmp_path / "pipe")
    named = start(environment, str(tmp_path / "pipe"))
    write(tmp_path / "pipe", [GOOD])
    piped = start(environment, "/dev/stdin", stdin=subprocess.PIPE)
    nothing = start(environment, "-", stdin=subprocess.DEVNULL)
    for running, line, expected in ((named, "", 1), (piped, json.dumps(GOOD), 1), (nothing, None, 0)):
        told, said = running.communicate(line, timeout=DEADLINE_SECONDS)
        assert (running.returncode, told[:18]) == (0, f"{expected} taken, 0 refused"), said
    assert len(await everything(topics)) == 2
