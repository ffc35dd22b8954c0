"""The tables of a version that is being built: filled without keys and indexes, which are made afterwards."""

from projections.journey import TABLES
from projections.table import Table
from services.store.pool import Connection
from services.store.versions import INDEXES, JOURNEY, SETTINGS

BUILT = (JOURNEY, *TABLES)
"""Every table that a build fills."""

REVISION = """
create table revision (
  subject_id text collate "C" primary key,
  revision bigint not null
);
comment on table revision is 'Journeys and revisions in the log as of what is built.';
insert into revision select subject_id, revision from log.subject where subject_id = journey_id;
"""

HAS_KEY = "select exists (select from pg_index where indrelid = $1::text::regclass and indisprimary)"


def bare_tables() -> str:
    """SQL of the tables without keys."""
    return ";\n".join([*(_without_key(table) for table in BUILT), SETTINGS, REVISION])


def _without_key(table: Table) -> str:
    return table.sql.replace(f",\n    primary key ({', '.join(table.key)})", "")


async def add_key(connection: Connection, schema: str, table: Table) -> None:
    """Makes the key of a filled table, unless it is there, and its statistics."""
    name = f"{schema}.{table.name}"
    if not await connection.fetchval(HAS_KEY, name):
        await connection.execute(f"alter table {name} add primary key ({', '.join(table.key)})", timeout=None)
    await connection.execute(f"analyze {name}")


async def add_indexes(connection: Connection, schema: str) -> None:
    """Makes the other indexes."""
    async with connection.transaction():
        await connection.execute(f"set local search_path = {schema}; {INDEXES}; reset search_path")
