"""Projection versions: one schema each, a definition timeline plus the code that folds it.

Promises: a version's tables are the tables of `projections.journey.TABLES` and one row of folded state per
journey. Leaves their rows to `feeding`, and who may see which version to `ops.version` and the views.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from projections import definition, stage_visit
from projections.agreement.standing import schedules
from projections.journey import TABLES
from projections.rules import BEGINNING, Rules
from projections.table import table
from schemas.records import Micros
from services.store.calendars import LAID_OUT, write_calendars
from services.store.definition_facts import definition_facts
from services.store.pool import Connection
from services.store.promoted import promoted_views
from services.store.stages import STAGE, write_stages
from services.store.timeline import (
    TimelineEntry,
    calendar_facts,
    parse_timeline,
    rules_of,
    timeline_json,
    with_entries,
)
from services.store.views import replace_views

JOURNEY = table("""
create table journey (
    journey_id text collate "C" not null,
    revision bigint not null,
    reference_revision bigint not null,
    events integer not null,
    is_stale boolean not null default false,
    state bytea,
    primary key (journey_id)
) with (fillfactor = 70)
""")
"""The folded state of each journey, beside its rows."""

SETTINGS = """
alter table journey alter column state set storage external;
comment on table journey is 'The folded state of a journey and the revisions of the log that it has folded.';
"""

INDEXES = """
create index if not exists journey_stale on journey (journey_id) where is_stale;
create index if not exists journey_reference on journey (reference_revision);
create index if not exists opportunity_deal on opportunity (opportunity_id);
create index if not exists sla_clock_due on sla_clock (due_at) where stopped_at is null;
create index if not exists sla_warning_at on sla_warning (warn_at);
"""

VISITS = stage_visit.TABLE.name
SHOWN = [*(table.name for table in TABLES if table.name != VISITS), VISITS, JOURNEY.name, *LAID_OUT, STAGE]
"""The tables of a version that views of `bi` read, roughly in the order in which they name them: a reader and
a switch that lock in the same order do not wait for each other."""

PROMOTED = """
select version_no, schema_name, label, timeline, promoted_at from ops.version where status = 'promoted'
"""

BEGUN = """
select schema_name, created_at, timeline, reference_revision < revision as has_moved
from ops.version left join ops.replay using (version_no), log.reference_revision
where version_no = $1
"""
OWN_TIMELINE = "select schema_name, timeline::text from ops.version where version_no = $1 for update"
SET_TIMELINE = "update ops.version set timeline = $2, label = $3 where version_no = $1"

BEHIND = "update {schema}.journey set reference_revision = -1"
"""Before any revision: the refold loop takes all of them up, and the live path goes on from none."""

MARK_STALE = """
insert into {schema}.journey (journey_id, revision, reference_revision, events, is_stale)
select id, 0, 0, 0, true from unnest($1::text[]) id
on conflict (journey_id) do update set is_stale = true
"""

MARK_GONE_STALE = "update {schema}.journey set is_stale = true where journey_id = any($1) and not is_stale"

COUNT_OUTDATED = """
select count(*) from {schema}.journey
where not is_stale and reference_revision < coalesce($2, (select revision from log.reference_revision))
  and not exists (
    select from ops.parked where parked.version_no = $1 and parked.journey_id = journey.journey_id
  )
