"""Rows of views as a report shows them."""

from typing import Any

from schemas.instants import rfc3339
from services.store.pool import Connection

Rows = list[dict[str, Any]]
"""By column; instants are RFC 3339."""


async def read_shown(connection: Connection, query: str, *arguments: object) -> Rows:
    """What a query finds. Raises asyncpg.UndefinedTableError before the first version is promoted."""
    statement = await connection.prepare(query)
    instants = {each.name for each in statement.get_attributes() if each.type.name == "timestamptz"}
    return [
        {
            name: rfc3339(value) if name in instants and value is not None else value
            for name, value in row.items()
        }
        for row in await statement.fetch(*arguments)
    ]
