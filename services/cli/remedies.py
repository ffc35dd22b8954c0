"""What is said of the errors that end a command: what is wrong, and what a person can do."""

import errno
import os
import pwd
import sqlite3
import sys
from pathlib import Path

import asyncpg
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
)

from projections.definition import DefinitionFaults
from schemas.faults import unstorable
from services import definitions
from services.broker import WrongTopics
from services.cli.exits import AWAY, REFUSED, USAGE
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
from services.store.pool import DATA_ERRORS
from services.store.versions import NothingPromoted
from services.wait import OtherRelease
from services.wording import legible

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
STACK = "Is the stack running? `leadlog status` tells, `leadlog doctor` says what to do."
OWNERS_ONLY = (errno.EACCES, errno.EPERM)

Said = tuple[int, str]
"""How the command ends, and the sentence."""


def told(error: Exception) -> Said | None:
    """What a person can mend; None = a defect."""
    if kind := next((each for each in SAID if isinstance(error, each)), None):
        return SAID[kind], str(error)
    if isinstance(error, NOT_READY):
        return REFUSED, f"the database is not that of this release ({error}): {DEPLOY}"
    if isinstance(error, DATA_ERRORS):
        return _strange_argument()
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return REFUSED, f"Postgres refuses: {error}\n{RIGHTS}"
    if isinstance(error, SERVER_AWAY):
        said = f"Kafka: {plainly(error)}" if isinstance(error, KafkaError) else plainly(error)
        return AWAY, f"{said}\n{STACK}"
    if isinstance(error, sqlite3.OperationalError):
        return REFUSED, f"temporary files: {error}: {ROOM}"
    if isinstance(error, OSError) and (remedy := _remedy_of(error)):
        return REFUSED, f"{error.filename or 'writing'}: {error.strerror}: {remedy}"
    return None


def _strange_argument() -> Said | None:
    """Data that Postgres refuses and that somebody typed."""
    strange = next(filter(unstorable, sys.argv), None)
    return (USAGE, f"{legible(strange)} is no text in UTF-8") if strange else None


def _remedy_of(error: OSError) -> str | None:
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
