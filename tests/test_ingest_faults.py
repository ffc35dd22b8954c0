"""Guards the HTTP door against hostile input and accidents: no 500, no half-taken request, no lost event.

What it answers to ordinary requests is guarded by test_ingest.
"""

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
import requests
from starlette.requests import Request

from services import settings
from services.ingest.health import Health
from services.ingest.lookout import OVERDUE_SECONDS, Lookout
from services.ingest.sender import Sender
from services.settings import Addresses
from tests.door import Opened, open_door
from tests.given import touch
from tests.reading import everything, records_on_topics
from tests.servers import Servers, ready
from tests.test_ingest import TOUCH, named, ndjson

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parent.parent
GZIP = {"content_encoding": "gzip"}
LINES = {"content_type": "application/x-ndjson"}
SPOILERS = (
    b"NaN",
    b"Infinity",
    b"1e999",
    b"9" * 5_000,
    b"-0.0e-9999",
    b"[" * 2_000,
    b'{"a":' * 2_000,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"\\ud800"',
    b'"\\u0000"',
    b"\0",
    b"\xef\xbb\xbf",
    b'"' + b"x" * 40_000 + b'"',
    b"{" + b",".join(b'"k%d":%d' % (number, number) for number in range(3_000)) + b"}",
    b"/* comment */",
    b",",
    b"null",
)
"""What is put into bodies: each of it has broken some JSON reader."""


