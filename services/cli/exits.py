"""How commands end: 0 done, 1 refused or different, 2 usage, 3 a server is away.

Promises: what a person can mend ends a command with a sentence that says so. A traceback is a defect.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

from services import settings
from services.store.pool import Connection, session

REFUSED = 1
USAGE = 2
AWAY = 3

Result = TypeVar("Result")


class Kindly(click.Group):
    """Tells what a person can mend in a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # they say themselves how a command ends, or whoever read our output has gone
        except Exception as error:  # what there is no sentence for goes on as it came
            from services.cli.remedies import told  # noqa: PLC0415 (it knows the errors of everything)

            if (said := told(error)) is None:
                raise
            end(*said)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's work in a loop of its own."""
    with kafka_unheard():
        return asyncio.run(work)


@contextmanager
def kafka_unheard() -> Iterator[None]:
    """What the library says of a broker that is away is raised too, and told by us."""
    library = logging.getLogger("aiokafka")
    before = library.level
    library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        library.setLevel(before)


async def asking(question: Callable[[Connection], Awaitable[Result]]) -> Result:
    """What Postgres answers to a question, on a connection of its own."""
    async with session(settings.addresses().postgres_dsn) as connection:
        return await question(connection)


def ask(question: Callable[[Connection], Awaitable[Result]]) -> Result:
    """The same, in a loop of its own."""
    return run(asking(question))


def end(code: int, message: str) -> NoReturn:
    """Ends the command with a message on standard error."""
    click.echo(f"leadlog: {message}", err=True)
    raise SystemExit(code)
