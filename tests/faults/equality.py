"""Two databases that must say the same: every row and column of the log and of every version.

Left out is only what counts work and not content: how often a journey was touched, when a row was written,
how far ahead calendars were laid out from that moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from services.store.pool import Connection

WORK_COLUMNS = {
    ("journey", "revision"),
    ("journey", "reference_revision"),
    ("subject", "revision"),
    ("subject", "rewritten_revision"),
    ("reject", "rejected_at"),
    ("reject", "reject_no"),
    ("event", "appended_at"),
    ("event_copy", "appended_at"),
    ("calendar", "covers_from"),
    ("calendar", "covers_until"),
}
"""(table, column): counters and times of writing, by us or by the broker."""
WORK_TABLES = {"reference_revision", "calendar_window"}
ROWS = {"event": "content_hash is not null"}
"""Ids that were only named have a row too, as long as the naming copy counted."""
LISTED = 5
"""Differences of a table that are named one by one."""

TABLES = """
select tablename from pg_tables where schemaname = $1 order by tablename
"""
COLUMNS = """
select column_name from information_schema.columns where table_schema = $1 and table_name = $2
order by ordinal_position
"""
KEY = """
select attname from pg_index
join pg_attribute on attrelid = indrelid and attnum = any(indkey)
where indisprimary and indrelid = $1::regclass order by array_position(indkey::int2[], attnum)
"""

MOST_TEXT = 200
"""Characters of a value that are shown."""

Row = tuple[Any, ...]


class Compared(NamedTuple):
    """One table of both databases."""

    table: str
    rows: int
    """In the first."""
    differences: list[str]
    """Some of them in words; empty when equal."""


async def compare(one: Connection, other: Connection, schemas: Sequence[str]) -> list[Compared]:
    """Every table of these schemas, row by row."""
    found = []
    for schema in schemas:
        tables = [row["tablename"] for row in await one.fetch(TABLES, schema)]
        assert tables == [row["tablename"] for row in await other.fetch(TABLES, schema)]
        found += [await _table(one, other, schema, name) for name in tables if name not in WORK_TABLES]
    return found


async def _table(one: Connection, other: Connection, schema: str, table: str) -> Compared:
    key = [row["attname"] for row in await one.fetch(KEY, f"{schema}.{table}")]
    columns = [row["column_name"] for row in await one.fetch(COLUMNS, schema, table)]
    others = [name for name in columns if name not in key and (table, name) not in WORK_COLUMNS]
    names = [f'"{name}"' for name in (*key, *others)]
    query = f"select {', '.join(names)} from {schema}.{table} where {ROWS.get(table, 'true')}"
    query += f" order by {', '.join(names[: len(key)])}"
    compared = Compared(f"{schema}.{table}", 0, [])
    rows = differences = 0
    async with one.transaction(), other.transaction():
        async for left, right in _pairs(one, other, query, len(key)):
            rows += left is not None
            if left != right:
                differences += 1
                if differences <= LISTED:
                    compared.differences.append(_told([*key, *others], left, right))
    if differences > LISTED:
        compared.differences.append(f"and {differences - LISTED} more")
    return compared._replace(rows=rows)


async def _pairs(
    one: Connection, other: Connection, query: str, key: int
) -> AsyncIterator[tuple[Row | None, Row | None]]:
    """Rows of both by their key; None where one has no such row."""
    lefts, rights = _rows(one, query), _rows(other, query)
    left, right = await anext(lefts, None), await anext(rights, None)
    while left is not None or right is not None:
        first = right is None or (left is not None and left[:key] <= right[:key])
        second = left is None or (right is not None and right[:key] <= left[:key])
        yield left if first else None, right if second else None
        left = await anext(lefts, None) if first else left
        right = await anext(rights, None) if second else right


async def _rows(connection: Connection, query: str) -> AsyncIterator[Row]:
    async for row in connection.cursor(query, prefetch=1_000):
        yield tuple(row)


def _told(names: Sequence[str], left: Row | None, right: Row | None) -> str:
    if left is None or right is None:
        return f"only in the {'second' if left is None else 'first'}: {_short(left or right)}"
    unequal = [
        f"{name} {_short(a)} != {_short(b)}" for name, a, b in zip(names, left, right, strict=True) if a != b
    ]
    return f"{left[:2]}: {', '.join(unequal)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}.."
