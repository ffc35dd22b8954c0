"""Proof that what BI reads is what the topics say: everything is built again and compared.

Promises: rows and states of every journey that did not move meanwhile, with the first event that explains
each row that differs; the version built for it goes away again, the outcome stays. Killed, it goes on where
it was. Changes nothing that anybody reads. Leaves whether `log` holds what the topics hold to `log_verify`.
"""

from typing import NamedTuple

import asyncpg
import msgspec

from schemas.records import Micros
from services.replay.build import build
from services.replay.diff import Pair, diff
from services.replay.job import Report
from services.replay.runs import Candidate, only_builder
from services.replay.versions import Refused, forget, promoted, ready, timeline_of
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.pool import Connection, session
from services.store.versions import code_version

MOST_KEPT = 100
"""Differing rows, and differing states, that an outcome keeps to be shown again."""

OTHER_RULES = """
select replay.reference_revision <> current.revision or built.timeline <> live.timeline
from ops.version as built join ops.replay using (version_no),
  ops.version as live, log.reference_revision as current
where built.version_no = $1 and live.version_no = $2
"""

COUNTS = """
select (select count(*) from {schema}.journey), left_out from ops.replay_diff where version_no = $1
"""

STATES = """
select built.journey_id from {schema}.journey as built
join {schema}.revision on revision.subject_id = built.journey_id
join {against}.journey as live using (journey_id)
where live.revision = built.revision and not live.is_stale
  and live.reference_revision = built.reference_revision
  and (live.state, live.events) is distinct from (built.state, built.events)
order by 1
"""

DIFFERENCES = """
select table_name, journey_id, row_key::text, kind, columns, before::text, after::text, reasons[1] as event_id
from {schema}.difference order by table_name, journey_id, row_key::text
"""

RECORD = """
insert into ops.verification
  (version_no, began_at, journeys, left_out, rows_differing, states_differing, differences)
select $2, began_at, $3, $4, $5, $6, $7 from ops.replay where version_no = $1
"""

LAST = """
select version_no, finished_at, extract(epoch from finished_at - began_at)::float as seconds,
  journeys, left_out, rows_differing, states_differing, differences::text
from ops.verification order by verification_id desc limit 1
"""


class Wrong(NamedTuple):
    """A row that BI reads otherwise than the topics say."""

    table: str
    journey_id: str
    key: list[object]
    kind: str
    """added = only the topics say so; gone = only BI reads it; changed."""
    columns: list[str]
    """That differ, of a changed row."""
    before: dict[str, object] | None
    """What BI reads."""
    after: dict[str, object] | None
    """What the topics say."""
    event_id: str | None
    """The first event that explains it; None = no event of the log does."""


class Differences(NamedTuple):
    """What differs."""

    rows: list[Wrong]
    states: list[str]
    """Journeys whose folded state differs."""


class Verdict(NamedTuple):
    """What was compared and found."""

    journeys: int
    left_out: int
    """Journeys that got events meanwhile, or were behind or parked: not compared."""
    rows_differing: int
    states_differing: int
    differences: Differences
    """All of them; of an outcome that is shown again at most `MOST_KEPT` each."""

    @property
    def is_equal(self) -> bool:
        """Nothing differs."""
        return not self.rows_differing and not self.states_differing


class Outcome(NamedTuple):
    """A verification that has finished."""

    version_no: int
    finished_at: Micros
    seconds: float
    """From its beginning, pauses included."""
    verdict: Verdict


async def verify(addresses: Addresses, report: Report, effort: Effort) -> Verdict:
    """Builds the promoted definition again and compares. Raises Refused, Busy."""
    async with session(addresses.postgres_dsn) as connection:
        candidate = await _candidate(connection)
        number = await ready(connection, candidate)
    if number is None:
        number = await build(addresses, candidate, report, effort)
    pair = await diff(addresses, number, report, effort)
    return await _concluded(pair)


async def last(connection: Connection) -> Outcome | None:
    """The verification that finished last."""
    row = await connection.fetchrow(LAST)
    if row is None:
        return None
    version_no, finished_at, seconds, *counts, kept = row
    differences = msgspec.json.decode(kept, type=Differences)
    return Outcome(version_no, finished_at, seconds, Verdict._make((*counts, differences)))


async def _candidate(connection: Connection) -> Candidate:
    live = await promoted(connection)
    if live.code_version != code_version():
        raise Refused(f"{live} was folded by other code: it can be compared by the release that feeds it")
    return Candidate(await timeline_of(connection, live), is_trial=True, is_verification=True)


async def _concluded(pair: Pair) -> Verdict:
    """The outcome is there when what it was taken from is gone. Raises Refused."""
    async with only_builder(pair.addresses.postgres_dsn) as connection:
        if await connection.fetchval(OTHER_RULES, pair.version.number, pair.against.number):
            async with connection.transaction():
                await forget(connection, pair.version)
            raise Refused("the rules changed meanwhile, by a switch, a date or a calendar: verify again")
        verdict = await _verdict(connection, pair)
        async with connection.transaction():
            await _record(connection, pair, verdict)
            await forget(connection, pair.version)
    return verdict


async def _verdict(connection: Connection, pair: Pair) -> Verdict:
    schema, against = pair.version.schema, pair.against.schema
    counts = await connection.fetchrow(COUNTS.format(schema=schema), pair.version.number)
    assert counts is not None
    rows = [_wrong(row) for row in await connection.fetch(DIFFERENCES.format(schema=schema))]
    found = await connection.fetch(STATES.format(schema=schema, against=against))
    states = [row["journey_id"] for row in found]
    return Verdict._make((*counts, len(rows), len(states), Differences(rows, states)))


def _wrong(row: asyncpg.Record) -> Wrong:
    return Wrong(
        table=row["table_name"],
        journey_id=row["journey_id"],
        key=msgspec.json.decode(row["row_key"]),
        kind=row["kind"],
        columns=row["columns"],
        before=msgspec.json.decode(row["before"] or "null"),
        after=msgspec.json.decode(row["after"] or "null"),
        event_id=row["event_id"],
    )


async def _record(connection: Connection, pair: Pair, verdict: Verdict) -> None:
    *counts, (rows, states) = verdict
    kept = msgspec.json.encode(Differences(rows[:MOST_KEPT], states[:MOST_KEPT])).decode()
    await connection.execute(RECORD, pair.version.number, pair.against.number, *counts, kept)