"""
# Two counts, since each has an index: an `or` of both reads every journey.
COUNT_STALE = f"select (select count(*) from {{schema}}.journey where is_stale) + ({COUNT_OUTDATED})"


@cache
def code_version() -> str:
    """Names the code that folds: a hash over the sources of `projections` and `schemas`, but not of
    `projections.agreement`, which folds nothing."""
    folders = [resources.files(package) for package in ("projections", "schemas")]
    files = [sorted(folder.iterdir(), key=lambda each: each.name) for folder in folders]
    return hash_of(each for found in files for each in found if each.name.endswith(".py"))


def hash_of(files: Iterable[Traversable]) -> str:
    """A short name of what these files say, in this order."""
    digest = hashlib.blake2b(digest_size=6)
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


class NothingPromoted(LookupError):
    """No version is promoted yet: nobody has said what the events mean."""

    def __init__(self) -> None:
        super().__init__("no definition is in force yet: `leadlog up` makes the first version")


class Promoted(NamedTuple):
    """The version that BI reads. `promoted_at` in microseconds."""

    version_no: int
    schema_name: str
    label: str
    timeline: list[TimelineEntry]
    promoted_at: Micros

    def in_force(self, at: Micros) -> definition.Definition:
        """The definition of its timeline that counts at an instant."""
        return rules_of(self.timeline, ()).at(at)


async def promoted_version(connection: Connection) -> Promoted:
    """The version that BI reads. Raises NothingPromoted before the first."""
    row = await connection.fetchrow(PROMOTED)
    if row is None:
        raise NothingPromoted
    return Promoted(**dict(row) | {"timeline": parse_timeline(row["timeline"])})


OTHER_RELEASE = (
    "the version that BI reads is of another release, so this one adds nothing to it: reports and alerts "
    "stand still, and the page may not work"
)
BUILD_AGAIN = (
    "`leadlog replay run` builds its definition by this release and says what differs; then "
    "`leadlog replay promote VERSION`"
)
"""The way out of it."""


async def is_of_other_release(connection: Connection) -> bool:
    """Whether other code than this feeds the version that BI reads."""
    of_others = "select exists (select from ops.version where status = 'promoted' and code_version <> $1)"
    return bool(await connection.fetchval(of_others, code_version()))


async def create_version(connection: Connection, timeline: Sequence[TimelineEntry]) -> int:
    """Makes the schema and the empty tables of a new version; returns its number."""
    tables = ";\n".join([JOURNEY.sql, *(table.sql for table in TABLES), SETTINGS, INDEXES])
    return await make_version(connection, timeline, tables)


async def make_version(connection: Connection, timeline: Sequence[TimelineEntry], tables: str) -> int:
    """Makes the schema of a new version, with what this SQL makes in it; returns its number."""
    rules = rules_of(timeline, await calendar_facts(connection))
    number: int = await connection.fetchval("select coalesce(max(version_no), 0) + 1 from ops.version")
    schema = f"v{number:04d}"
    await connection.execute(
        f"create schema {schema}; set local search_path = {schema}; {tables}; reset search_path"
    )
    await connection.execute(
        "insert into ops.version (version_no, schema_name, label, status, code_version, timeline) "
        "values ($1, $2, $3, $4, $5, $6)",
        *(number, schema, rules.label, "building", code_version(), timeline_json(timeline)),
    )
    await lay_out(connection, schema, rules)
    return number


async def lay_out(connection: Connection, schema: str, rules: Rules) -> None:
    """Writes what the views read of the rules themselves: the stages and the open hours of a version."""
    await write_calendars(connection, schema, rules)
    await write_stages(connection, schema, rules)


async def change_timelines(
    connection: Connection, gone: Sequence[TimelineEntry], fresh: Sequence[TimelineEntry]
) -> None:
    """Lets definitions count from their dates on, and others no longer, in every version that is fed; those
    to come `adopt_facts`.

    In the caller's transaction, which holds the reference revision and counts it up: every journey is folded
    again then, since its state kept no touches for another definition, and its rows name the timeline.
    """
    for row in await connection.fetch(
        "select version_no from ops.version where status in ('fed', 'promoted')"
    ):
        await _extend(connection, row["version_no"], fresh, gone)


async def adopt_facts(connection: Connection, version_no: int) -> None:
    """Lets a version that is to join those fed have the open hours of now, and what counts from a date after
    it was begun.

    That was agreed on for the log, not for one version. All of its journeys are behind then; no other version
    is. In the caller's transaction.
    """
    row = await connection.fetchrow(BEGUN, version_no)
    assert row is not None
    schema, begun = row["schema_name"], row["created_at"]
    own, dates = parse_timeline(row["timeline"]), await dates_after(connection, begun)
    gone = [each for each in own if (each.valid_from or BEGINNING) > begun and each not in dates]
    if await _extend(connection, version_no, dates, gone):
        await connection.execute(BEHIND.format(schema=schema), timeout=None)
    elif row["has_moved"]:
        await lay_out(connection, schema, rules_of(own, await calendar_facts(connection)))


async def dates_after(connection: Connection, instant: Micros) -> list[TimelineEntry]:
    """What was agreed on to count from a date after an instant on."""
    agreed = schedules(await definition_facts(connection))
    return [TimelineEntry(date, agreed[date].body) for date in sorted(agreed) if date > instant]


async def _extend(
    connection: Connection,
    version_no: int,
    entries: Sequence[TimelineEntry],
    gone: Collection[TimelineEntry] = (),
) -> bool:
    """Adds to a version's timeline, less what is gone; returns whether it differs then."""
    row = await connection.fetchrow(OWN_TIMELINE, version_no)
    assert row is not None
    own = parse_timeline(row["timeline"])
    timeline = with_entries([each for each in own if each not in gone], entries)
    if timeline == own:
        return False
    rules = rules_of(timeline, await calendar_facts(connection))
    await connection.execute(SET_TIMELINE, version_no, timeline_json(timeline), rules.label)
    await lay_out(connection, row["schema_name"], rules)
    return True


async def leave_behind(
    connection: Connection, schema: str, journeys: Collection[str], gone: Collection[str]
) -> None:
    """Marks what changed of a version that other code feeds: its own refold loop brings that up."""
    await connection.execute(MARK_STALE.format(schema=schema), sorted(journeys))
    await connection.execute(MARK_GONE_STALE.format(schema=schema), sorted(gone))


async def count_stale(connection: Connection, schema: str, version_no: int) -> int:
    """Journeys of a version that are behind the log, without parked ones."""
    stale: int = await connection.fetchval(COUNT_STALE.format(schema=schema), version_no, None)
    return stale


async def count_outdated(connection: Connection, schema: str, version_no: int, revision: int) -> int:
    """Those of them that are behind only because of reference facts, of those up to a revision."""
    outdated: int = await connection.fetchval(COUNT_OUTDATED.format(schema=schema), version_no, revision)
    return outdated


async def promote(connection: Connection, version_no: int) -> None:
    """Makes a version the one that BI reads. In the caller's transaction, which holds the feeding lock."""
    await connection.execute("update ops.version set status = 'fed' where status = 'promoted'")
    schema = await connection.fetchval(
        "update ops.version set status = 'promoted', promoted_at = now() where version_no = $1 "
        "returning schema_name",
        version_no,
    )
    await show(connection, schema)


async def show(connection: Connection, schema: str) -> None:
    """Lets BI read the tables of this schema by the views of this release. In the caller's transaction."""
    await replace_views(connection, await promoted_views(connection, schema, SHOWN))
