"""How commands end: 0 done, 1 refused or different, 2 usage, 3 a server is away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import asyncpg
import click
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from services.registry import RegistryAway
from services.settings import NotRunning

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

AWAY_HINT = "Is the stack running? `leadlog status` tells, `leadlog doctor` says what to do."

Result = TypeVar("Result")


class Kindly(click.Group):
    """Ends a command that finds a server away with a sentence and its exit code, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has gone
        except SERVER_AWAY as error:
            end(
                AWAY,
                f"{error}\nIs the stack running? `leadlog status` tells, `leadlog doctor` says what to do.",
            )


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's work in a loop of its own."""
    return asyncio.run(work)


def end(code: int, message: str) -> NoReturn:
    """Ends the command with a message on standard error."""
    click.echo(f"leadlog: {message}", err=True)
    raise SystemExit(code)
