"""How commands end: 0 done, 1 refused or different, 2 usage, 3 a server is away.

Promises: what a person can mend (a server that is away, a wrong address, a full disk, a folder of somebody
else) ends a command with a sentence that says so. A traceback is a defect.
"""

import asyncio
import errno
import logging
import os
import pwd
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import asyncpg
import click
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
)

from projections.definition import DefinitionFaults
from schemas.faults import unstorable
from services import definitions, settings
from services.broker import WrongTopics
from services.daemon import PortTaken
from services.definitions import NoInstant, NotTaken
from services.deploy import AlreadyStarted
from services.environment import WrongSetting
from services.notifier.config import Faulty
from services.plain_words import plainly
from services.projector.delivery import OffsetGap
from services.publisher import ServerAway
from services.registry import RegistryAway, WrongIds
from services.replay import versions
from services.replay.runs import Busy
from services.replay.switch import Blocked
from services.settings import NotRunning
from services.store import keys
from services.store.migrate import NewerDatabase
from services.store.pool import DATA_ERRORS, Connection, session
from services.store.versions import NothingPromoted
from services.wait import OtherRelease
from services.wording import legible

REFUSED = 1
USAGE = 2
AWAY = 3

SERVER_AWAY = (
    RegistryAway,
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.DiskFullError,
    ConnectionError,
)
REFUSALS = (
    *(NothingPromoted, NewerDatabase, AlreadyStarted, WrongTopics, WrongIds, Faulty, PortTaken),
    *(definitions.Refused, DefinitionFaults, versions.Refused, Busy, Blocked, OffsetGap, OtherRelease),
    keys.Unknown,
)
SAID: dict[type[Exception], int] = {
    **dict.fromkeys((NotRunning, NotTaken, ServerAway), AWAY),
    **dict.fromkeys((WrongSetting, NoInstant), USAGE),
    **dict.fromkeys(REFUSALS, REFUSED),
}
"""Errors that say themselves what is wrong and what to do, to how they end a command: the first that fits."""
NOT_READY = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)
"""What a database makes of our queries that another release made, or nobody."""

DEPLOY = (
    "run `leadlog up`, or `leadlog deploy` where the servers are given, which also says whether the version "
    "that BI reads has to be built again"
)
RIGHTS = (
    "LEADLOG_POSTGRES_DSN has to name the owner of its database; for `leadlog databases`, "
    "LEADLOG_SUPERUSER_DSN a superuser"
)
ROOM = (
    "make room, or choose another folder by LEADLOG_STATE, LEADLOG_CACHE or TMPDIR; `leadlog doctor` shows "
    "how much is free"
)
FOLDER = "choose another folder by LEADLOG_STATE or LEADLOG_CACHE"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), ROOM),
    **dict.fromkeys((errno.EROFS, errno.ENOTDIR, errno.EEXIST), FOLDER),
}
OWNERS_ONLY = (errno.EACCES, errno.EPERM)

Result = TypeVar("Result")


class Kindly(click.Group):
    """Tells what a person can mend in a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except tuple(SAID) as error:
            end(next(code for kind, code in SAID.items() if isinstance(error, kind)), str(error))
        except NOT_READY as error:
            end(REFUSED, f"the database is not that of this release ({error}): {DEPLOY}")
        except DATA_ERRORS:
            strange = next(filter(unstorable, sys.argv), None)
            if strange is None:
                raise
            end(USAGE, f"{legible(strange)} is no text in UTF-8")
        except asyncpg.InsufficientPrivilegeError as error:
            end(REFUSED, f"Postgres refuses: {error}\n{RIGHTS}")
        except BrokenPipeError:
            raise  # whoever read our output has gone
        except SERVER_AWAY as error:
            hint = "Is the stack running? `leadlog status` tells, `leadlog doctor` says what to do."
            said = f"Kafka: {plainly(error)}" if isinstance(error, KafkaError) else plainly(error)
            end(AWAY, f"{said}\n{hint}")
        except sqlite3.OperationalError as error:
            end(REFUSED, f"temporary files: {error}: {ROOM}")
        except OSError as error:
            remedy = remedy_of(error)
            if remedy is None:
                raise
            end(REFUSED, f"{error.filename or 'writing'}: {error.strerror}: {remedy}")


def remedy_of(error: OSError) -> str | None:
    """What a person can do about trouble with a file; None when it is no such trouble."""
    if error.errno in OWNERS_ONLY and error.filename:
        owner = _name(_nearest(Path(error.filename)).stat().st_uid)
        return f"you are {_name(os.geteuid())}, it belongs to {owner}: run as that user, or {FOLDER}"
    return REMEDIES.get(error.errno or 0)


def _nearest(file: Path) -> Path:
    """The file, or the first folder above it that there is."""
    return next(path for path in (file, *file.parents) if os.path.lexists(path))


def _name(uid: int) -> str:
    """A user's name; those of containers often have none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's work in a loop of its own."""
    # What the library says of a broker that is away is raised too, and told by us.
    library = logging.getLogger("aiokafka")
    before = library.level
    library.setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
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
