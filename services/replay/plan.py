"""What a replay of a candidate would mean, before anything is built.

Promises: reads only. Times are those of the last build here, or a cautious guess; space is that of the
promoted version.
"""

import time
from typing import NamedTuple

from projections import definition
from projections.agreement.diff import affected, diff
from projections.agreement.standing import schedules
from projections.journey import TABLES
from schemas.records import Micros
from services.replay.runs import Candidate
from services.replay.versions import Found, promoted, timeline_of
from services.store.definition_facts import definition_facts
from services.store.pool import Connection
from services.store.timeline import TimelineEntry
from services.store.versions import code_version

GUESS_RECORDS_PER_SECOND = 20_000
"""Of a first build on two cores."""
SPILL_BYTES = 150
"""Of a record on disk during a build."""

LAST_RATE = """
with spent as (
  select version_no, extract(epoch from built_at - began_at) as seconds,
    (select sum((position ->> 2)::bigint) from jsonb_array_elements(positions) as position) as records
  from ops.replay where built_at is not null order by built_at desc limit 1
)
select records / seconds from spent where records > 10000 and seconds > 0
"""

SIZE = """
select sum(pg_total_relation_size(class.oid))::bigint from pg_class as class
where class.relnamespace = $1::text::regnamespace and class.relkind = 'r'
"""


class Plan(NamedTuple):
    """What a build takes and changes."""

    before: Found
    label: str
    changes: list[str]
    """What the definition says otherwise, in words, with the lines."""
    affected: list[str]
    """Tables in which rows may differ for that."""
    is_other_code: bool
    """The promoted version was folded by other code."""
    is_trial: bool
    counts_from: Micros | None
    """From when on the candidate counts without a replay; None = both teams have not scheduled it."""
    tables: list[str]
    """Projections that are built: all of them, from all events."""
    records: int
    journeys: int
    seconds: float
    bytes: int

    @property
    def is_needed(self) -> bool:
        """Whether the rows may differ at all."""
        return bool(self.affected) or self.is_other_code


async def plan(connection: Connection, candidate: Candidate) -> Plan:
    """The plan of a candidate. Raises Refused."""
    before = await promoted(connection)
    known = await timeline_of(connection, before)
    records = await connection.fetchval("select coalesce(sum(next_offset), 0)::bigint from log.position")
    journeys = await connection.fetchval("select count(*) from log.subject where subject_id = journey_id")
    rate = await connection.fetchval(LAST_RATE) or GUESS_RECORDS_PER_SECOND
    size = await connection.fetchval(SIZE, before.schema)
    label = "+".join(definition.parse(entry.body).label for entry in candidate.timeline)
    dates = {each.label: each.valid_from for each in schedules(await definition_facts(connection)).values()}
    changes, affected = _changes([entry for entry in known if not _is_to_come(entry)], candidate)
    return Plan(
        before=before,
        label=label,
        changes=changes,
        affected=affected,
        is_other_code=before.code_version != code_version(),
        is_trial=candidate.is_trial,
        counts_from=dates.get(label),
        tables=[table.name for table in TABLES],
        records=records,
        journeys=journeys,
        seconds=records / float(rate),
        bytes=size + records * SPILL_BYTES,
    )


def _is_to_come(entry: TimelineEntry) -> bool:
    """Whether it counts from a date on that has not come yet: then it will in the new version too."""
    return entry.valid_from is not None and entry.valid_from > time.time_ns() // 1000


def _changes(known: list[TimelineEntry], candidate: Candidate) -> tuple[list[str], list[str]]:
    """What is said otherwise, and the tables that it reaches."""
    if known[1:] == list(candidate.timeline[1:]):
        found = diff(*(definition.parse(each[0].body) for each in (known, candidate.timeline)))
        told = [f"{each.place}: {each.sentence}" for each in found]
        return told, sorted(affected(found))
    return ["the timeline of definitions"], [table.name for table in TABLES]
