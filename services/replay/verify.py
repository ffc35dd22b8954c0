"""Proof that what BI reads is what the topics say: everything is built again and compared.

Promises: rows and states of every journey that did not move meanwhile; the version built for it goes away
again. Changes nothing that anybody reads.
"""

from typing import NamedTuple

import msgspec

from services.replay.build import build
from services.replay.diff import diff
from services.replay.job import Report
from services.replay.runs import Candidate
from services.replay.versions import Refused, promoted, retire, timeline_of
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.pool import Connection, connect
from services.store.versions import code_version

COUNTS = """
select (select count(*) from {schema}.journey) as journeys,
  (select count(*) from {schema}.journey as built join {schema}.revision on subject_id = journey_id
   left join log.subject using (subject_id)
   where subject.revision is distinct from revision.revision) as moved
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
select table_name, journey_id, row_key::text, kind, columns, before::text, after::text
from {schema}.difference order by table_name, journey_id, row_key::text
"""

EVENTS = (
    *("entered_event_id", "opened_event_id", "started_event_id", "event_id", "touch_event_id"),
    *("stage_entered_event_id", "first_event_id", "last_event_id"),
)
"""Columns that name the event that a row comes from, the nearest first."""


class Wrong(NamedTuple):
    """A row that BI reads otherwise than the topics say."""

    table: str
    journey_id: str
    key: list[object]
    kind: str
    """added = only the topics say so; gone = only BI reads it."""
    columns: list[str]
    event_id: str | None
    """Where it comes from."""


class Verdict(NamedTuple):
    """What was compared and found. Equal if both lists are empty."""

    journeys: int
    moved: int
    """Journeys that got events meanwhile and were left out."""
    rows: list[Wrong]
    states: list[str]
    """Journeys whose folded state differs."""

    @property
    def is_equal(self) -> bool:
        """Nothing differs."""
        return not self.rows and not self.states


async def verify(addresses: Addresses, report: Report, effort: Effort) -> Verdict:
    """Builds the promoted definition again and compares. Raises Refused, Busy."""
    connection = await connect(addresses.postgres_dsn)
    try:
        candidate = await _candidate(connection)
        number = await build(addresses, candidate, report, effort)
        pair = await diff(addresses, number, report, effort)
        verdict = await _verdict(connection, pair.version.schema, pair.against.schema)
        await retire(addresses, number)
        return verdict
    finally:
        await connection.close()


async def _candidate(connection: Connection) -> Candidate:
    live = await promoted(connection)
    if live.code_version != code_version():
        raise Refused(f"{live} was folded by other code: it can be compared by the release that feeds it")
    return Candidate(await timeline_of(connection, live), is_trial=True)


async def _verdict(connection: Connection, schema: str, against: str) -> Verdict:
    counts = await connection.fetchrow(COUNTS.format(schema=schema))
    assert counts is not None
    rows = await connection.fetch(DIFFERENCES.format(schema=schema))
    states = await connection.fetch(STATES.format(schema=schema, against=against))
    return Verdict(
        journeys=counts["journeys"],
        moved=counts["moved"],
        rows=[
            Wrong(
                table=row["table_name"],
                journey_id=row["journey_id"],
                key=msgspec.json.decode(row["row_key"], type=list[object]),
                kind=row["kind"],
                columns=row["columns"],
                event_id=_event_of(msgspec.json.decode(row["after"] or row["before"])),
            )
            for row in rows
        ],
        states=[row["journey_id"] for row in states],
    )


def _event_of(values: dict[str, str]) -> str | None:
    return next((values[name] for name in EVENTS if values.get(name)), None)
