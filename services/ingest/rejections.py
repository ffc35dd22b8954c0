"""What a publisher's records on the topics were refused for: `GET /v1/rejections`.

Promises: a key sees the rejections of its source alone, oldest first, with a cursor to read on from. Leaves
reading them to `services.rejections`.
"""

from collections.abc import Mapping

from schemas.instants import instant_of
from schemas.records import Micros
from services.ingest.answers import NotTaken, away
from services.rejections import Page, read_page
from services.store.keys import Key
from services.store.pool import PASSING, session

MAX_CURSOR = 2**63 - 1


async def read(dsn: str, key: Key, query: Mapping[str, str]) -> Page:
    """The page that a query asks for. Raises NotTaken 400, and 503 while Postgres is away."""
    since, after = _since(query.get("since")), _cursor(query.get("after", "0"))
    try:
        async with session(dsn) as connection:
            return await read_page(connection, after=after, since=since, source=key.source)
    except PASSING:
        raise away(["postgres"]) from None


def _since(given: str | None) -> Micros | None:
    try:
        return None if given is None else instant_of(given)
    except ValueError as error:
        detail = f"since is {given!r:.60}: {error}, expected an instant such as 2026-03-01T09:30:00Z"
        raise NotTaken(400, "Bad query", detail) from None


def _cursor(given: str) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) < 20 and int(given) <= MAX_CURSOR):
        raise NotTaken(400, "Bad query", f"after is {given[:50]!r}, expected the cursor of an earlier page")
    return int(given)
