"""Versions built from the topics: equal to what the projector made of the same records, whatever came."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from infra import MIGRATIONS
from projections.agreement.facts import activated
from schemas.records import AttributeChanged, Record, SubjectErased
from services import settings
from services.projector.delivery import OffsetGap
from services.replay.diff_outcome import write_csv
from services.replay.log_rebuild import log_rebuild
from services.replay.log_verify import log_verify
from services.replay.switch import previous, switch
from services.replay.versions import Refused, retire
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.feeding import Fed
from services.store.locks import share_feeding
from services.store.migrate import migrate
from services.store.pool import connect, session
from tests import given as spec
from tests import live
from tests.faults.equality import compare
from tests.feeding import DAY, DEFINITION, HUMAN, at, demo_request
from tests.fresh import empty_database
from tests.histories import Timeline
from tests.replaying import SMALL, Case, Store, decided, prepared, publish, random_case
from tests.servers import DEADLINE_SECONDS, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Many units and buckets; files of builds go away with the test."""
    for name, value in SMALL.items():
        monkeypatch.setattr(settings, name, value)
    monkeypatch.setenv("LEADLOG_STATE", str(tmp_path))


@pytest.fixture
async def case(stack: Addresses) -> Case:
    """Twenty logs as one."""
    return await random_case(stack, seed=1)


@pytest.fixture
async def store(database: str, topics: Addresses, case: Case) -> AsyncIterator[Store]:
    """A database whose projector has taken nothing of the topics yet."""
    async with prepared(case, topics._replace(postgres_dsn=database)) as store:
        yield store


