"""Guards what the HTTP door answers, row by row of the contract's table, and what is then on the topics.

What an event must look like is guarded by test_contract, keys by test_ingest_keys, hostile input and
accidents by test_ingest_faults.
"""

import asyncio
import gzip
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import requests
from aiokafka.structs import ConsumerRecord

import infra
from schemas.contract import MAX_EVENT_BYTES
from schemas.records import TOPIC_OF
from schemas.wire import Decoder
from services.deploy import deploy
from services.producing import partition_of
from services.settings import Addresses
from services.wait import wait
from tests.door import LEADLOG, Door, Opened, make_keys, open_door
from tests.fresh import empty_topics
from tests.reading import everything, records_on_topics

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parent.parent
TOUCH = {
    "record": "TouchRecorded",
    "event_id": "t1",
    "subject_id": "web:5f3a",
    "occurred_at": "2026-03-02T10:15:00+01:00",
    "source": "website",
    "touch_type": "form_submitted",
    "direction": "inbound",
    "channel": "organic_search",
}
LINK = {
    "record": "SubjectsLinked",
    "event_id": "l1",
    "subject_id": "crm:00Q42",
    "occurred_at": "2026-03-02T10:16:00+01:00",
    "source": "crm",
    "other_subject_id": "web:5f3a",
    "evidence": "identified",
}
WRONG = TOUCH | {"touch_type": "formsubmitted", "channel": 7, "colour": "red", "occurred_at": "yesterday"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DRY = "?dry_run=true"
MANY = 1_000


def named(event: dict[str, Any], *ids: str) -> list[dict[str, Any]]:
    """Copies of an event with these ids."""
    return [event | {"event_id": event_id} for event_id in ids]


def ndjson(*lines: object) -> bytes:
    """The values as lines of JSON; bytes as they are."""
    return b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)


def statuses(answer: requests.Response) -> list[tuple[int, str | None, str]]:
    """Index, id and status of every result."""
    return [(each["index"], each["event_id"], each["status"]) for each in answer.json()["results"]]


def faults(answer: requests.Response, index: int = 0) -> list[tuple[str, str]]:
    """Code and path of every fault of an event."""
    return sorted((fault["code"], fault["path"]) for fault in answer.json()["results"][index]["faults"])


async def found(addresses: Addresses, *ids: str) -> list[ConsumerRecord]:
    """The records on the topics with these ids."""
    wanted = {event_id.encode() for event_id in ids}
    return [each for each in await everything(addresses) if dict(each.headers)["ce_id"] in wanted]


async def test_a_taken_event_is_on_its_topic(opened: Opened) -> None:
    """202 names the event; it lies on its topic under its subject, stamped, with CloudEvents headers."""
    began = time.time_ns() // 1000
    answer = opened.door.post(TOUCH, opened.keys.everything, traceparent=TRACE)
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "taken": 1,
        "refused": 0,
        "results": [{"index": 0, "event_id": "t1", "status": "taken", "faults": []}],
    }
    (taken,) = await found(opened.addresses, "t1")
    record = Decoder().decode(taken.value)
    assert (taken.topic, taken.key) == (TOPIC_OF["TouchRecorded"], b"web:5f3a")
    assert taken.partition == partition_of(taken.topic, b"web:5f3a")
    assert began <= record.recorded_at <= time.time_ns() // 1000
    assert dict(taken.headers)["ce_type"] == b"leadlog.TouchRecorded"
    assert dict(taken.headers)["traceparent"] == TRACE.encode()


async def test_a_broken_trace_is_not_passed_on(opened: Opened) -> None:
    """An event is worth more than its trace: it is taken without one."""
    broken = ("", "nonsense", TRACE + "\u00e9", TRACE.upper(), TRACE[:-1])
    ids = [f"trace-{number}" for number in range(len(broken))]
    for event, trace in zip(named(TOUCH, *ids), broken, strict=True):
        assert opened.door.post(event, opened.keys.everything, traceparent=trace).status_code == 202
    on_topics = await found(opened.addresses, *ids)
    assert ["traceparent" in dict(each.headers) for each in on_topics] == [False] * len(broken)


