"""The promoted version's tables under names that stay: schema `promoted`, which the views of `bi` read.

Promises: one plain view a table, with its columns in the order in which they first came, and `version`, the
version's own row: no reader, at whatever isolation, gets the name of one and the rows of another. A version
of an earlier release that lacks a column shows null there, and no rows of a table that it lacks, so that
rolling back to it takes nothing away from readers.
"""

import re
from collections import defaultdict

from services.store.pool import Connection

SCHEMA_NAME = re.compile(r"v\d{4,}")

COLUMNS = """
select class.relnamespace = 'promoted'::regnamespace as is_shown, class.relname, attribute.attname,
  format_type(attribute.atttypid, attribute.atttypmod)
    || coalesce(' collate ' || quote_ident(nullif(used.collname, 'default')), '') as type
from pg_class class
join pg_attribute attribute
  on attribute.attrelid = class.oid and attribute.attnum > 0 and not attribute.attisdropped
left join pg_collation used on used.oid = attribute.attcollation
where class.relname = any($2)
  and class.relnamespace in ('promoted'::regnamespace, (select oid from pg_namespace where nspname = $1))
order by class.relname, attribute.attnum
"""

VERSION = """
create or replace view promoted.version as select version_no, label from ops.version where schema_name = '{}';
"""

Columns = dict[str, str]
"""Name to type, in order."""


async def promoted_views(connection: Connection, schema: str, tables: list[str]) -> list[str]:
    """SQL of the views on the version in `schema` and its tables.

    Raises ValueError unless the schema is named like v0001.
    """
    if not SCHEMA_NAME.fullmatch(schema):
        raise ValueError(f"{schema!r} names no version: expected v and its number, for example v0001")
    shown: dict[str, Columns] = defaultdict(dict)
    there: dict[str, Columns] = defaultdict(dict)
    for row in await connection.fetch(COLUMNS, schema, tables):
        (shown if row["is_shown"] else there)[row["relname"]][row["attname"]] = row["type"]
    known = [table for table in tables if shown[table] or there[table]]
    views = [_view(table, f"{schema}.{table}", shown[table], there[table]) for table in known]
    return [*views, VERSION.format(schema)]


def _view(name: str, table: str, shown: Columns, there: Columns) -> str:
    columns = [
        column if column in there else f"null::{kind} as {column}" for column, kind in (shown | there).items()
    ]
    rows = f"from {table}" if there else "where false"
    return f"create or replace view promoted.{name} as\nselect {', '.join(columns)}\n{rows};"
