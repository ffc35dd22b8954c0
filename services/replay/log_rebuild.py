"""An empty Postgres filled again from the topics: the log, the definition in force, and what BI reads.

Promises: the log as the projector would have made it, and the definitions whose activations the topics hold
as versions, the last one promoted; a kill costs one batch or one unit, the same command goes on. No reject
is sent again. Leaves the registry's ids to the lock file, and newer records to the projector.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from projections.agreement.facts import SOURCE
from projections.agreement.standing import DefinitionFact, agreements, why_not
from schemas.records import Micros
from schemas.topics import INPUT_TOPICS
from services import settings
from services.broker import end_offsets
from services.projector.batch import Batch
from services.projector.decoding import Decoding
from services.projector.log import Grown
from services.registry import Registry
from services.replay.build import build
from services.replay.catch_up import catch_up
from services.replay.job import Progress, Report
from services.replay.runs import Candidate
from services.replay.topics import Range, read
from services.replay.versions import Refused, ready
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.definition_facts import definition_facts
from services.store.feeding import Fed
from services.store.locks import stop_feeding
from services.store.migrate import migrate
from services.store.pool import Connection, session
from services.store.positions import read_positions
from services.store.timeline import TimelineEntry, with_entry
from services.store.versions import promote

BUILT = """
insert into ops.activation (event_id, version_no)
select event_id, $2 from log.reference
where record_name = 'DefinitionActivated' and fact ->> 'source' = $1 and fact ->> 'valid_from' is null
on conflict do nothing
"""
NOT_SENT_AGAIN = "delete from ops.outbox where topic = 'lead.rejected'"
KEPT_VERSIONS = 2
"""The definition in force and the one before, to go back to."""


async def log_rebuild(addresses: Addresses, migrations: Path, report: Report, effort: Effort) -> list[int]:
    """Fills the log and builds the versions, the promoted one last. Raises Refused, Busy."""
    await migrate(addresses.postgres_dsn, migrations)
    async with session(addresses.postgres_dsn) as connection:
        if await connection.fetchval("select exists (select from ops.version where status = 'promoted')"):
            raise Refused("a version is promoted here: `log rebuild` is for an empty database")
        async with Registry(addresses.registry_url) as registry:
            await registry.deploy()
            await _fill(connection, addresses, Decoding(registry), report)
        await connection.execute(NOT_SENT_AGAIN)
        numbers = []
        for timeline in await _timelines(connection):
            number = await _version(connection, addresses, timeline, report, effort)
            numbers.append(number)
        await _promote(connection, numbers[-1])
        return numbers


async def _fill(connection: Connection, addresses: Addresses, decoding: Decoding, report: Report) -> None:
    """Takes all records as the projector does; no version is fed yet."""
    ends = await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS)
    stored = await read_positions(connection)
    left = [Range(*place, stored.get(place, 0), end) for place, end in sorted(ends.items())]
    left = [each for each in left if each.begin < each.end]
    total, done = sum(each.end - each.begin for each in left), 0
    for each in left:
        async for _, portion in read(addresses.kafka_bootstrap, [each]):
            for begin in range(0, len(portion), settings.BATCH_RECORDS):
                await _take(connection, decoding, portion[begin : begin + settings.BATCH_RECORDS])
            done += len(portion)
            report(Progress("log", done, total, 0, 0, None))


async def _take(connection: Connection, decoding: Decoding, records: Sequence[Any]) -> None:
    decoded = await decoding.batch(records)
    seeds: set[str] = set()
    while True:
        try:
            async with connection.transaction():
                await Batch(connection, Fed(), decoding).apply(records, decoded, seeds)
            return
        except Grown as grown:
            seeds = grown.subjects


async def _timelines(connection: Connection) -> list[list[TimelineEntry]]:
    """The last definitions in force, earliest first. Raises Refused."""
    timelines: list[list[TimelineEntry]] = []
    for valid_from, body in in_force(await definition_facts(connection)):
        entry = TimelineEntry(valid_from, body)
        if valid_from is None:
            timelines = [known for known in timelines if known != [entry]] + [[entry]]
        elif timelines:
            timelines[-1] = with_entry(timelines[-1], entry)
    if not timelines:
        raise Refused(
            "the topics hold no activation of a definition that was proposed: `leadlog up` starts anew"
        )
    return timelines[-KEPT_VERSIONS:]


def in_force(facts: Sequence[DefinitionFact]) -> Iterator[tuple[Micros | None, str]]:
    """Dates and texts that took effect, in the order in which they did: what a switch of versions wrote as it
    stands, and whatever was agreed on for a date."""
    known = [(each, fact) for each in agreements(facts).values() for fact in each.activations]
    for agreement, fact in sorted(known, key=lambda pair: (pair[1].recorded_at, pair[1].event_id)):
        is_agreed = fact.valid_from is not None and why_not(agreement, fact) is None
        if agreement.proposals and (fact.source == SOURCE or is_agreed):
            yield fact.valid_from, agreement.proposals[0].body


async def _version(
    connection: Connection,
    addresses: Addresses,
    timeline: Sequence[TimelineEntry],
    report: Report,
    effort: Effort,
) -> int:
    """Builds a version of the timeline and catches up, unless that was done before a kill."""
    candidate = Candidate(timeline)
    number = await ready(connection, candidate) or await build(addresses, candidate, report, effort)
    await catch_up(addresses, number, report)
    return number


async def _promote(connection: Connection, number: int) -> None:
    """What the topics say is in force takes effect; it is no new activation."""
    async with connection.transaction():
        await stop_feeding(connection)
        await promote(connection, number)
        await connection.execute(BUILT, SOURCE, number)
