"""What a version changes against the one that BI reads: row by row, with the reason.

Promises: every row that differs is in the version's table `difference`, with what decides it otherwise (of a
verification, with the first event that explains it); both versions are compared journey by journey at one
instant, so live processing makes no difference. Journeys that are behind or parked in either version are left
out and counted. What any definition calls personal is told without its value, since files are out of reach of
an erasure. A kill costs one unit. Leaves showing it to `diff_outcome`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from projections import attribute_change
from projections.journey import TABLES
from projections.table import Table
from services import settings
from services.projector.decoding import Decoding
from services.projector.redaction import personal_names
from services.registry import Registry
from services.replay.compare import UNCOMPARED, Difference, Keyed, Values, differences, keyed
from services.replay.first_events import first_events
from services.replay.job import Done, Report, Stopwatch, Task
from services.replay.reasons import Reasons
from services.replay.runs import finish_unit, lock_unit, only_builder
from services.replay.versions import INCOMPLETE, Found, Refused, find, promoted, timeline_of
from services.replay.workers import Effort, Workers
from services.settings import Addresses
from services.store.pool import Connection, session
from services.store.timeline import entries_of

PHASE = "diff"

TABLES_OF_DIFF = """
drop table if exists {schema}.difference, {schema}.differing;
create table {schema}.differing (
  journey_id text collate "C" primary key,
  unit_no    integer not null
);
comment on table {schema}.differing is 'Journeys of which a row differs, and the work unit for it.';
create table {schema}.difference (
  table_name text not null,
  journey_id text collate "C" not null,
  row_key    jsonb not null,
  kind       text not null,
  columns    text[] not null,
  before     jsonb,
  after      jsonb,
  reasons    text[] not null
);
comment on table {schema}.difference is 'Rows added, gone or changed against the version that BI read.';
"""

BEGIN = """
insert into ops.replay_diff (version_no, against_no, left_out)
select $1, $2, count(*) from ({left_out}) as behind
on conflict (version_no) do update
set against_no = excluded.against_no, left_out = excluded.left_out, began_at = now(), finished_at = null
"""

FINISH = "update ops.replay_diff set finished_at = now() where version_no = $1"

BEGUN = "select against_no from ops.replay_diff where version_no = $1 and finished_at is null"

# `except`, since a `not in` of more than the memory of a sort holds reads all of it for every journey.
FIND_DIFFERING = """
insert into {schema}.differing
select journey_id, (row_number() over (order by journey_id) - 1) / {size}
from (({differing}) except ({left_out})) as found
"""
OF_UNIT = "select journey_id from {schema}.differing where unit_no = $1"
BEHIND = "select journey_id from ({left_out}) as behind where journey_id = any($1)"
"""Looks up these alone, and not all journeys for each unit."""

PARKED = "select journey_id from ops.parked where version_no in ({numbers})"
STALE = """
select journey_id from {schema}.journey
where is_stale or reference_revision < (select revision from log.reference_revision)
"""
MOVED = """
select journey_id from (
  select subject_id as journey_id, revision from {schema}.revision
  except
  select subject_id, revision from log.subject where subject_id = journey_id
) as gone
union
select journey_id from (
  select subject_id as journey_id, revision from log.subject where subject_id = journey_id
  except
  select subject_id, revision from {schema}.revision
) as come
"""
"""Journeys that changed in the log after the version was built."""

FACTS_MOVED = """
select reference_revision < (select revision from log.reference_revision)
from ops.replay where version_no = $1
"""

# A version of an earlier release lacks columns, or tables, that came since.
MISSING = """
select class.relname as table_name, attribute.attname as name,
  format_type(attribute.atttypid, attribute.atttypmod) as type
from pg_class as class
join pg_attribute as attribute
  on attribute.attrelid = class.oid and attribute.attnum > 0 and not attribute.attisdropped
where class.relnamespace = $2::regnamespace and class.relname = any($3)
  and not exists (
    select from pg_class as earlier
    join pg_attribute as its
      on its.attrelid = earlier.oid and its.attname = attribute.attname and not its.attisdropped
    where earlier.relnamespace = $1::regnamespace and earlier.relname = class.relname
  )
