"""Applies plain SQL migrations in the order of their names, each once, safe to run by several at the same
time."""

from collections.abc import Iterable
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


class NewerDatabase(RuntimeError):
    """A newer release has made the database ready."""

    def __init__(self, unknown: Iterable[str]) -> None:
        super().__init__(
            f"the database is that of a newer release, which applied {', '.join(sorted(unknown))}: run that "
            "one. This one would add nothing to what BI reads, and cannot take columns from the views again"
        )


async def migrate(dsn: str, folder: Path) -> list[str]:
    """Applies what is missing of `folder/*.sql`, each file in a transaction; returns the names applied.

    Raises NewerDatabase.
    """
    files = [(file.name, file.read_text()) for file in sorted(folder.glob("*.sql"))]  # noqa: ASYNC240 (a few kilobytes)
    async with session(dsn) as connection:
        await connection.execute("select pg_advisory_lock($1)", locks.MIGRATION)
        await connection.execute(HISTORY)
        done = {row["name"] for row in await connection.fetch("select name from ops.migration")}
        if unknown := done - {name for name, _ in files}:
            raise NewerDatabase(unknown)
        missing = [(name, sql) for name, sql in files if name not in done]
        for name, sql in missing:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute("insert into ops.migration (name) values ($1)", name)
        return [name for name, _ in missing]