def spoiled(rng: Random, body: bytes) -> bytes:
    """The body with a few bytes changed, cut out, doubled or put in."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(body) + 1)
        until = min(len(body), at + rng.randint(0, 60))
        middle = rng.choice((b"", rng.randbytes(until - at), body[at:until] * 2, rng.choice(SPOILERS)))
        body = body[:at] + middle + body[until:]
    return body


def hostile(rng: Random) -> tuple[bytes, dict[str, str]]:
    """A spoiled body, and headers that may or may not say what it is."""
    events = named(TOUCH, *map(str, range(rng.randint(1, 20))))
    headers: dict[str, str] = {}
    if rng.random() < 0.5:
        body, headers = ndjson(*events), LINES
    else:
        body = json.dumps(events).encode()
    if rng.random() < 0.8:
        body = spoiled(rng, body)
    if rng.random() < 0.4:
        body, headers = gzip.compress(body), headers | GZIP
        if rng.random() < 0.5:
            body = spoiled(rng, body)
    if rng.random() < 0.1:
        headers = headers | rng.choice((GZIP, LINES, {"content_type": "\u00e9"}, {"content_encoding": "?"}))
    return body, headers


@pytest.mark.slow
def test_hostile_bodies_are_refused_or_taken_and_nothing_between(opened: Opened) -> None:
    """Of a refused request nothing is on the topics, of the others just what is told; never a 500."""
    rng, told = Random(7), {}
    for number in range(1_200):
        body, headers = hostile(rng)
        trace = f"00-{number:032x}-{1:016x}-01"  # by it the events of a request are known on the topics
        answer = opened.door.post(body, opened.keys.everything, traceparent=trace, **headers)
        assert answer.status_code in (202, 207, 400, 413, 415, 422), (body[:500], headers, answer.text)
        told[number] = answer.json().get("taken", 0)
        assert len(answer.json().get("results", ())) == told[number] + answer.json().get("refused", 0)
    on_topics = dict.fromkeys(told, 0)
    for record in asyncio.run(everything(opened.addresses)):
        on_topics[int(dict(record.headers)["traceparent"].split(b"-")[1], 16)] += 1
    assert on_topics == told
    assert {bool(count) for count in told.values()} == {True, False}


BOMB = gzip.compress(b" " * 50_000_000)
DEVOURING: tuple[tuple[bytes, dict[str, str]], ...] = (
    (BOMB, GZIP),
    (gzip.compress(BOMB), GZIP),
    (b"[" + b"[]," * 340_000 + b"[]]", {}),
    (b"[" * 1_000_000, {}),
    (b'{"a":' * 200_000, {}),
    (b"\n" * 1_000_000, LINES),
    (b"{}\n" * 1_000, LINES),
    (b"9" * 1_000_000, {}),
    (json.dumps([TOUCH | {f"k{number}": number for number in range(2_000)}] * 40).encode(), {}),
    (json.dumps([TOUCH | {"properties": {f"k{n}": 1 for n in range(2_000)}}] * 40).encode(), {}),
)
"""Bodies that cost much more than they weigh, unless something stops them."""


@pytest.mark.slow
def test_memory_stays_flat_whatever_comes(opened: Opened) -> None:
    """Bombs, deep nesting, a million empty lines, thousands of faults: over and over, and nothing is kept."""

    def devour(rounds: int) -> float:
        for _ in range(rounds):
            for body, headers in DEVOURING:
                assert opened.door.post(body, opened.keys.everything, **headers).status_code in (
                    400,
                    413,
                    422,
                )
        return opened.door.resident_mb()

    first, last = devour(4), devour(12)
    assert last < first + 10
    assert last < 250


def say(opened: Opened, *parts: bytes) -> bytes:
    """What the door answers to bytes on a connection, which then ends from this side."""
    address, received = urlsplit(opened.door.url), b""
    with (
        socket.create_connection((address.hostname, address.port), timeout=30) as connection,
        suppress(ConnectionError),
    ):
        for part in parts:
            connection.sendall(part)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65_536):
            received += more
    return received


def head(opened: Opened, *lines: str) -> bytes:
    """The head of a request for events with further lines."""
    first = ("POST /v1/events HTTP/1.1", "Host: door", f"Authorization: Bearer {opened.keys.everything}")
    return "\r\n".join((*first, "Content-Type: application/json", *lines, "", "")).encode()


async def test_requests_that_end_early_take_nothing(opened: Opened) -> None:
    """Lengths that lie, broken chunks, and connections that end in the middle: nothing is taken, no 500."""
    before = await records_on_topics(opened.addresses)
    body = json.dumps([TOUCH]).encode()
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    answers = [
        say(opened, head(opened, f"Content-Length: {len(body) + 1}"), body),
        say(opened, head(opened, f"Content-Length: {len(body) - 1}"), body),
        say(opened, head(opened, "Content-Length: -1"), body),
        say(opened, head(opened, f"Content-Length: {10**30}"), body),
        say(opened, head(opened, f"Content-Length: {len(body)}", "Content-Length: 2"), body),
        say(opened, head(opened, "Transfer-Encoding: chunked"), chunk),
        say(opened, head(opened, "Transfer-Encoding: chunked"), b"zz\r\n" + body),
        say(opened, head(opened, "Transfer-Encoding: chunked", "Content-Length: 5"), chunk),
        say(opened, head(opened)[:-40]),
        say(opened, b"\x16\x03\x01\x02\x00\x01\x00"),
    ]
    assert all(answer[:12] in (b"", b"HTTP/1.1 400") for answer in answers), answers
    assert await records_on_topics(opened.addresses) == before
    assert opened.door.post(TOUCH, opened.keys.everything).status_code == 202
    assert "Traceback" not in opened.door.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["kafka", "registry", "postgres"])
def test_while_a_server_is_away_nothing_is_said_taken(servers: Servers, opened: Opened, server: str) -> None:
    """503 with the server's name and Retry-After; once it is back, so is the door, without a restart."""
    count = asyncio.run(records_on_topics(opened.addresses))
    servers.stop(server)
    try:
        opened.door.wait_until_missing(server)
        answer = opened.door.post(TOUCH, opened.keys.everything)
        page = requests.get(f"{opened.door.url}/readyz", timeout=60)
        alive = requests.get(f"{opened.door.url}/livez", timeout=60)
    finally:
        servers.start(server)
        for name in ("postgres", "kafka", "registry"):
            ready(opened.addresses, name)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "urn:leadlog:problem:server-away"
    assert server in answer.json()["detail"]
    assert (page.status_code, server in page.json()["away"], alive.status_code) == (503, True, 200)
    opened.door.wait_until_ready()
    assert opened.door.post(TOUCH, opened.keys.everything).status_code == 202
    assert asyncio.run(records_on_topics(opened.addresses)) == count + 1


