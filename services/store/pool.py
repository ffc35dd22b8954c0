"""Connections to Postgres whose instants are integers, microseconds since 1970, as everywhere in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.exceptions import _base

from services import settings
from services.environment import WrongSetting
from services.plain_words import plainly

DATA_ERRORS = (asyncpg.DataError, _base.DataError)
"""Values that Postgres refuses, and values that the driver cannot even encode: trying again does not help."""
PASSING = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    ConnectionError,
    TimeoutError,
    OSError,
)
"""Errors of a server that is away, starting, stopping or full."""
POSTGRES_EPOCH = 946_684_800_000_000
"""2000-01-01T00:00:00Z in microseconds since 1970: the zero of Postgres' binary instants."""

REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    _base.ClientConfigurationError,
)
"""What a wrong address makes of the first call: a user, password or database that the server does not
know."""

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"


class PostgresAway(ConnectionError):
    """Postgres does not answer."""


@contextmanager
def _told(dsn: str) -> Iterator[None]:
    """Names the server in what connecting to it raises: WrongSetting, PostgresAway."""
    try:
        yield
    except REFUSALS as error:
        raise WrongSetting(
            f"Postgres at {_place(dsn)} lets nobody in: {error}. Check user, password and database in "
            "LEADLOG_POSTGRES_DSN (for `leadlog databases`: LEADLOG_SUPERUSER_DSN)"
        ) from error
    except PASSING as error:
        reason = plainly(error) if str(error) else f"no answer within {settings.POSTGRES_CONNECT_SECONDS} s"
        raise PostgresAway(f"Postgres at {_place(dsn)} does not answer: {reason}") from error


def _place(dsn: str) -> str:
    """Where a server is, without the password."""
    return dsn.rpartition("@")[2]


async def prepare(connection: asyncpg.Connection[Any]) -> None:
    """Makes `timestamptz` an integer of microseconds."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=lambda micros: (micros - POSTGRES_EPOCH,),
        decoder=lambda value: value[0] + POSTGRES_EPOCH,
        format="tuple",
    )


async def connect(dsn: str) -> asyncpg.Connection[Any]:
    """One connection, prepared. Raises PostgresAway, WrongSetting."""
    with _told(dsn):
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            dsn, timeout=settings.POSTGRES_CONNECT_SECONDS
        )
    await prepare(connection)
    return connection


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Such a connection for as long as it is needed. Raises WrongSetting, and PostgresAway, also when the
    server goes away meanwhile."""
    connection = await connect(dsn)
    try:
        yield connection
    except PostgresAway:
        raise
    except PASSING as error:
        if not connection.is_closed():
            raise
        raise PostgresAway(f"Postgres at {_place(dsn)} went away meanwhile") from error
    finally:
        await connection.close()


async def _as_it_is(connection: Any) -> None:
    """Nothing: whoever takes a connection leaves it as it was, and a reset is a round trip a batch."""


async def create_pool(dsn: str, *, size: int) -> asyncpg.Pool[Any]:
    """A pool of at most `size` prepared connections, created in the running loop. Raises PostgresAway,
    WrongSetting."""
    seconds = settings.POSTGRES_CONNECT_SECONDS
    with _told(dsn):
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            init=prepare,
            reset=_as_it_is,
            command_timeout=60,
            timeout=seconds,
        )


async def fetch_planned(connection: Connection, query: str, *arguments: object) -> list[asyncpg.Record]:
    """For tables that are empty for hours and then full: planned for what is there now. The plan that is kept
    of any other statement was made for no rows, and takes minutes for thousands."""
    statement = await connection.prepare(query)
    return await statement.fetch(*arguments)


async def copy_in(
    connection: Connection, schema: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Inserts new rows in bulk. Raises one of DATA_ERRORS, or UniqueViolationError where a key is there
    already."""
    try:
        await connection.copy_records_to_table(table, schema_name=schema, columns=columns, records=rows)
    except (TypeError, ValueError, OverflowError) as error:  # as the driver's codecs raise them
        raise _base.DataError(f"{schema}.{table}: {error}") from error
