"""The versions that there are, and how one goes away.

Promises: `retire` takes nothing that BI reads or that is being built. Leaves making them to `build`.
"""

import shutil
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas.records import Micros
from services import settings
from services.replay.runs import Candidate, only_builder
from services.settings import Addresses
from services.store.locks import stop_feeding
from services.store.pool import Connection
from services.store.timeline import TimelineEntry, parse_timeline, with_entries
from services.store.versions import code_version, count_stale, dates_after, promoted_version

HAS_TABLES = "select exists (select from pg_namespace where nspname = $1)"

FIND = """
select version_no, schema_name, label, status, code_version, is_trial, as_known_at, is_verification
from ops.version where version_no = $1
"""

TABLES = "select tablename from pg_tables where schemaname = $1"

OVERVIEW = """
select
  version_no, label, status, is_trial, as_known_at, is_verification, code_version = $1 as is_our_code,
  created_at, built_at, promoted_at,
  work.*,
  (select count(*) from ops.parked where parked.version_no = version.version_no) as parked,
  (select sum(pg_total_relation_size(class.oid)) from pg_class as class
   where class.relnamespace = to_regnamespace(schema_name) and class.relkind = 'r')::bigint as bytes
from ops.version left join ops.replay using (version_no)
left join lateral (
  select unit.phase, count(finished_at) as units_finished, count(*) as units, sum(records)::bigint as records,
    extract(epoch from max(finished_at) - min(finished_at - seconds * interval '1 second'))::float8 as seconds
  from ops.replay_unit as unit
  where unit.version_no = version.version_no and unit.phase = (
    select phase from ops.replay_unit as next where next.version_no = version.version_no
    and finished_at is null order by array_position($2::text[], phase), unit_no limit 1
  )
  group by unit.phase
) as work on true
order by version_no
"""


READY = """
select version_no, created_at from ops.version
where status in ('built', 'fed') and is_trial = $1 and is_verification = $2 and as_known_at is null
order by version_no desc
"""

LEFT = "select version_no from ops.version where is_verification and status <> 'retired'"
NAMING = ("ops.parked", "ops.replay_unit", "ops.replay_diff", "ops.replay", "ops.version")
"""Tables with rows of a version that was built but never fed."""

PHASES = ("route", "read", "ids", "settle", "fold", "index", "diff")


async def timeline_of(connection: Connection, version: "Found") -> list[TimelineEntry]:
    """The definitions of a version."""
    text = await connection.fetchval(
        "select timeline::text from ops.version where version_no = $1", version.number
    )
    return parse_timeline(text)


class Refused(RuntimeError):
    """What was asked for is not possible as things stand; nothing was changed."""


INCOMPLETE = {
    "building": "is half built: the command that began it goes on with it",
    "retired": "is retired and its rows are gone: build its definition again",
}
"""Status to why nothing can be done with the rows of a version, and what can."""


class Found(NamedTuple):
    """A version as `ops.version` has it."""

    number: int
    schema: str
    label: str
    status: str
    code_version: str
    is_trial: bool
    as_known_at: Micros | None
    is_verification: bool

    def __str__(self) -> str:
        return f"version {self.number} ({self.label})"


async def find(connection: Connection, number: int) -> Found:
    """The version of this number. Raises Refused."""
    row = await connection.fetchrow(FIND, number)
    if row is None:
        raise Refused(f"there is no version {number}: `leadlog replay status` lists them")
    return Found(*row)


async def promoted(connection: Connection) -> Found:
    """The version that BI reads. Raises NothingPromoted."""
    return await find(connection, (await promoted_version(connection)).version_no)


async def overview(connection: Connection) -> list[dict[str, Any]]:
    """Every version with how far it is; `stale` is None where nothing is kept up."""
    rows = [dict(row) for row in await connection.fetch(OVERVIEW, code_version(), list(PHASES))]
    for row in rows:
        row["stale"] = None
        if row["status"] in ("fed", "promoted"):
            found = await find(connection, row["version_no"])
            row["stale"] = await count_stale(connection, found.schema, found.number)
    return rows


async def forget(connection: Connection, verification: Found) -> None:
    """Leaves nothing of a version built to be compared. In a transaction of whoever builds alone."""
    await _drop(connection, verification)
    for table in NAMING:
        await connection.execute(f"delete from {table} where version_no = $1", verification.number)


async def forget_verifications(connection: Connection, but: Candidate) -> None:
    """Forgets what an interrupted verification has left, unless it is this candidate's."""
    for row in await connection.fetch(LEFT):
        version = await find(connection, row["version_no"])
        if not but.is_verification or not await is_of(connection, version, but.timeline):
            async with connection.transaction():
                await forget(connection, version)


async def is_of(connection: Connection, version: Found, timeline: Sequence[TimelineEntry]) -> bool:
    """Whether a version was made by this code from these definitions."""
    own = await timeline_of(connection, version)
    return version.code_version == code_version() and own == list(timeline)


async def ready(connection: Connection, candidate: Candidate) -> int | None:
    """A version that is built already and not read, and is what a build of the candidate would come to; none
    of what was known then, since the log may have got more of it."""
    if candidate.as_known_at is not None:
        return None
    wanted = await _as_fed(connection, candidate, candidate.timeline, time.time_ns() // 1000)
    for row in await connection.fetch(READY, candidate.is_trial, candidate.is_verification):
        version = await find(connection, row["version_no"])
        own = await timeline_of(connection, version)
        if (
            version.code_version == code_version()
            and await _as_fed(connection, candidate, own, row["created_at"]) == wanted
        ):
            return version.number
    return None


async def _as_fed(
    connection: Connection, candidate: Candidate, timeline: Sequence[TimelineEntry], begun: Micros
) -> list[TimelineEntry]:
    """The timeline with the dates that a version begun then has once it is fed; a verification never is."""
    dates = [] if candidate.is_verification else await dates_after(connection, begun)
    return with_entries(timeline, dates)


async def retire(addresses: Addresses, number: int) -> None:
    """Drops a version's tables. Raises Refused, Busy."""
    async with only_builder(addresses.postgres_dsn) as connection:
        version = await find(connection, number)
        if version.status == "promoted":
            raise Refused(f"{version} is promoted: only a version that BI does not read can go")
        if not await connection.fetchval(HAS_TABLES, version.schema):
            raise Refused(f"{version} is {version.status} already: nothing of it is left")
        async with connection.transaction():
            await stop_feeding(connection)
            await connection.execute("delete from ops.parked where version_no = $1", number)
            await connection.execute(
                "update ops.version set status = 'retired' where version_no = $1", number
            )
        async with connection.transaction():  # a reader of a report may be waited for, by nobody else
            await _drop(connection, version)


async def _drop(connection: Connection, version: Found) -> None:
    """Tables, without `cascade`: a view that still reads the version must stop it; and what a build left."""
    rows = await connection.fetch(TABLES, version.schema)
    names = ", ".join(f"{version.schema}.{row['tablename']}" for row in rows)
    await connection.execute(f"drop table {names}; drop schema {version.schema}", timeout=None)
    shutil.rmtree(settings.state_folder() / "replay" / version.schema, ignore_errors=True)
