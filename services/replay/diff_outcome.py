"""The outcome of a diff: counts for people, rows for files.

Promises: reads what `diff` wrote and nothing else, so it shows a finished diff again at any time; only what
on-call would hear of a switch is that of the moment, since clocks run on.
"""

import csv
from collections import Counter
from collections.abc import AsyncIterator
from typing import IO, Any, NamedTuple

import msgspec

from services.clock.reconcile import would_change
from services.replay.versions import INCOMPLETE, Found, Refused, find
from services.store.pool import Connection
from services.wording import cell

FINISHED = """
select against_no, left_out from ops.replay_diff where version_no = $1 and finished_at is not null
"""

BY_TABLE = """
select table_name, count(*) filter (where kind = 'added'), count(*) filter (where kind = 'gone'),
  count(*) filter (where kind = 'changed'), count(distinct journey_id)
from {schema}.difference group by table_name order by table_name
"""

BY_REASON = """
select array_to_string(reasons, ' and '), count(*), count(distinct journey_id)
from {schema}.difference group by 1 order by 2 desc, 1
"""

BY_COLUMN = """
select table_name, name, count(*)
from {schema}.difference, unnest(columns) as name group by 1, 2 order by 3 desc, 1, 2 limit {most}
"""

BY_VALUE = """
select value, count(distinct journey_id) as journeys,
  count(*) filter (where kind = 'added'), count(*) filter (where kind = 'gone'),
  count(*) filter (where kind = 'changed')
from (
  select journey_id, kind, coalesce(after ->> '{column}', before ->> '{column}') as value
  from {schema}.difference where table_name = '{table}'
) as found
where value is not null
group by value order by journeys desc, value limit {most}
"""

ROWS = """
select table_name, kind, journey_id, row_key::text, array_to_string(reasons, ' and '), columns,
  before::text, after::text
from {schema}.difference order by table_name, journey_id, row_key::text
"""

MOST = 10
"""Lines of a ranking."""
RANKINGS = {
    "stage": ("stage_visit", "stage"),
    "policy": ("sla_clock", "policy_id"),
    "model": ("credit", "model"),
    "campaign": ("credit", "campaign_id"),
    "owner": ("lead_state", "owner_id"),
}
"""What is ranked by the journeys affected: the table and the column that it is read from."""
CHANGES = ("opens", "raises", "lowers", "closes")
"""Of an obligation, in the order in which they are shown."""
CSV_HEAD = ("table", "kind", "journey_id", "key", "reason", "column", "before", "after")

Lines = list[tuple[Any, ...]]


class AlertChange(NamedTuple):
    """What a switch would do to obligations of a policy, and how many of them on-call would hear of."""

    policy: str
    change: str
    """`opens`, `raises` (from a warning to a breach), `lowers` or `closes`."""
    reason: str
    """Why it closes, as in `ops.obligation`; else empty."""
    told: int
    silent: int


class Outcome(NamedTuple):
    """Counts of a diff; every list is ready to be shown."""

    version: Found
    against: Found
    left_out: int
    """Journeys that were behind or parked in either version."""
    tables: Lines
    """Table, rows added, gone, changed, journeys."""
    reasons: Lines
    """Reason, rows, journeys."""
    columns: Lines
    """Table, column, rows."""
    rankings: dict[str, Lines]
    """Value, journeys, rows added, gone, changed."""
    alerts: list[AlertChange]
    """By policy; opens, raises, lowers, closes."""


async def outcome(connection: Connection, number: int) -> Outcome:
    """The counts of a finished diff. Raises Refused."""
    version = await find(connection, number)
    if version.status in INCOMPLETE:
        raise Refused(f"{version} {INCOMPLETE[version.status]}")
    finished = await connection.fetchrow(FINISHED, number)
    if finished is None:
        raise Refused(f"{version} was not compared yet: `leadlog replay diff {number}`")

    async def lines(query: str, **names: object) -> Lines:
        text = query.format(schema=version.schema, most=MOST, **names)
        return [tuple(row) for row in await connection.fetch(text)]

    return Outcome(
        version=version,
        against=await find(connection, finished["against_no"]),
        left_out=finished["left_out"],
        tables=await lines(BY_TABLE),
        reasons=await lines(BY_REASON),
        columns=await lines(BY_COLUMN),
        rankings={
            name: await lines(BY_VALUE, table=table, column=column)
            for name, (table, column) in RANKINGS.items()
        },
        alerts=await _alerts(connection, version),
    )


async def _alerts(connection: Connection, version: Found) -> list[AlertChange]:
    found = await would_change(connection, version.schema)
    counts = Counter((each.key[0], each.change, each.reason, each.is_silent) for each in found)
    lines = sorted({line[:3] for line in counts}, key=lambda line: (line[0], CHANGES.index(line[1]), line[2]))
    return [AlertChange(*line, counts[*line, False], counts[*line, True]) for line in lines]


async def write_csv(connection: Connection, schema: str, file: IO[str]) -> int:
    """Every row: a line for each column that changed, one for a row that is added or gone; returns lines."""
    writer = csv.writer(file)
    writer.writerow(CSV_HEAD)
    written = 0
    async for line in _csv_lines(connection, schema):
        writer.writerow(map(cell, line))
        written += 1
    return written


async def _csv_lines(connection: Connection, schema: str) -> AsyncIterator[tuple[Any, ...]]:
    async with connection.transaction(readonly=True):
        async for *place, columns, before, after in connection.cursor(ROWS.format(schema=schema)):
            if not columns:
                yield (*place, "", before, after)
            for name in columns:
                yield (*place, name, _value(before, name), _value(after, name))


def _value(row: str, name: str) -> Any:
    return msgspec.json.decode(row)[name]
