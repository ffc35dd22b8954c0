"""Keys of the HTTP door: who may send what.

Promises: a key is shown once, when it is made; Postgres has its SHA-256, which suffices for 256 random bits.
Leaves judging requests and events to `services.ingest`.
"""

import hashlib
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from asyncpg import Record as Row

from schemas.records import TOPIC_OF, Micros
from services.store.pool import Connection

PREFIX = "leadlog_"
"""Every key begins with it, so that one in a log or a repository is recognised."""

COLUMNS = "key_id, key_hash, source, records, may_import, created_at, valid_until, last_used_at"

KEYS = f"select {COLUMNS} from ops.api_key order by created_at, key_id"

PUT = f"""
insert into ops.api_key (key_id, key_hash, source, records, may_import)
values ($1, $2, $3, $4, $5)
on conflict (key_id) do nothing
returning {COLUMNS}
"""

END = f"""
update ops.api_key
set valid_until = least(valid_until, now() + make_interval(secs => $2))
where key_id = $1 and (valid_until is null or valid_until > now())
returning {COLUMNS}
"""

USED = """
update ops.api_key set last_used_at = now()
where key_id = any($1) and (last_used_at is null or last_used_at < now() - interval '1 minute')
"""


class Key(NamedTuple):
    """A key without the key itself; instants are microseconds."""

    key_id: str
    key_hash: bytes
    source: str | None
    """None = any."""
    records: frozenset[str]
    may_import: bool
    created_at: Micros
    valid_until: Micros | None
    last_used_at: Micros | None


class Unknown(LookupError):
    """No key in force has this id."""


def new_secret() -> str:
    """A key: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """By which a key is looked up."""
    return hashlib.sha256(secret.encode()).digest()


def records_of(names: Iterable[str]) -> list[str]:
    """Record names, in the order of the contract, of record and topic names. Raises ValueError."""
    wanted = set(names)
    known = {*TOPIC_OF, *TOPIC_OF.values()}
    if wrong := wanted - known:
        raise ValueError(f"no record and no topic is called {', '.join(sorted(wrong))}")
    return [record for record, topic in TOPIC_OF.items() if wanted & {record, topic}]


async def read_keys(connection: Connection) -> list[Key]:
    """All keys, also those that have ended."""
    return [_key(row) for row in await connection.fetch(KEYS)]


async def put_key(
    connection: Connection, secret: str, source: str | None, records: Iterable[str], may_import: bool
) -> Key | None:
    """Let a key in for records or all records of topics; None when it is there already, in force or not.

    Raises ValueError for names that are neither.
    """
    digest = hash_of(secret)
    row = await connection.fetchrow(PUT, digest.hex()[:12], digest, source, records_of(records), may_import)
    return _key(row) if row else None


async def end_key(connection: Connection, key_id: str, after_seconds: float) -> Key:
    """Let a key end, now or after a while. Raises Unknown."""
    row = await connection.fetchrow(END, key_id, after_seconds)
    if row is None:
        raise Unknown(f"no key in force has the id {key_id!r}: `leadlog key list` shows them")
    return _key(row)


async def rotate_key(
    connection: Connection, key_id: str, secret: str, overlap_seconds: float
) -> tuple[Key, Key]:
    """Let a key in with the rights of another, which ends after the overlap if not before.

    Returns the old one and the new one. Raises Unknown.
    """
    async with connection.transaction():
        old = await end_key(connection, key_id, overlap_seconds)
        new = await put_key(connection, secret, old.source, old.records, old.may_import)
    assert new is not None, "a random key was there before"
    return old, new


async def note_use(connection: Connection, key_ids: Iterable[str]) -> None:
    """Keys were used just now."""
    await connection.execute(USED, list(key_ids))


def _key(row: Row) -> Key:
    return Key(**dict(row) | {"records": frozenset(row["records"])})