async def test_a_version_goes_its_way_from_the_topics_to_bi_and_back(store: Store, case: Case) -> None:
    """Built while only a part was taken, it catches up, and is the version that was fed all the time: rows,
    states and revisions. Until then it is not compared once open hours have changed. Promoted and rolled back
    it stays so; a version that BI does not read can go."""
    await store.take(len(case.records) * 2 // 3)
    number = await store.build(case.other)
    assert {each.phase for each in store.said} == {"route", "read", "ids", "settle", "fold", "index"}
    await store.take(len(case.records) // 6)
    await store.connection.execute("update log.reference_revision set revision = revision + 1")
    with pytest.raises(Refused, match=f"catch-up {number}"):
        await store.diff(number)
    await store.catch_up(number)
    await store.take(len(case.records))
    await store.settle()
    assert await store.differences(number, case.events, case.other) == []
    assert await store.states(number) == await store.states(2)
    assert await store.connection.fetch("select * from ops.parked") == []

    assert (await store.diff(number)).tables
    switched = await switch(store.connection, number, HUMAN)
    assert (switched.before.number, switched.after.number) == (1, number)
    assert (await store.diff(2)).tables == []
    with pytest.raises(Refused, match="promoted"):
        await retire(store.addresses, number)
    assert await previous(store.connection) == 1
    await switch(store.connection, 1, HUMAN)
    await retire(store.addresses, number)
    activations = "select count(*) from ops.outbox where topic = 'lead.reference'"
    assert await store.connection.fetchval(activations) == len(case.first) + len(case.other)


async def test_a_version_is_compared_with_one_of_an_earlier_release(store: Store, case: Case) -> None:
    """A column that came since is null there, and a table empty: an upgrade compares before it switches."""
    await store.take(len(case.records))
    await store.settle()
    number = await store.build(case.first)
    await store.catch_up(number)
    assert (await store.diff(number)).tables == []
    await store.connection.execute("alter table v0001.opportunity rename first_event_sequence to other")
    await store.connection.execute("alter table v0001.meeting rename to other")
    await store.connection.execute("delete from ops.replay_diff")
    meetings = await store.connection.fetchval(f"select count(*) from v{number:04d}.meeting")
    sequences = await store.connection.fetchval(
        f"select count(first_event_sequence) from v{number:04d}.opportunity"
    )
    found = {name: counts for name, *counts, _ in (await store.diff(number)).tables}
    assert found == {"meeting": [meetings, 0, 0], "opportunity": [0, 0, sequences]}


async def test_what_was_believed_then_can_be_built(store: Store, case: Case) -> None:
    """As known at an instant: the fold of what the log had by then; what differs from today is late facts.
    Such a version is never fed."""
    await store.take(len(case.records))
    await store.settle()
    then = sorted(event.recorded_at for event in case.events)[len(case.events) // 2]
    number = await store.build(case.first, as_known_at=then)
    known = [event for event in case.events if event.recorded_at <= then]
    assert await store.differences(number, known, case.first) == []
    assert {reason for reason, *_ in (await store.diff(number)).reasons} == {"facts recorded later"}
    with pytest.raises(Refused, match="as known"):
        await store.catch_up(number)


async def test_an_erasure_reaches_versions_that_are_not_fed(database: str, topics: Addresses) -> None:
    """A trial of what was known then, whose file calls no mail address personal, kept it when it was built
    before the erasure, brought it back when it was built after it, and any diff wrote it out. No id in the
    file of a diff is a formula."""
    trial: Timeline = [(None, DEFINITION.replace("[email, phone,", "[phone,"))]
    mail = AttributeChanged(**at(0, "mail", "=1+1"), name="email", value="kim@example.com")
    erasure = SubjectErased(**at(2, "erasure", "=1+1"), request_id="1")
    records = live.on_topics([*decided(DEFINITION, 0), mail, demo_request(1, "form"), erasure])
    await publish(topics.kafka_bootstrap, records)
    await migrate(database, MIGRATIONS)
    connection = await connect(database)
    await live.add_versions(connection, [[(None, DEFINITION)]])
    store = Store(topics._replace(postgres_dsn=database), connection, records)
    await store.take(len(records) - 1)
    kept = "select event_id, value from v{:04d}.attribute_change"
    before = await store.build(trial, as_known_at=erasure.recorded_at - 1)
    assert [tuple(row) for row in await connection.fetch(kept.format(before))] == [("mail", mail.value)]
    assert [counts for _, *counts in (await store.diff(before)).tables] == [[1, 0, 0, 1]]
    said = await connection.fetch(f"select after ->> 'name', after ->> 'value' from v{before:04d}.difference")
    assert [tuple(row) for row in said] == [("email", None)]
    file = io.StringIO()
    await write_csv(connection, f"v{before:04d}", file)
    assert "attribute_change,added,'=1+1," in file.getvalue()
    await store.take(1)
    after = await store.build(trial, as_known_at=erasure.recorded_at - 1)
    for number in (before, after):
        assert [tuple(row) for row in await connection.fetch(kept.format(number))] == [("mail", None)]
    await connection.close()


@asynccontextmanager
async def begun(
    addresses: Addresses, events: Sequence[Record], text: str, left: int = 0
) -> AsyncIterator[Store]:
    """A version of one definition that has taken these events, but for the last ones."""
    records = live.on_topics(events)
    await publish(addresses.kafka_bootstrap, records)
    await migrate(addresses.postgres_dsn, MIGRATIONS)
    async with session(addresses.postgres_dsn) as connection:
        await live.add_versions(connection, [[(None, text)]])
        store = Store(addresses, connection, records)
        await store.take(len(records) - left)
        yield store


async def test_a_journey_that_cannot_be_written_is_parked_and_the_others_are_built(
    database: str, topics: Addresses
) -> None:
    """Sums beyond 64 bits, in a row and in a state alone, ended the whole build."""
    text = spec.DEFINITION.partition("attribution:")[0] + "attribution: {models: [{id: linear}]}"
    biggest = 2**63 - 1
    in_a_row = [spec.won("mon 10:00", biggest), spec.won("mon 11:00", biggest, "b")]
    in_the_state: list[Record] = [
        *(spec.touch("mon 09:00", subject="crm:2", id=f"touch {number}") for number in range(8)),
        spec.won("mon 10:00", biggest, subject="crm:2", id="won"),
        spec.adjusted("mon 11:00", biggest, subject="crm:2"),
        spec.reopened("mon 12:00", subject="crm:2"),
    ]
    events = [*in_a_row, *in_the_state, spec.touch("mon 09:00", subject="crm:3")]
    async with begun(topics._replace(postgres_dsn=database), events, text) as store:
        number = await store.build([(None, text)])
        parked = await store.connection.fetch(
            "select journey_id from ops.parked where version_no = $1 order by 1", number
        )
        assert [row["journey_id"] for row in parked] == ["crm:1", "crm:2"]
        leads = await store.connection.fetch(f"select journey_id from v{number:04d}.lead_state")
        assert [row["journey_id"] for row in leads] == ["crm:3"]


async def test_a_version_joins_with_the_open_hours_of_then(database: str, topics: Addresses) -> None:
    """A calendar fact that came while it was built: its rows were measured by it, what the views measure up
    to now by the hours before it."""
    shorter = spec.calendar("mon 00:00", {"tue": [["12:00", "13:00"]]}, recorded="mon 00:00")
    events = [*decided(spec.DEFINITION, 0), demo_request(1, "form"), shorter]
    windows = (
        "select calendar_no, opens_at, closes_at from v{:04d}.calendar_window "
        "where opens_at between now() - interval '2 years' and now() order by 1, 2"
    )
    async with begun(topics._replace(postgres_dsn=database), events, spec.DEFINITION, left=1) as store:
        number = await store.build([(None, spec.DEFINITION)])
        await store.take(1)
        await store.catch_up(number)
        live_ones, joined = [await store.connection.fetch(windows.format(each)) for each in (1, number)]
    assert joined == live_ones


async def test_a_version_joins_while_its_tables_are_read(database: str, topics: Addresses) -> None:
    """A copy of the database locks every table until it is done: joining waited for it, and kept the
    projector waiting."""
    addresses = topics._replace(postgres_dsn=database)
    async with begun(addresses, [demo_request(1, "form")], DEFINITION) as store, session(database) as reader:
        number = await store.build([(None, DEFINITION)])
        async with reader.transaction():
            await reader.execute(f"lock table v{number:04d}.revision in access share mode")
            joining = asyncio.create_task(store.catch_up(number))
            status = f"select status = 'fed' from ops.version where version_no = {number}"
            await until(lambda: store.connection.fetchval(status), "the version does not join")
        await joining
        assert await store.connection.fetchval(f"select to_regclass('v{number:04d}.revision')") is None


async def test_a_version_that_was_retired_meanwhile_does_not_join(database: str, topics: Addresses) -> None:
    """Its tables go when nobody reads them: the projector had to feed what was no more."""
    addresses = topics._replace(postgres_dsn=database)
    async with begun(addresses, [demo_request(1, "form")], DEFINITION) as store, session(database) as reader:
        number = await store.build([(None, DEFINITION)])
        async with reader.transaction():
            await reader.execute(f"lock table v{number:04d}.credit in access share mode")
            async with store.connection.transaction():
                await share_feeding(store.connection)
                retiring = asyncio.create_task(retire(addresses, number))
                await until(lambda: reader.fetchval(WAITS.format(1)), "it is not retired")
                joining = asyncio.create_task(store.catch_up(number))
                await until(lambda: reader.fetchval(WAITS.format(2)), "it does not join")
            with pytest.raises(Refused, match="is retired"):
                await joining
        await retiring
        status = await store.connection.fetchval(
            f"select status from ops.version where version_no = {number}"
        )
        assert status == "retired"


WAITS = """
select count(*) = {} from pg_locks join pg_database on pg_database.oid = database
where datname = current_database() and locktype = 'advisory' and not granted
"""


async def test_what_a_definition_calls_personal_while_a_build_ends_is_forgotten(
    database: str, topics: Addresses
) -> None:
    """A batch that the end of the build waits for brings a definition by which the mail address of a lead
    erased long before is personal: the version kept it, and no later erasure looks at it again."""
    plain = DEFINITION.replace("[email, phone,", "[phone,")
    stricter = decided(DEFINITION.replace("version: 1", "version: 2"), 9)
    mail = AttributeChanged(**at(0, "mail", "crm:1"), name="email", value="kim@example.com")
    erasure = SubjectErased(**at(2, "erasure", "crm:1"), request_id="1")
    events = [*decided(plain, 0), mail, erasure, *stricter]
    addresses = topics._replace(postgres_dsn=database)
    async with begun(addresses, events, plain, left=len(stricter)) as store:
        async with session(database) as projector, projector.transaction():
            await share_feeding(projector)
            build = asyncio.create_task(store.build([(None, plain)]))
            await until(lambda: store.connection.fetchval(WAITS.format(1)), "the build does not end")
            await live.take(projector, live.on_topics(events)[-len(stricter) :], Fed())
        number = await build
        kept = await store.connection.fetch(f"select event_id, value from v{number:04d}.attribute_change")
    assert [tuple(row) for row in kept] == [("mail", None)]


async def test_a_build_that_ends_reads_no_rows_while_all_who_feed_wait(
    database: str, topics: Addresses
) -> None:
    """For nobody erased and nothing called personal meanwhile it read a whole table once more, millions of
    rows."""
    events = [
        *decided(DEFINITION, 0),
        demo_request(0, "form"),
        SubjectErased(**at(2, "erasure"), request_id="1"),
    ]
    async with begun(topics._replace(postgres_dsn=database), events, DEFINITION) as store:
        async with session(database) as projector, projector.transaction():
            await share_feeding(projector)
            build = asyncio.create_task(store.build([(None, DEFINITION)]))
            await until(lambda: store.connection.fetchval(WAITS.format(1)), "the build does not end")
            reading = store.connection.transaction()
            await reading.start()
            await store.connection.execute("lock table v0002.attribute_change in access exclusive mode")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await build
        await reading.rollback()


async def test_whatever_is_changed_by_hand_is_found(store: Store, case: Case) -> None:
    """Projections are proved by building again, the log by reading the topics again: equal at first, then a
    row less, another value, a row more and altered bytes are told, each in its place."""
    await store.take(len(case.records))
    await store.settle()
    assert (await store.verify()).is_equal
    # One spoiled what the other had read.
    at_once = [log_verify(store.addresses, store.said.append) for _ in range(2)]
    assert all(each.is_equal for checked in await asyncio.gather(*at_once) for each in checked)

    lead = await store.connection.fetchval("select min(journey_id) from v0001.lead_state")
    await store.connection.execute(
        "update v0001.lead_state set score = score + 1 where journey_id = $1", lead
    )
    wrong = (await store.verify()).differences.rows
    assert [(each.table, each.key, each.columns) for each in wrong] == [("lead_state", [lead], ["score"])]
    for damage, told in DAMAGES.items():
        await store.connection.execute(damage)
        checked = await log_verify(store.addresses, store.said.append)
        assert [each for each in checked if getattr(each, told)], damage


async def test_a_hole_in_a_topic_is_named_by_all_that_read_it(store: Store, case: Case) -> None:
    """With its offset, also when a process of the build meets it: the error once broke their pool instead."""
    await store.take(len(case.records))
    admin = AIOKafkaAdminClient(bootstrap_servers=store.addresses.kafka_bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition("lead.reference", 0): RecordsToDelete(before_offset=2)})
    await admin.close()
    hole = "lead.reference-0: offset 0 is expected, 2 came"
    with pytest.raises(OffsetGap, match=hole):
        await log_verify(store.addresses, store.said.append)
    with pytest.raises(OffsetGap, match=hole):
        await store.build(case.first)


DAMAGES = {
    "delete from log.event where event_id = (select max(event_id) from log.event where body is not null)": (
        "missing"
    ),
    "update log.event set body = body || 'x' where event_id = (select min(event_id) from log.event "
    "join log.subject using (subject_id) where body is not null and erased_at is null)": "altered",
    "delete from log.reject where ctid = (select min(ctid) from log.reject)": "rejects_missing",
    "insert into log.reject select topic, partition, 0, reason, message from log.reject "
    "on conflict do nothing": "rejects_foreign",
}
"""What is done to the log, and what is said of it."""


async def test_a_rebuild_of_the_log_keeps_what_is_to_count_from_a_date_to_come(
    database: str, topics: Addresses
) -> None:
    """In the definition in force and in the one before. Both lost it when they joined, since nothing was
    promoted yet."""
    now = time.time_ns() // 1000
    later = DEFINITION.replace("version: 1", "version: 3")
    promoted = [*decided(DEFINITION, 0), *decided(DEFINITION.replace("version: 1", "version: 2"), 9)]
    scheduled = [*decided(later, now)[:-1], activated("default", 3, now + 300 * DAY, HUMAN, now)]
    await publish(topics.kafka_bootstrap, live.on_topics([*promoted, demo_request(1, "form"), *scheduled]))
    addresses = topics._replace(postgres_dsn=database)
    await log_rebuild(addresses, MIGRATIONS, lambda _: None, Effort(1, 0))
    async with session(database) as connection:
        labels = await connection.fetch("select label, status from ops.version order by version_no")
    assert [tuple(row) for row in labels] == [
        ("default@1+default@3", "fed"),
        ("default@2+default@3", "promoted"),
    ]


async def test_an_empty_postgres_is_made_again_from_the_topics(store: Store, case: Case) -> None:
    """Log, versions and the definition in force come back in an empty database by one command, the one before
    too, so that a rollback stays possible. A database that has a promoted version is refused."""
    await store.take(len(case.records))
    await store.settle()
    with pytest.raises(Refused, match="promoted"):
        await log_rebuild(store.addresses, MIGRATIONS, store.said.append, Effort(2, 0))
    async with empty_database(store.addresses) as addresses:
        numbers = await log_rebuild(addresses, MIGRATIONS, store.said.append, Effort(2, 0))
        other = await connect(addresses.postgres_dsn)
        rebuilt = Store(addresses, other, [])
        for number, text in zip(numbers, case.agreed, strict=True):
            assert await rebuilt.differences(number, case.events, [(None, text)]) == []
        assert await other.fetchval("select label from ops.version where status = 'promoted'") == "d@2"
        assert await other.fetchval("select count(*) from ops.outbox") == 0
        assert [
            line for each in await compare(store.connection, other, ["log"]) for line in each.differences
        ] == []
        await switch(other, numbers[0], HUMAN)
        await other.close()