"""

DIFFERING_IN = """
select coalesce(one.journey_id, other.journey_id) as journey_id
from {earlier} as one
full join {schema}.{table} as other using ({key})
where ({ones}) is distinct from ({others})
"""

READ = "select {columns} from {relation} as found where journey_id = any($1)"

INSERT = """
insert into {schema}.difference values ($1, $2, $3, $4, $5, $6, $7, $8)
"""


class Pair(NamedTuple):
    """Two versions to compare."""

    addresses: Addresses
    version: Found
    against: Found
    earlier: Mapping[str, str]
    """Table to SQL of what `against` has of it, with the columns of `version`."""
    personal: frozenset[str]
    """Names of attributes that a definition calls personal, also one that nobody has proposed."""

    @property
    def version_no(self) -> int:
        """The version that the rows are written to."""
        return self.version.number


async def diff(addresses: Addresses, number: int, report: Report, effort: Effort) -> Pair:
    """Compares a version with the promoted one. Raises Refused, Busy."""
    async with only_builder(addresses.postgres_dsn) as connection:
        version, against = await find(connection, number), await promoted(connection)
        if version.status in INCOMPLETE:
            raise Refused(f"{version} {INCOMPLETE[version.status]}")
        await _check_facts(connection, version)
        earlier = await _relations(connection, against.schema, version.schema)
        pair = Pair(addresses, version, against, earlier, await _personal(connection, version, against))
        await _prepare(connection, pair)
        last = await connection.fetchval(f"select max(unit_no) from {version.schema}.differing")
        tasks = [Task(PHASE, unit) for unit in range(0 if last is None else last + 1)]
        with Workers(connection, report, effort) as workers:
            await workers.run(explain, pair, tasks)
        await connection.execute(FINISH, number)
    return pair


async def _check_facts(connection: Connection, version: Found) -> None:
    """What stays as it was known, and a verification, which looks for itself, is compared all the same."""
    is_to_join = version.status == "built" and version.as_known_at is None and not version.is_verification
    if is_to_join and await connection.fetchval(FACTS_MOVED, version.number):
        raise Refused(
            f"open hours or dates have changed since {version} was built, so all of it is behind: "
            f"`leadlog replay catch-up {version.number}` first"
        )


async def _prepare(connection: Connection, pair: Pair) -> None:
    """Finds the journeys that differ, unless that was done by a run that was killed."""
    version, against = pair.version, pair.against
    if await connection.fetchval(BEGUN, version.number) == against.number:
        return
    async with connection.transaction():
        await connection.execute(TABLES_OF_DIFF.format(schema=version.schema))
        await connection.execute(
            "delete from ops.replay_unit where version_no = $1 and phase = $2", version.number, PHASE
        )
        begin = BEGIN.format(left_out=_left_out(version, against))
        await connection.execute(begin, version.number, against.number)
        await connection.execute(_find_differing(pair), timeout=None)


async def _relations(connection: Connection, schema: str, like: str) -> dict[str, str]:
    """Table to SQL of what a version has of it, with the columns that another one has."""
    missing: dict[str, dict[str, str]] = {table.name: {} for table in TABLES}
    for row in await connection.fetch(MISSING, schema, like, list(missing)):
        missing[row["table_name"]][row["name"]] = row["type"]
    return {table.name: _relation(schema, table, missing[table.name]) for table in TABLES}


def _relation(schema: str, table: Table, missing: Mapping[str, str]) -> str:
    if not missing:
        return f"{schema}.{table.name}"
    columns = [f"null::{missing[name]} as {name}" if name in missing else name for name in table.columns]
    rows = f"from {schema}.{table.name}" if len(missing) < len(table.columns) else "where false"
    return f"(select {', '.join(columns)} {rows})"


def _find_differing(pair: Pair) -> str:
    schema = pair.version.schema
    return FIND_DIFFERING.format(
        schema=schema,
        size=settings.REPLAY_DIFF_JOURNEYS,
        differing=" union ".join(_differing_in(table, schema, pair.earlier[table.name]) for table in TABLES),
        left_out=_left_out(pair.version, pair.against),
    )


def _left_out(version: Found, against: Found) -> str:
    """SQL of the journeys that cannot be compared now."""
    behind = [STALE] if version.as_known_at is None else []
    behind += [MOVED] if version.status == "built" else []
    return " union ".join(
        [
            *(each.format(schema=version.schema) for each in behind),
            STALE.format(schema=against.schema),
            PARKED.format(numbers=f"{version.number}, {against.number}"),
        ]
    )


def _differing_in(table: Table, schema: str, earlier: str) -> str:
    columns = [name for name in table.columns if name not in UNCOMPARED and name not in table.key]
    return DIFFERING_IN.format(
        schema=schema,
        earlier=earlier,
        table=table.name,
        key=", ".join(table.key),
        ones=", ".join(["one.journey_id", *(f"one.{name}" for name in columns)]),
        others=", ".join(["other.journey_id", *(f"other.{name}" for name in columns)]),
    )


async def explain(pair: Pair, task: Task) -> Done:
    """Compares the rows of some journeys and says why they differ."""
    stopwatch = Stopwatch()
    async with session(pair.addresses.postgres_dsn) as connection:
        async with connection.transaction(isolation="repeatable_read"):
            journeys = await _journeys(connection, pair, task.number)
            if await lock_unit(connection, pair.version_no, task):
                await _explain(connection, pair, journeys)
                await finish_unit(connection, pair.version_no, task, stopwatch.done(len(journeys)))
        return stopwatch.done(len(journeys))


async def _journeys(connection: Connection, pair: Pair, unit: int) -> list[str]:
    """The journeys of a unit that can be compared now."""
    found = [id for (id,) in await connection.fetch(OF_UNIT.format(schema=pair.version.schema), unit)]
    query = BEHIND.format(left_out=_left_out(pair.version, pair.against))
    behind = {id for (id,) in await connection.fetch(query, found)}
    return [id for id in found if id not in behind]


async def _explain(connection: Connection, pair: Pair, journeys: Sequence[str]) -> None:
    today = {table.name: f"{pair.version.schema}.{table.name}" for table in TABLES}
    before = await _read(connection, pair.earlier, journeys)
    after = await _read(connection, today, journeys)
    found = {id: differences(before[id], after[id]) for id in journeys}
    async with Registry(pair.addresses.registry_url) as registry:
        if pair.version.is_verification:
            why = await first_events(connection, Decoding(registry), pair.version, found)
        else:
            reasons = await Reasons.between(connection, pair.against, pair.version)
            why = await reasons.of(connection, Decoding(registry), found, before)
    rows = [
        _row(id, each, why[id, each.table, each.key], pair.personal)
        for id, some in found.items()
        for each in some
    ]
    await connection.executemany(INSERT.format(schema=pair.version.schema), rows)


async def _read(
    connection: Connection, relations: Mapping[str, str], journeys: Sequence[str]
) -> dict[str, Keyed]:
    """The rows of journeys, each keyed apart."""
    rows: dict[str, dict[str, list[tuple[object, ...]]]] = {id: {} for id in journeys}
    for table in TABLES:
        place = table.columns.index("journey_id")
        query = READ.format(columns=", ".join(table.columns), relation=relations[table.name])
        for row in await connection.fetch(query, journeys):
            rows[row[place]].setdefault(table.name, []).append(tuple(row))
    return {id: keyed(some) for id, some in rows.items()}


async def _personal(connection: Connection, *versions: Found) -> frozenset[str]:
    timelines = [await timeline_of(connection, each) for each in versions]
    own = (entry.definition.personal for timeline in timelines for entry in entries_of(timeline))
    return (await personal_names(connection)).union(*own)


def _row(
    journey_id: str, found: Difference, why: Sequence[str], personal: Collection[str]
) -> tuple[object, ...]:
    before, after = found.before, found.after
    if found.table == attribute_change.TABLE.name:
        before, after = _without_value(before, personal), _without_value(after, personal)
    return (
        found.table,
        journey_id,
        _encoded(found.key),
        found.kind,
        found.columns,
        None if before is None else _encoded(before),
        None if after is None else _encoded(after),
        why,
    )


def _without_value(values: Values | None, personal: Collection[str]) -> Values | None:
    """What was said of an attribute, without the value if that is personal."""
    if values is None or values["name"] not in personal:
        return values
    return values | {"value": None, "number_value": None}


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()