class Sending:
    """Batches sent by several threads until told to stop, and what became of every event."""

    def __init__(self, opened: Opened) -> None:
        self.taken: set[str] = set()
        self.not_taken: set[str] = set()
        self.unacknowledged: set[str] = set()
        """Those not taken that were sent to Kafka: they may be there."""
        self._opened = opened
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor()
        self._threads = [self._pool.submit(self._run, number) for number in range(4)]

    def stop(self) -> None:
        """Ends the threads. Raises what ended one of them."""
        self._stopped.set()
        for thread in self._threads:
            thread.result()
        self._pool.shutdown()

    def send(self, ids: list[str]) -> None:
        """One batch, every event about another subject; waits when it is told to."""
        events = [event | {"subject_id": event["event_id"]} for event in named(TOUCH, *ids)]
        answer = self._opened.door.post(events, self._opened.keys.everything)
        assert answer.status_code in (202, 429, 503), answer.text
        results = answer.json().get("results", [])
        assert not results or [each["event_id"] for each in results] == ids
        taken = {each["event_id"] for each in results if each["status"] == "taken"}
        self.taken |= taken
        self.not_taken |= set(ids) - taken
        self.unacknowledged |= {each["event_id"] for each in results if each["status"] == "unacknowledged"}
        self._stopped.wait(int(answer.headers.get("retry-after", "0")))

    def _run(self, thread: int) -> None:
        number = 0
        while not self._stopped.is_set():
            self.send([f"b{thread}-{number}-{at}" for at in range(50)])
            number += 1


async def test_a_door_that_gets_on_no_more_asks_to_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/livez` fails when Kafka answers and acknowledges nothing, or when nobody looks any more; a look that
    takes its time fails nothing."""
    monkeypatch.setattr(settings, "STUCK_SECONDS", 1)
    sender = Sender("127.0.0.1:1")
    lookout = Lookout({"kafka": sender.connect})
    health, request = Health(lookout, sender), Request({"type": "http"})
    assert (await health.livez(request)).status_code == 200
    sender.silent_looks = settings.STUCK_SECONDS + 1
    assert (await health.livez(request)).status_code == 503
    sender.silent_looks = None
    lookout.looked_at["kafka"] -= OVERDUE_SECONDS
    assert (await health.livez(request)).status_code == 200
    lookout.looked_at["kafka"] -= settings.STUCK_SECONDS + 1
    assert (await health.livez(request)).status_code == 503


@pytest.mark.slow
async def test_of_a_producer_let_go_no_acknowledgement_is_missed(
    servers: Servers, stack: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request under way when its producer is replaced says nothing of the next one's silence."""
    monkeypatch.setattr(settings, "INGEST_ACK_SECONDS", 1)
    sender = Sender(stack.kafka_bootstrap)
    await sender.connect()
    servers.kill("kafka")
    sending = asyncio.create_task(sender.send([touch("mon 09:00")], None))
    await asyncio.sleep(0)
    await sender.close()
    assert await sending == [False]
    await asyncio.to_thread(ready, stack, "kafka")
    assert sender.silent_looks is None


async def test_an_acknowledgement_that_came_too_late_ends_the_silence(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a door that nobody sent anything to for a minute after, `/livez` said that it gets on no more."""
    sender = Sender(opened.addresses.kafka_bootstrap)
    await sender.connect()
    assert await sender.send([touch("mon 09:00")], None) == [True]
    monkeypatch.setattr(settings, "INGEST_ACK_SECONDS", 0)
    assert await sender.send([touch("mon 09:01")], None) == [False]
    assert sender.silent_looks == 0
    await asyncio.to_thread(until, lambda: sender.silent_looks is None, "it came, and nobody noticed")
    await sender.close()


@pytest.mark.slow
def test_a_broker_killed_during_batches_loses_nothing(
    servers: Servers, stack: Addresses, tmp_path: Path
) -> None:
    """What is told taken is on a topic; what is not is told so, and is taken when it is sent again."""
    with open_door(stack, tmp_path, ingest_ack_seconds="2", stuck_seconds="1") as opened:
        sending = Sending(opened)
        try:
            for kills in (1, 2):
                known = len(sending.not_taken)
                until(partial(has_more, sending.taken, 2_000 * kills), "no event is taken")
                servers.kill("kafka")
                until(partial(has_more, sending.not_taken, known), "nobody noticed")
                ready(opened.addresses, "kafka")
        finally:
            sending.stop()
        missed = sorted(sending.not_taken)
        for at in range(0, len(missed), 100):
            until(partial(resent, sending, missed[at : at + 100]), "the broker is back, and nothing is taken")
        assert sending.unacknowledged
        assert requests.get(f"{opened.door.url}/livez", timeout=60).status_code == 200
        on_topics = asyncio.run(everything(opened.addresses))
        assert sending.taken == {dict(each.headers)["ce_id"].decode() for each in on_topics}


def has_more(events: set[str], than: int) -> bool:
    """Whether there are more events."""
    return len(events) > than


def resent(sending: Sending, ids: list[str]) -> bool:
    """Whether all of them are taken, once they were sent again."""
    sending.send(ids)
    return sending.taken >= set(ids)


def until(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait for a condition, at most two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)
