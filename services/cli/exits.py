"""How commands end: 0 done, 1 refused or different, 2 usage, 3 a server is away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import asyncpg
import click
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from services.registry import RegistryAway
from services.settings import NotRunning
from services.store.versions import NothingPromoted

REFUSED = 1
AWAY = 3

SERVER_AWAY = (
    NotRunning,
    RegistryAway,
    KafkaConnectionError,
    NodeNotReadyError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    ConnectionError,
)

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's work; a server that is away, or a log without a version, ends it with a hint."""
    try:
        return asyncio.run(work)
    except SERVER_AWAY as error:
        end(AWAY, f"{error}\nIs the stack running? `leadlog status` tells, `leadlog doctor` says what to do.")
    except (NothingPromoted, asyncpg.UndefinedTableError):
        end(REFUSED, "no definition is in force yet: `leadlog up` makes the first version")


def end(code: int, message: str) -> NoReturn:
    """Ends the command with a message on standard error."""
    click.echo(f"leadlog: {message}", err=True)
    raise SystemExit(code)
