"""The versions that are fed, and how their rows are written: what differs, and nothing else.

Promises: the rows of a version that is fed change only through `write_rows`. Leaves making versions, and who
reads which, to `versions`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from projections.journey import TABLES, Rows
from projections.rules import Rules
from projections.table import Row, Table
from services.store.pool import Connection, copy_in
from services.store.timeline import calendar_facts, parse_timeline, rules_of
from services.store.versions import code_version


@dataclass(frozen=True)
class Version:
    """A version that is fed, with its rules as of a reference revision."""

    number: int
    schema: str
    is_promoted: bool
    rules: Rules
    reference_revision: int
    tables: Mapping[str, "Writer"]


class Writer(NamedTuple):
    """The statements that keep one projection table, for one version. Every key starts with the journey."""

    columns: tuple[str, ...]
    update: str
    delete: str
    read: str
    key: Callable[[Row], Row]
    """Of a row."""


def writer(schema: str, table: Table) -> Writer:
    """Statements for a table whose rows are tuples in the order of its columns."""
    target, names = f"{schema}.{table.name}", ", ".join(table.columns)
    others = [name for name in table.columns if name not in table.key]
    places = {name: f"${n + 1}" for n, name in enumerate(table.columns)}
    return Writer(
        columns=table.columns,
        update=f"update {target} set {', '.join(f'{name} = {places[name]}' for name in others)} "
        f"where {' and '.join(f'{name} = {places[name]}' for name in table.key)}",
        delete=f"delete from {target} "
        f"where {' and '.join(f'{name} = ${n + 1}' for n, name in enumerate(table.key))}",
        read=f"select {names} from {target} where journey_id = any($1)",
        key=_key_of(tuple(table.columns.index(name) for name in table.key)),
    )


def _key_of(places: Sequence[int]) -> Callable[[Row], Row]:
    if len(places) == 1:
        return itemgetter(slice(places[0], places[0] + 1))  # a row of one, not the value alone
    return itemgetter(*places)


def writers(schema: str) -> dict[str, Writer]:
    """The writer of every projection table of a version."""
    return {table.name: writer(schema, table) for table in TABLES}


Key = tuple[object, ...]


class Fed:
    """The versions that this code feeds; parsed again only when they or the reference facts change."""

    def __init__(self, only: int | None = None) -> None:
        """All that are fed, or only this version, which need not be fed yet."""
        self.others: list[str] = []
        """Schemas of the versions that only other code feeds, as of the last load."""
        self._only = only
        self._versions: dict[Key, Version] = {}

    async def load(self, connection: Connection) -> list[Version]:
        """The versions fed now; who writes by them holds the feeding lock and the reference revision."""
        rows = await connection.fetch(
            "select version_no, created_at, schema_name, status, timeline, revision, "
            "reference_revision.xmin as learned_by, code_version = $1 as is_our_code "
            "from ops.version, log.reference_revision "
            "where case when $2::integer is null then status in ('fed', 'promoted') "
            "else version_no = $2 end order by version_no",
            *(code_version(), self._only),
        )
        self.others = [row["schema_name"] for row in rows if not row["is_our_code"]]
        ours = [row for row in rows if row["is_our_code"]]
        self._versions = dict([await self._version(connection, row) for row in ours])
        return list(self._versions.values())

    async def _version(self, connection: Connection, row: Mapping[str, Any]) -> tuple[Key, Version]:
        # Numbers begin again in a database that was filled anew meanwhile, and a revision is another one when
        # the transaction that learned it was rolled back.
        key = (row["version_no"], row["created_at"], row["timeline"], row["revision"], row["learned_by"])
        promoted = row["status"] == "promoted"
        known = self._versions.get(key)
        if known is None or known.is_promoted != promoted:
            timeline = parse_timeline(row["timeline"])
            known = Version(
                number=row["version_no"],
                schema=row["schema_name"],
                is_promoted=promoted,
                rules=known.rules if known else rules_of(timeline, await calendar_facts(connection)),
                reference_revision=row["revision"],
                tables=writers(row["schema_name"]),
            )
        return key, known


async def read_rows(
    connection: Connection, version: Version, journeys: Sequence[str], tables: Iterable[Table]
) -> Rows:
    """The rows that some tables hold for some journeys."""
    return {
        name: [tuple(row) for row in await connection.fetch(version.tables[name].read, journeys)]
        for name, *_ in tables
    }


async def write_rows(connection: Connection, version: Version, before: Rows, after: Rows) -> int:
    """Turns the stored rows `before` into `after`, touching only what differs; returns the rows written.

    `before` has every stored row of a key in `after`. Raises asyncpg.UniqueViolationError otherwise.
    """
    written = 0
    for name, writer in version.tables.items():
        old, new = before.get(name, []), after.get(name, [])
        if old == new:
            continue
        known = dict(zip(map(writer.key, old), old, strict=True))
        keys = dict(zip(map(writer.key, new), new, strict=True))
        gone = [key for key in known if key not in keys]
        fresh = [row for key, row in keys.items() if key not in known]
        changed = [row for key, row in keys.items() if key in known and known[key] != row]
        if gone:
            await connection.executemany(writer.delete, gone)
        if changed:
            await connection.executemany(writer.update, changed)
        if fresh:
            await copy_in(connection, version.schema, name, writer.columns, fresh)
        written += len(gone) + len(changed) + len(fresh)
    return written
