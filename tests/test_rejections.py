"""Guards `leadlog rejected`: what was refused can be read, found by its source, and repaired.

Which records are refused is guarded by test_fuzz_topics and test_schemas_wire.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from schemas import records as r
from schemas.contract import parse, to_json
from schemas.records import Envelope
from schemas.wire import Decoder, Unreadable, encode, headers
from services.cli import main
from services.projector.delivery import Record
from services.projector.redaction import FORGOTTEN
from services.rejections import Page, read_page
from services.settings import Addresses
from services.store.feeding import Fed
from services.store.pool import Connection, connect, session
from tests import live
from tests.feeding import MONDAY_TEN, Leadlog, at, commands_on, demo_request, feed, given
from tests.reading import everything
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

GOOD = demo_request(1, "web:1", subject_id="web:5f3a")
UNKNOWN_WORD = msgspec.structs.replace(
    demo_request(2, "web:2"), touch_type="teleported", offer_id=None, occurred_at=MONDAY_TEN
)
"""Well-formed Avro with a word that the contract does not have."""


def lying(event: Envelope, offset: int, **otherwise: Any) -> Record:
    """An event as a record of partition 3 of lead.events, but for what is given otherwise."""
    record = Record(
        "lead.events", 3, offset, 0, event.subject_id.encode(), encode(event), tuple(headers(event))
    )
    return record._replace(**otherwise)


REFUSED = [
    lying(GOOD, 0, key=b"crm:\xff", headers=()),
    lying(UNKNOWN_WORD, 1),
    lying(GOOD, 2, value=json.dumps(to_json(GOOD)).encode(), headers=()),
    lying(GOOD, 3, value=encode(GOOD)[:12]),
    lying(GOOD, 4, value=None, headers=()),
]
"""A key that is not the subject, an unknown word, JSON instead of Avro, a value cut off, a tombstone."""


async def take(dsn: str, records: Sequence[Record]) -> None:
    """Lets the projector take records."""
    await given(dsn, [])
    async with session(dsn) as connection:
        await live.take(connection, records, Fed())


async def pages(dsn: str, **wanted: Any) -> Page:
    """A page of rejections."""
    async with session(dsn) as connection:
        return await read_page(connection, **wanted)


@pytest.fixture
def leadlog(database: str) -> Leadlog:
    """Runs a command on a log on which REFUSED lie."""
    asyncio.run(take(database, REFUSED))
    return commands_on(database)


def listed(leadlog: Leadlog, *options: str) -> list[dict[str, Any]]:
    """What `rejected list --json` prints: one document, as everywhere."""
    result = leadlog("rejected", "list", "--json", *options)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_every_rejection_tells_why_where_and_what_it_says(leadlog: Leadlog) -> None:
    """Reason and place always; the event as far as it is readable, also from JSON sent by mistake; of the
    rest the first bytes, and the ids that its headers claim."""
    wrong_key, unknown_word, as_json, cut_off, tombstone = listed(leadlog)
    assert [each["place"] for each in listed(leadlog)] == [f"lead.events-3-{n}" for n in range(5)]
    assert (wrong_key["reason"], wrong_key["key"]) == ("wrong_key", "crm:\\xff")
    assert parse(wrong_key["content"], now=r.MAX_INSTANT, may_import=True) == GOOD
    assert unknown_word["reason"] == "bad_value"
    assert unknown_word["content"]["touch_type"] == "teleported"
    assert unknown_word["content"]["occurred_at"] == "2026-03-23T10:00:00Z"
    assert (as_json["reason"], as_json["content"]) == ("not_avro", to_json(GOOD))
    assert (cut_off["reason"], cut_off["content"]) == ("not_avro", None)
    assert cut_off["beginning"].endswith("\\nweb:1\\x10")
    assert (tombstone["reason"], tombstone["content"], tombstone["size_bytes"]) == ("not_avro", None, None)
    claimed = [(each["source"], each["event_id"], each["subject_id"]) for each in listed(leadlog)]
    assert claimed == [
        ("test", "web:1", "web:5f3a"),
        ("test", "web:2", "crm:1"),
        ("test", "web:1", "web:5f3a"),
        ("test", "web:1", "web:5f3a"),
        (None, None, "web:5f3a"),
    ]


def test_rejections_are_found_by_reason_and_time(leadlog: Leadlog) -> None:
    """Only what is asked for; an instant that is none is a usage error that says how to write one."""
    assert [each["event_id"] for each in listed(leadlog, "--reason", "bad_value")] == ["web:2"]
    assert len(listed(leadlog, "--since", "2026-01-01")) == len(REFUSED)
    assert listed(leadlog, "--since", "2126-01-01T00:00:00+01:00") == []
    assert "nothing of that kind was rejected" in leadlog("rejected", "list", "--since", "2126-01-01").output
    wrong = leadlog("rejected", "list", "--since", "yesterday")
    assert (wrong.exit_code, "expected one such as 2026-01-31" in wrong.output) == (2, True)
    assert listed(leadlog, "--since", "2126-01-01 10:00") == []


def test_people_see_a_line_for_each_and_one_in_full(leadlog: Leadlog) -> None:
    """The list has place, reason and message of each; `show` has the event too; an unknown place is told."""
    lines = leadlog("rejected", "list").output.splitlines()
    assert len(lines) == len(REFUSED) + 1
    assert lines[1].startswith("lead.events-3-0")
    assert lines[1].endswith("expected the subject id 'web:5f3a'")
    shown = leadlog("rejected", "show", "lead.events-3-1").output
    assert '"touch_type": "teleported"' in shown
    assert "bad_value" in shown
    nowhere = leadlog("rejected", "show", "lead.events-3-99")
    assert (nowhere.exit_code, "no record was rejected at lead.events-3-99" in nowhere.output) == (1, True)
    assert leadlog("rejected", "show", "somewhere").exit_code == 2
    unreadable = leadlog("rejected", "show", "lead.events-3-3", "--event")
    assert (unreadable.exit_code, "cannot be read as an event" in unreadable.output) == (1, True)


def test_pages_follow_each_other_and_hold_one_source(leadlog: Leadlog, database: str) -> None:
    """The cursor of a page leads to what follows it, also after the last page; other sources are not seen."""
    first = asyncio.run(pages(database, source="test", limit=3))
    rest = asyncio.run(pages(database, source="test", limit=3, after=first.cursor))
    assert [len(page.rejections) for page in (first, rest)] == [3, 1]
    assert (first.is_last, rest.is_last) == (False, True)
    assert asyncio.run(pages(database, source="crm")).rejections == []
    asyncio.run(take(database, [lying(UNKNOWN_WORD, 5)]))
    (new,) = asyncio.run(pages(database, source="test", after=rest.cursor)).rejections
    assert new.place == "lead.events-3-5"


async def test_a_reader_that_goes_on_after_the_last_number_misses_none(database: str) -> None:
    """Of two workers the second one's numbers come after the first one's commit."""
    await take(database, REFUSED)
    seen = (await pages(database)).cursor
    one, other, looking = [await connect(database) for _ in range(3)]
    slow = one.transaction()
    await slow.start()
    await live.take(one, [lying(UNKNOWN_WORD, 5)], Fed())
    elsewhere = [lying(UNKNOWN_WORD, 0, partition=4)]
    waiting = asyncio.create_task(live.take(other, elsewhere, Fed()))
    await until(lambda: _someone_waits(looking), "the second worker does not wait for the first")
    assert (await pages(database, after=seen)).rejections == []
    await slow.commit()
    await waiting
    new = (await pages(database, after=seen)).rejections
    assert [each.place for each in new] == ["lead.events-3-5", "lead.events-4-0"]
    for connection in (one, other, looking):
        await connection.close()


async def _someone_waits(connection: Connection) -> bool:
    return bool(
        await connection.fetchval(
            "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
        )
    )


async def test_an_erasure_takes_the_values_of_rejected_records(database: str) -> None:
    """Records of an erased subject keep reason and place, whether they came before the erasure or after. Keys
    that were none and messages, which quote what was wrong, stayed."""
    by_mail = [lying(GOOD, 5, key=b"kim@example.com"), lying(GOOD, 6, key=b"kim@example.com")]
    spelt = msgspec.structs.replace(UNKNOWN_WORD, subject_id="web:5f3a", touch_type="kim@example.com")
    await take(database, [*REFUSED, by_mail[0], lying(spelt, 0, partition=4)])
    connection = await connect(database)
    await feed(connection, [r.SubjectErased(**at(3, "erasure", "web:5f3a"), request_id="1")])
    await live.take(connection, [by_mail[1]], Fed())
    kept = {each.place: each.content for each in (await pages(database)).rejections}
    assert [place for place, content in kept.items() if content] == ["lead.events-3-1"]
    assert len(kept) == len(REFUSED) + 3
    rows = await connection.fetch("select key, value, message from log.reject where subject_id = 'web:5f3a'")
    assert {tuple(row) for row in rows} == {(None, None, FORGOTTEN)}
    await connection.close()


def test_a_wrong_encoding_is_told_without_the_text() -> None:
    """The message quoted all of it: as long as the record, and what it says about a person."""
    mail = r.AttributeChanged(**at(1, "mail"), name="email", value="kim@example.com")
    with pytest.raises(Unreadable) as refused:
        Decoder().decode(encode(mail).replace(b"kim@", b"kim\xff"))
    assert "not UTF-8 (byte 0xff)" in refused.value.message
    assert "example.com" not in refused.value.message


def on(topics: Addresses, database: str) -> Callable[..., Result]:
    """Runs commands on that database and these topics, with text on standard input."""
    servers = {f"LEADLOG_{name.upper()}": value for name, value in topics._asdict().items()}
    servers["LEADLOG_POSTGRES_DSN"] = database
    return lambda text, *arguments: CliRunner().invoke(main, arguments, input=text, env=servers)


def test_a_repair_publishes_the_corrected_event_and_says_what_it_repairs(
    topics: Addresses, leadlog: Leadlog, database: str
) -> None:
    """What lay in the wrong place is published as it was read; what was wrong as it was corrected; each event
    names the record it repairs, and the list shows it."""
    command = on(topics, database)
    shown = command(None, "rejected", "show", "lead.events-3-0", "--event").output
    assert command(shown, "rejected", "repair", "lead.events-3-0", "-").exit_code == 0
    wrong = command(None, "rejected", "show", "lead.events-3-1", "--event").output
    refused = command(wrong, "rejected", "repair", "lead.events-3-1", "-")
    assert (refused.exit_code, "/touch_type: not_allowed" in refused.output) == (1, True)
    corrected = wrong.replace("teleported", "page_view")
    assert command(corrected, "rejected", "repair", "lead.events-3-1", "-").exit_code == 0
    assert command(corrected, "rejected", "repair", "lead.events-3-99", "-").exit_code == 1
    found = {dict(each.headers)["leadlog_repairs"].decode(): each for each in asyncio.run(everything(topics))}
    assert sorted(found) == ["lead.events-3-0", "lead.events-3-1"]
    assert Decoder().decode(found["lead.events-3-0"].value) == GOOD
    assert found["lead.events-3-0"].key == b"web:5f3a"
    repaired = Decoder().decode(found["lead.events-3-1"].value)
    assert repaired == msgspec.structs.replace(UNKNOWN_WORD, touch_type="page_view")
    assert [each["repaired_by"] for each in listed(leadlog)] == [["web:1"], ["web:2"], [], [], []]