SHAPES = {
    "array": ([TOUCH, LINK], {}),
    "array with a charset": ([TOUCH, LINK], {"content_type": "application/json; charset=UTF-8"}),
    "array with a byte order mark": (b"\xef\xbb\xbf" + json.dumps([TOUCH, LINK]).encode(), {}),
    "lines": (ndjson(TOUCH, b"", LINK, b" "), {"content_type": "application/x-ndjson"}),
    "lines of Windows": (ndjson(TOUCH, LINK).replace(b"\n", b"\r\n"), {"content_type": "application/jsonl"}),
    "gzip": (gzip.compress(json.dumps([TOUCH, LINK]).encode()), {"content_encoding": "gzip"}),
    "gzip of lines": (
        gzip.compress(ndjson(TOUCH, LINK)),
        {"content_encoding": "gzip", "content_type": "application/x-ndjson"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_events_come_in_every_shape(opened: Opened, shape: str) -> None:
    """An array or lines, packed or not: one result per event, in order."""
    body, headers = SHAPES[shape]
    answer = opened.door.post(body, opened.keys.everything, **headers)
    assert answer.status_code == 202
    assert statuses(answer) == [(0, "t1", "taken"), (1, "l1", "taken")]


async def test_the_good_ones_of_a_batch_are_taken(opened: Opened) -> None:
    """207: a result for each event, in order; the refused one is told all its faults and is on no topic."""
    events = named(TOUCH, "good-1", "bad-1", "good-2")
    events[1] = WRONG | {"event_id": "bad-1"}
    answer = opened.door.post(events, opened.keys.everything)
    assert answer.status_code == 207
    assert (answer.json()["taken"], answer.json()["refused"]) == (2, 1)
    assert statuses(answer) == [(0, "good-1", "taken"), (1, "bad-1", "refused"), (2, "good-2", "taken")]
    on_topics = await found(opened.addresses, "good-1", "good-2", "bad-1")
    assert sorted(dict(each.headers)["ce_id"] for each in on_topics) == [b"good-1", b"good-2"]


async def test_every_fault_of_every_event_is_listed(opened: Opened) -> None:
    """422: each fault has code, path, value, expectation and hint; once mended, the same id is taken."""
    wrong = WRONG | {"event_id": "mended"}
    answer = opened.door.post([wrong, TOUCH | {"source": ""}], opened.keys.everything)
    assert answer.status_code == 422
    assert (answer.json()["taken"], answer.json()["refused"]) == (0, 2)
    assert faults(answer) == [
        ("bad_instant", "/occurred_at"),
        ("not_allowed", "/touch_type"),
        ("unknown_field", "/colour"),
        ("wrong_type", "/channel"),
    ]
    assert faults(answer, 1) == [("empty", "/source")]
    told = {fault["code"]: fault for fault in answer.json()["results"][0]["faults"]}
    assert told["not_allowed"]["value"] == "formsubmitted"
    assert told["not_allowed"]["hint"] == "did you mean 'form_submitted'?"
    assert "page_view" in told["not_allowed"]["expected"]
    assert opened.door.post(named(TOUCH, "mended"), opened.keys.everything).status_code == 202
    assert len(await found(opened.addresses, "mended")) == 1


def test_a_line_that_is_no_json_is_a_fault_of_that_line(opened: Opened) -> None:
    """In NDJSON each line stands for itself: the others are taken."""
    body = ndjson(TOUCH, b'{"record": ', b"\xff", LINK)
    answer = opened.door.post(body, opened.keys.everything, content_type="application/x-ndjson")
    assert answer.status_code == 207
    assert statuses(answer) == [
        (0, "t1", "taken"),
        (1, None, "refused"),
        (2, None, "refused"),
        (3, "l1", "taken"),
    ]
    assert faults(answer, 1) == faults(answer, 2) == [("not_json", "")]


JSON = json.dumps(TOUCH).encode()
LARGE = TOUCH | {"properties": {"text": "x" * 30_000}}
REFUSED: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no JSON": (b"hello", {}, 400, "not-json"),
    "half an object": (JSON[:-1], {}, 400, "not-json"),
    "an array without its end": (b"[" + JSON + b",[]", {}, 400, "not-json"),
    "an array without a comma": (b"[" + JSON + JSON + b"]", {}, 400, "not-json"),
    "two objects": (JSON + b"\n" + JSON, {}, 400, "not-json"),
    "a number": (b"5", {}, 400, "not-json"),
    "NaN": (b'[{"value": NaN}]', {}, 400, "not-json"),
    "Latin-1": (b'[{"name": "M\xfcller"}]', {}, 400, "not-json"),
    "UTF-16": (JSON.decode().encode("utf-16"), {}, 400, "not-json"),
    "deep nesting": (b"[" * 500_000, {}, 400, "not-json"),
    "nothing": (b"", {}, 400, "no-event"),
    "white space": (b" \n ", {"content_type": "application/x-ndjson"}, 400, "no-event"),
    "an empty array": (b"[]", {}, 400, "no-event"),
    "no gzip": (JSON, {"content_encoding": "gzip"}, 400, "not-gzip"),
    "half a gzip": (gzip.compress(JSON)[:-9], {"content_encoding": "gzip"}, 400, "not-gzip"),
    "broken gzip": (gzip.compress(JSON)[:-8] + b"8 bytes.", {"content_encoding": "gzip"}, 400, "not-gzip"),
    "gzip and more": (gzip.compress(JSON) + b"more", {"content_encoding": "gzip"}, 400, "not-gzip"),
    "a form": (JSON, {"content_type": "application/x-www-form-urlencoded"}, 415, "unknown-content-type"),
    "another charset": (
        JSON,
        {"content_type": "application/json; charset=latin1"},
        415,
        "unknown-content-type",
    ),
    "nonsense as type": (JSON, {"content_type": ";;=/"}, 415, "unknown-content-type"),
    "another coding": (JSON, {"content_encoding": "br"}, 415, "unknown-content-coding"),
    "two codings": (JSON, {"content_encoding": "gzip, gzip"}, 415, "unknown-content-coding"),
    "too many events": (json.dumps([TOUCH] * (MANY + 1)).encode(), {}, 413, "too-many-events"),
    "too many lines": (b"{}\n" * (MANY + 1), {"content_type": "application/jsonl"}, 413, "too-many-events"),
    "too large": (json.dumps([LARGE] * 40).encode(), {}, 413, "body-too-large"),
    "too large in pieces": (b"", {"transfer_encoding": "chunked"}, 413, "body-too-large"),
    "a bomb": (gzip.compress(b" " * 100_000_000), {"content_encoding": "gzip"}, 413, "body-too-large"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_cannot_be_read_is_a_problem(opened: Opened, what: str) -> None:
    """400, 413 and 415 as RFC 9457, with what was found and what was expected."""
    body, headers, status, name = REFUSED[what]
    if "transfer_encoding" in headers:
        pieces = (b"[" + b" " * 65_535 for _ in range(1_000))
        known = {"authorization": f"Bearer {opened.keys.everything}", "content-type": "application/json"}
        answer = requests.post(f"{opened.door.url}/v1/events", pieces, headers=known, timeout=60)
    else:
        answer = opened.door.post(body, opened.keys.everything, **headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail"}
    assert (problem["type"], problem["status"]) == (f"urn:leadlog:problem:{name}", status)


async def test_nothing_of_such_a_request_is_taken(opened: Opened) -> None:
    """Whatever comes before the place where reading ends: the topics stay as they are."""
    before = await records_on_topics(opened.addresses)
    whole = json.dumps([TOUCH] * 50).encode()
    opened.door.post(whole[:-1], opened.keys.everything)
    opened.door.post(gzip.compress(whole)[:-1], opened.keys.everything, content_encoding="gzip")
    opened.door.post([TOUCH] * (MANY + 1), opened.keys.everything)
    assert await records_on_topics(opened.addresses) == before


async def test_a_dry_run_takes_nothing(opened: Opened) -> None:
    """Every event is judged as if it were taken: valid or refused, and the topics stay as they are."""
    before = await records_on_topics(opened.addresses)
    good = opened.door.post(TOUCH, opened.keys.everything, DRY)
    mixed = opened.door.post([TOUCH, WRONG], opened.keys.everything, DRY)
    bad = opened.door.post(WRONG, opened.keys.everything, DRY)
    assert [each.status_code for each in (good, mixed, bad)] == [200, 207, 422]
    assert statuses(mixed) == [(0, "t1", "valid"), (1, "t1", "refused")]
    assert (mixed.json()["taken"], mixed.json()["refused"]) == (0, 1)
    assert await records_on_topics(opened.addresses) == before


def test_a_dry_run_is_asked_for_clearly(opened: Opened) -> None:
    """What might mean anything, a mistyped or a repeated parameter among it, must not publish."""
    url, key = f"{opened.door.url}/v1/events", opened.keys.everything
    values = [f"dry_run={value}" for value in ("1", "yes", "True", "")]
    for query in (*values, "dryrun=true", "DRY_RUN=true", "dry_run=true&dry_run=false", "dry_run=true&x"):
        answer = requests.post(f"{url}?{query}", json=TOUCH, auth=(key, ""), timeout=60)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:leadlog:problem:bad-query")


def test_half_a_surrogate_pair_refuses_its_event_alone(opened: Opened) -> None:
    """One event with the escape of half a character ended the whole array in a 400 about cut-off input."""
    half = TOUCH | {"event_id": "half", "url": "\ud800"}
    body = json.dumps([half, *named(TOUCH, "g1", "g2")], indent=1).encode()
    mixed, alone, cut = (
        opened.door.post(sent, opened.keys.everything)
        for sent in (body, json.dumps(half).encode(), body[:-1])
    )
    assert [each.status_code for each in (mixed, alone, cut)] == [207, 422, 400]
    assert statuses(mixed) == [(0, "half", "refused"), (1, "g1", "taken"), (2, "g2", "taken")]
    assert faults(mixed) == faults(alone) == [("not_storable", "/url")]


def test_the_limits_are_told_and_hold_inclusively(opened: Opened) -> None:
    """What `GET /v1/limits` says is taken; one more is not."""
    limits = requests.get(f"{opened.door.url}/v1/limits", timeout=60).json()
    assert limits == {"event_bytes": MAX_EVENT_BYTES, "request_events": MANY, "request_bytes": 1024 * 1024}
    key = opened.keys.everything
    small = [{"record": "x"}] * MANY
    assert opened.door.post(small, key).status_code == 422
    room = MAX_EVENT_BYTES - len(json.dumps(TOUCH | {"url": ""}))
    assert opened.door.post(json.dumps(TOUCH | {"url": "x" * room}).encode(), key).status_code == 202
    larger = opened.door.post(json.dumps(TOUCH | {"url": "x" * (room + 1)}).encode(), key)
    assert (larger.status_code, faults(larger)) == (422, [("too_large", "")])
    whole = json.dumps(TOUCH).encode().ljust(1024 * 1024)
    assert opened.door.post(whole, key, content_type="application/x-ndjson").status_code == 202
    assert opened.door.post(whole + b" ", key).status_code == 413


async def refuse_three(dsn: str) -> None:
    """One record of the CRM and two of the website, as the projector stores them."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        'insert into log.reject (topic, partition, "offset", reason, message, source, rejected_at) select '
        "'lead.events', 0, n, 'not_avro', 'no', case n when 1 then 'crm' else 'website' end, "
        "'2026-03-01T09:00:00Z' from generate_series(1, 3) n"
    )
    await connection.close()


def test_a_publisher_sees_what_of_its_source_was_refused(opened: Opened) -> None:
    """What the projector could not take, oldest first; the cursor of a page reads on; other sources stay
    hidden from a key that is bound to one."""
    asyncio.run(refuse_three(opened.addresses.postgres_dsn))

    def seen(key: str, **query: str) -> requests.Response:
        return requests.get(f"{opened.door.url}/v1/rejections", params=query, auth=(key, ""), timeout=60)

    mine = seen(opened.keys.website).json()
    assert [each["place"] for each in mine["rejections"]] == ["lead.events-0-2", "lead.events-0-3"]
    assert seen(opened.keys.website, after=str(mine["cursor"])).json()["rejections"] == []
    assert len(seen(opened.keys.everything, since="2026-03-01T09:00:00Z").json()["rejections"]) == 3
    assert seen(opened.keys.everything, since="2026-03-01T09:00:01Z").json()["rejections"] == []
    for query in ({"since": "yesterday"}, {"after": "-1"}, {"sinse": "2026-03-01T09:00:00Z"}):
        assert seen(opened.keys.everything, **query).json()["type"] == "urn:leadlog:problem:bad-query"
    assert requests.get(f"{opened.door.url}/v1/rejections", timeout=60).status_code == 401


def test_another_path_or_method_says_where_to_look(opened: Opened) -> None:
    """404 and 405 are problems too, and point to the description. A path with one slash too many was sent on,
    key and all, to HTTP, although it had come through a proxy's HTTPS."""
    slash = requests.post(f"{opened.door.url}/v1/events/", timeout=60)
    lost = requests.get(f"{opened.door.url}/events", timeout=60)
    wrong = requests.get(f"{opened.door.url}/v1/events", timeout=60)
    assert (lost.status_code, wrong.status_code, wrong.headers["allow"]) == (404, 405, "POST")
    assert (slash.status_code, slash.history) == (404, [])
    for answer in (slash, lost, wrong):
        assert answer.headers["content-type"] == "application/problem+json"
        assert "/openapi.json" in answer.json()["detail"]


def test_health_and_metrics_say_how_it_is(opened: Opened) -> None:
    """Alive and ready, with what was counted so far."""
    opened.door.post([TOUCH, WRONG], opened.keys.everything)
    for path in ("livez", "readyz"):
        answer = requests.get(f"{opened.door.url}/{path}", timeout=60)
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "reasons": [], "away": {}})
    page = requests.get(f"{opened.door.url}/metrics", timeout=60).text
    counted = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(counted['leadlog_ingest_events_total{status="taken"}']) >= 1
    assert float(counted['leadlog_ingest_faults_total{code="unknown_field"}']) >= 1
    assert counted['leadlog_ingest_away{server="kafka"}'] == "0.0"
    assert float(counted["leadlog_ingest_held_bytes"]) == 0


def begun(opened: Opened, size: int) -> HTTPConnection:
    """A request of so many bytes of which only the head was sent."""
    connection = HTTPConnection(urlsplit(opened.door.url).netloc, timeout=60)
    connection.putrequest("POST", "/v1/events")
    connection.putheader("Authorization", f"Bearer {opened.keys.everything}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    return connection


@pytest.mark.slow
def test_too_much_at_once_is_put_off(stack: Addresses, tmp_path: Path) -> None:
    """With its memory taken by requests in hand the door answers 429 at once, and goes on after them."""
    body = json.dumps(TOUCH).encode()
    with open_door(stack, tmp_path, ingest_held_bytes=str(80_000), ingest_body_seconds="5") as opened:
        slow = begun(opened, 100_000)
        slow.send(b"[" * 60_000)
        deadline = time.monotonic() + 10
        while (answer := opened.door.post(body, opened.keys.everything)).status_code == 202:
            assert time.monotonic() < deadline
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json()["type"] == "urn:leadlog:problem:too-busy"
        late = slow.getresponse()
        assert (late.status, json.load(late)["type"]) == (408, "urn:leadlog:problem:body-too-slow")
        assert opened.door.post(body, opened.keys.everything).status_code == 202


@pytest.mark.slow
def test_a_stop_lets_the_request_in_hand_finish(stack: Addresses, tmp_path: Path) -> None:
    """SIGTERM in the middle of a body: the rest is read, the event taken and told so; the exit code is 0."""
    body = json.dumps(TOUCH | {"event_id": "last"}).encode()
    with open_door(stack, tmp_path) as opened:
        half = begun(opened, len(body))
        half.send(body[:50])
        opened.door.post(TOUCH, opened.keys.everything)  # by now the other one is in hand
        opened.door.process.terminate()
        opened.door.wait_until_closed()
        half.send(body[50:])
        answer = half.getresponse()
        assert (answer.status, json.load(answer)["taken"]) == (202, 1)
        assert opened.door.process.wait(30) == 0
        assert len(asyncio.run(found(opened.addresses, "last"))) == 1


@contextmanager
def projector(door: Door) -> Iterator[None]:
    """A worker on the servers of a door."""
    worker = subprocess.Popen([LEADLOG, "run", "projector"], env=door.environment)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(40)


@pytest.mark.slow
async def test_an_event_is_seen_by_bi(stack: Addresses, database: str, tmp_path: Path) -> None:
    """From the HTTP door over Kafka and the projector into a view."""
    addresses = stack._replace(postgres_dsn=database)
    await empty_topics(addresses.kafka_bootstrap)
    await deploy(addresses, infra.MIGRATIONS, None, (ROOT / "projections" / "default.yaml").read_text())
    keys = await make_keys(database)
    door = Door(addresses, tmp_path, consumer_group=tmp_path.name)
    with projector(door):
        door.wait_until_ready()
        assert door.post([TOUCH, LINK], keys.everything).status_code == 202
        behind = await wait(addresses, 60, print)
    door.stop()
    connection = await asyncpg.connect(database)
    leads = await connection.fetch("select journey_id, first_touch_at from bi.lead_current")
    await connection.close()
    assert behind.nothing
    assert [tuple(lead) for lead in leads] == [("crm:00Q42", datetime(2026, 3, 2, 9, 15, tzinfo=UTC))]
