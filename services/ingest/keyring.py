"""The keys in memory, and who a request is from.

Promises: a key that was revoked stops working, and one that was made starts to work, within the second in
which the keys are read again; a key that is not known is judged only after such a reading. Leaves
when to read to `lookout`, and the table to `services.store.keys`.
"""

import asyncio
import base64
import binascii
import time
from contextlib import ExitStack
from typing import Any

import asyncpg

from schemas.instants import rfc3339
from services.broker import ANSWER_SECONDS
from services.ingest.answers import NotTaken, away
from services.store.keys import Key, hash_of, note_use, read_keys
from services.store.pool import connect

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="leadlog", Basic realm="leadlog"'}


class Keyring:
    """All keys of the door. There are few: they are read whole."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[Any] | None = None
        self._keys: dict[bytes, Key] = {}
        self._used: set[str] = set()
        self._read = asyncio.Event()

    async def read(self) -> None:
        """Read all keys again and note which were used. Raises what Postgres does when it is away."""
        if self._connection is None:
            self._connection = await connect(self._dsn)
        used, self._used = self._used, set()
        with ExitStack() as otherwise:
            otherwise.callback(self.close)
            if used:
                await note_use(self._connection, used)
            self._keys = {key.key_hash: key for key in await read_keys(self._connection)}
            otherwise.pop_all()
        self._read.set()
        self._read = asyncio.Event()

    def close(self) -> None:
        """Drops the connection; the next reading opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def judge(self, authorization: str | None) -> Key:
        """The key of a request. Raises NotTaken 401, 403, and 503 when the keys cannot be read."""
        digest = hash_of(_secret(authorization))
        key = self._keys.get(digest) or await self._read_anew(digest)
        if key.valid_until is not None and key.valid_until <= time.time_ns() // 1000:
            ended = f"key {key.key_id} ended at {rfc3339(key.valid_until)}"
            detail = (
                f"{ended}: it was revoked, or replaced by another one; `leadlog key create` makes new ones"
            )
            raise NotTaken(403, "Key ended", detail)
        self._used.add(key.key_id)
        return key

    async def _read_anew(self, digest: bytes) -> Key:
        try:
            await asyncio.wait_for(self._read.wait(), ANSWER_SECONDS)
        except TimeoutError:
            raise away(["postgres"]) from None
        key = self._keys.get(digest)
        if key is None:
            raise _unauthorized("the key is not known")
        return key


def _secret(authorization: str | None) -> str:
    """The key in the header `Authorization`. Raises NotTaken 401."""
    scheme, _, given = (authorization or "").strip().partition(" ")
    match scheme.lower(), given.strip():
        case "bearer", secret if secret:
            return secret
        case "basic", encoded:
            return _user_name(encoded)
    raise _unauthorized("the request has no key")


def _user_name(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise _unauthorized("the header Authorization is no Basic authentication") from None


def _unauthorized(found: str) -> NotTaken:
    detail = (
        f"{found}, expected `Authorization: Bearer KEY`, or the key as user name of Basic authentication. "
        "`leadlog status` shows the key of a local stack, `leadlog key create` makes others"
    )
    return NotTaken(401, "No valid key", detail, CHALLENGE)
