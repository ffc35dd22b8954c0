"""Guards who may send what to the HTTP door: keys as `leadlog key` makes, rotates and revokes them."""

import asyncio
import base64
import json
import time
from typing import Any

import asyncpg
import pytest
import requests
from click.testing import CliRunner, Result

from schemas.instants import instant_of
from schemas.wire import Decoder
from services.cli import main
from services.store.keys import hash_of
from tests.door import Opened
from tests.reading import records_on_topics
from tests.test_ingest import TOUCH, faults, found, named

pytestmark = [pytest.mark.servers, pytest.mark.slow]

SOON = 10.0
"""Seconds by which a running door must have heard of a change; it looks once a second."""
LINK = TOUCH | {"record": "SubjectsLinked", "source": "crm"}


def leadlog(opened: Opened, *arguments: str) -> Result:
    """`leadlog key …` on the door's database."""
    addresses = {f"LEADLOG_{name.upper()}": value for name, value in opened.addresses._asdict().items()}
    return CliRunner().invoke(main, ["key", *arguments], env=addresses)


def made(opened: Opened, *arguments: str) -> dict[str, Any]:
    """What `--json` says of a new key."""
    done = leadlog(opened, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def listed(opened: Opened) -> dict[str, dict[str, Any]]:
    """`leadlog key list` by id."""
    return {key["key_id"]: key for key in json.loads(leadlog(opened, "list", "--json").stdout)}


def answered(opened: Opened, key: str, status: int) -> requests.Response:
    """The first answer of this status; it must come soon."""
    deadline = time.monotonic() + SOON
    while (answer := opened.door.post(TOUCH, key)).status_code != status:
        assert time.monotonic() < deadline, answer.text
    return answer


def basic(user: str) -> str:
    """The header of Basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:".encode()).decode()


@pytest.mark.parametrize("form", ["Bearer {}", "bearer  {}", "basic"])
def test_a_key_is_a_bearer_token_or_a_user_name(opened: Opened, form: str) -> None:
    """Both ways of HTTP are understood."""
    key = opened.keys.everything
    header = basic(key) if form == "basic" else form.format(key)
    assert opened.door.post(TOUCH, key, authorization=header).status_code == 202


NO_KEYS = ["", "Bearer", "Bearer nonsense", "Basic ?", "Basic " + "/" * 8, "Digest x", basic("nobody")]


@pytest.mark.parametrize("header", NO_KEYS)
async def test_without_a_known_key_nothing_is_taken(opened: Opened, header: str) -> None:
    """401 says how a key is sent and where one comes from."""
    before = await records_on_topics(opened.addresses)
    answer = opened.door.post(TOUCH, "", authorization=header)
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:leadlog:problem:no-valid-key")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "leadlog key create" in answer.json()["detail"]
    assert await records_on_topics(opened.addresses) == before


def test_what_the_key_may_not_send_is_a_fault_of_the_event(opened: Opened) -> None:
    """Another source or record is refused, clearly, beside other faults; the rest is taken."""
    events = [TOUCH, TOUCH | {"source": "crm"}, LINK, TOUCH | {"source": "crm", "channel": 1}]
    answer = opened.door.post(events, opened.keys.website)
    assert answer.status_code == 207
    assert faults(answer, 1) == [("source_not_allowed", "/source")]
    assert ("record_not_allowed", "/record") in faults(answer, 2)
    command = "leadlog key create --source website --record SubjectsLinked"  # without a source it fails
    assert any(command in (fault["hint"] or "") for fault in answer.json()["results"][2]["faults"])
    assert faults(answer, 3) == [("source_not_allowed", "/source"), ("wrong_type", "/channel")]
    (fault,) = answer.json()["results"][1]["faults"]
    assert (fault["value"], "'website'" in fault["expected"]) == ("crm", True)
    assert "leadlog key create --source" in fault["hint"]


async def test_only_a_key_that_may_import_brings_its_own_recorded_at(opened: Opened) -> None:
    """History keeps when it was first recorded; from anybody else that is a fault."""
    (event,) = named(TOUCH, "history")
    event["recorded_at"] = "2026-03-02T09:20:00Z"
    refused = opened.door.post(event, opened.keys.everything)
    assert (refused.status_code, faults(refused)) == (422, [("recorded_at_refused", "/recorded_at")])
    assert opened.door.post(event, opened.keys.history).status_code == 202
    (taken,) = await found(opened.addresses, "history")
    assert Decoder().decode(taken.value).recorded_at == instant_of("2026-03-02T09:20:00Z")


def test_a_key_works_at_once_and_until_it_is_revoked(opened: Opened) -> None:
    """A new key's first request is taken; a running door hears of its end within seconds, and says so."""
    key = made(opened, "create", "--source", "website")
    assert opened.door.post(TOUCH, key["key"]).status_code == 202
    assert leadlog(opened, "revoke", key["key_id"]).exit_code == 0
    ended = answered(opened, key["key"], 403)
    assert ended.json()["type"] == "urn:leadlog:problem:key-ended"
    assert key["key_id"] in ended.json()["detail"]
    assert "it was revoked, or replaced" in ended.json()["detail"]
    again = leadlog(opened, "revoke", key["key_id"])
    assert (again.exit_code, "leadlog key list" in again.stderr) == (1, True)


def test_a_rotated_key_gives_time_to_change(opened: Opened) -> None:
    """The new key has the rights of the old one, which goes on working until the overlap is over."""
    old = made(opened, "create", "--source", "website", "--record", "TouchRecorded")
    new = made(opened, "rotate", old["key_id"])
    rights = ("source", "records", "may_import")
    assert [new[name] for name in rights] == [old[name] for name in rights]
    assert instant_of(listed(opened)[old["key_id"]]["valid_until"]) > time.time_ns() // 1000
    for key in (old, new):
        assert opened.door.post(TOUCH, key["key"]).status_code == 202
    longer = leadlog(opened, "rotate", old["key_id"], "--overlap-hours", "100")
    ends = listed(opened)[old["key_id"]]["valid_until"]
    assert f"ends at {ends[:19].replace('T', ' ')} UTC" in longer.stderr, (
        "it said 100 hours, and it stays at 24"
    )
    newest = made(opened, "rotate", new["key_id"], "--overlap-hours", "0")
    answered(opened, new["key"], 403)
    assert opened.door.post(TOUCH, newest["key"]).status_code == 202


def test_the_list_shows_everything_but_the_key(opened: Opened) -> None:
    """Id, rights and last use; the key itself was shown once and is nowhere in Postgres."""
    key = made(opened, "create", "--any-source", "--record", "lead.identity", "--record", "TouchRecorded")
    records = ["TouchRecorded", "SubjectsLinked", "SubjectsUnlinked", "SubjectErased"]
    assert (key["source"], key["records"], key["last_used_at"]) == (None, records, None)
    opened.door.post(TOUCH, key["key"])
    deadline = time.monotonic() + SOON
    while listed(opened)[key["key_id"]]["last_used_at"] is None:
        assert time.monotonic() < deadline
    shown = leadlog(opened, "list").stdout
    assert key["key_id"] in shown
    assert key["key"] not in shown
    rows, stored = asyncio.run(stored_keys(opened, key["key_id"]))
    assert stored == hash_of(key["key"])
    assert not any(key["key"] in row for row in rows)


async def stored_keys(opened: Opened, key_id: str) -> tuple[list[str], bytes]:
    """All rows as text, and the hash of one key."""
    connection = await asyncpg.connect(opened.addresses.postgres_dsn)
    try:
        rows = await connection.fetch("select key::text as row from ops.api_key key")
        stored = await connection.fetchval("select key_hash from ops.api_key where key_id = $1", key_id)
        return [row["row"] for row in rows], stored
    finally:
        await connection.close()


def test_wrong_usage_makes_no_key(opened: Opened) -> None:
    """A key without a clear right is not made; exit code 2."""
    before = listed(opened)
    assert leadlog(opened, "create").exit_code == 2
    assert leadlog(opened, "create", "--source", "x", "--any-source").exit_code == 2
    unknown = leadlog(opened, "create", "--source", "x", "--record", "Touch")
    assert (unknown.exit_code, "Touch" in unknown.stderr) == (2, True)
    assert listed(opened) == before
