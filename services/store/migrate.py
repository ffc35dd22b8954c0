"""Applies plain SQL migrations in the order of their names, each once, safe to run by several at the same
time."""

from pathlib import Path

from services.store import locks
from services.store.pool import session

HISTORY = """
create schema if not exists ops;
create table if not exists ops.migration (
  name text primary key,
  applied_at timestamptz not null default now()
);
"""


async def migrate(dsn: str, folder: Path) -> list[str]:
    """Applies what is missing of `folder/*.sql`, each file in a transaction; returns the names applied."""
    files = [(file.name, file.read_text()) for file in sorted(folder.glob("*.sql"))]  # noqa: ASYNC240 (a few kilobytes)
    async with session(dsn) as connection:
        await connection.execute("select pg_advisory_lock($1)", locks.MIGRATION)
        await connection.execute(HISTORY)
        done = {row["name"] for row in await connection.fetch("select name from ops.migration")}
        missing = [(name, sql) for name, sql in files if name not in done]
        for name, sql in missing:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute("insert into ops.migration (name) values ($1)", name)
        return [name for name, _ in missing]
