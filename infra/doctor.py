"""Finds out what is wrong with the local stack and says what to do.

Promises to change nothing, but for fetching the smallest missing file as a trial of the network.
"""

import asyncio
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

import asyncpg
import psutil

from infra import artifacts, kafka, ports, postgres, registry, served
from infra.processes import installed_code
from infra.stack import Stack
from infra.supervision import Process
from services import settings
from services.broker import AWAY, wrong_topics
from services.environment import WrongSetting
from services.settings import Addresses
from services.store.pool import PASSING, session
from services.store.versions import BUILD_AGAIN, OTHER_RELEASE, is_of_other_release
from services.wait import beyond

GIBI = 1024**3
# A cache of 0.5, the write-ahead log that Postgres may keep, and some data.
DISK_GIB = 6
# Broker 0.7, registry 0.4, Postgres 0.7, one worker 0.3.
MEMORY_GIB = 2
# supervisord refuses to start with fewer; the broker holds a few per partition.
OPEN_FILES = 1024
NAMES = {"ingest": "the HTTP door", "web": "the page"}
MACHINES = ("x86_64", "aarch64")


class Level(StrEnum):
    """How bad a finding is: nothing, worth knowing, in the way."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One thing looked at; `next_step` is empty when there is nothing to do."""

    level: Level
    what: str
    next_step: str = ""


def findings(stack: Stack) -> Iterator[Finding]:
    """Everything looked at, in the order in which it would be in the way."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _open_files,
        _memory,
        partial(_folder, stack.state, "state", "LEADLOG_STATE"),
        partial(_folder, settings.cache_folder(), "cache", "LEADLOG_CACHE"),
        _downloads,
        partial(_database_place, stack.state),
        _abandoned,
        partial(_processes, stack),
        partial(_code, stack),
        partial(_ports, stack),
        partial(_servers, stack),
        partial(_contents, stack),
        partial(_services, stack),
    )
    for check in checks:
        try:
            yield from check()
        except PermissionError as error:
            step = "run as the user who started the stack, or choose another folder by LEADLOG_STATE"
            yield Finding(Level.PROBLEM, f"{error.filename}: {error.strerror}", step)
            return


def _python() -> Iterator[Finding]:
    is_known = sys.platform == "linux" and platform.machine() in MACHINES
    what = f"Python {platform.python_version()} on {sys.platform} {platform.machine()}"
    if is_known:
        yield Finding(Level.OK, what)
    else:
        yield Finding(
            Level.NOTE, what, "only Linux on x86-64 and arm64 is promised; give the servers by LEADLOG_*"
        )


def _open_files() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        yield Finding(Level.PROBLEM, f"at most {hard} open files", f"raise it: ulimit -Hn {OPEN_FILES * 4}")


def _memory() -> Iterator[Finding]:
    free = psutil.virtual_memory().available / GIBI
    what = f"{free:.1f} GiB of memory free"
    if free >= MEMORY_GIB:
        yield Finding(Level.OK, what)
    else:
        step = (
            f"the stack wants {MEMORY_GIB} GiB: stop something, or lower LEADLOG_POSTGRES_SHARED_BUFFERS_MB"
        )
        yield Finding(Level.NOTE, what, step)


def _folder(folder: Path, name: str, setting: str) -> Iterator[Finding]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        way_out = f"the folder belongs to {existing.owner()}: run as that user"
        if os.statvfs(existing).f_flag & os.ST_RDONLY:
            way_out = "its file system is read-only: mount it for writing"
        step = f"{way_out}, or choose another by {setting}"
        yield Finding(Level.PROBLEM, f"the {name} folder {folder} cannot be written", step)
        return
    strange = [file for file in folder.glob("*.json") if file.stat().st_uid != os.geteuid()]
    if strange and os.geteuid() != 0:
        step = f"go on as that user, hand the folder over by chown -R, or choose another by {setting}"
        yield Finding(Level.PROBLEM, f"{strange[0]} belongs to {strange[0].owner()}", step)
    yield _room(existing, f"the {name} folder {folder}", f"make room, or move the folder by {setting}")


def _room(folder: Path, name: str, step: str) -> Finding:
    free = shutil.disk_usage(folder).free / GIBI
    what = f"{name} has {free:.0f} GiB of disk free"
    if free >= DISK_GIB:
        return Finding(Level.OK, what)
    return Finding(Level.PROBLEM if free < 1 else Level.NOTE, what, f"the stack wants {DISK_GIB} GiB: {step}")


def _downloads() -> Iterator[Finding]:
    cache = settings.cache_folder()
    missing = artifacts.missing(cache)
    altered = [artifact for artifact in artifacts.altered(cache) if artifact not in missing]
    for artifact in altered:
        step = f"delete {artifact.path(cache)} and run `leadlog up`, which fetches it anew"
        yield Finding(
            Level.PROBLEM, f"{artifact.coordinate} is not what {artifacts.LOCK_FILE.name} names", step
        )
    if missing:
        yield _trial(missing, cache)
    elif not altered:
        yield Finding(Level.OK, "Kafka and the registry are in the cache, with the right checksums")


def _trial(missing: list[artifacts.Artifact], cache: Path) -> Finding:
    smallest = min(missing, key=lambda artifact: artifact.size_bytes)
    try:
        artifacts.fetch([smallest], cache, lambda _size: None)
    except (artifacts.Unavailable, OSError) as error:
        return Finding(
            Level.PROBLEM, f"downloads fail: {error}", "mend the network, or copy the cache of another"
        )
    return Finding(
        Level.NOTE, f"{len(missing)} files are not fetched yet; Maven Central answers", "`leadlog up`"
    )


def _database_place(state: Path) -> Iterator[Finding]:
    if "postgres_dsn" in settings.given_servers() or not state.exists():
        return
    try:
        where = postgres.place(state)
    except (postgres.Failed, OSError) as error:
        yield Finding(
            Level.PROBLEM, str(error), "start as a normal user, or give a server by LEADLOG_POSTGRES_DSN"
        )
        return
    if where.user:
        yield Finding(Level.OK, f"started by root, so Postgres runs as {where.user} on {where.data}")
        if where.data.exists() and where.data.stat().st_dev != state.stat().st_dev:
            yield _room(where.data, "that folder", "make room there")


def _abandoned() -> Iterator[Finding]:
    for note in postgres.OPEN_FOLDER.glob("*/state-folder"):
        link = Path(note.read_text().strip()) / "postgres"
        if link.resolve() != note.with_name("postgres"):
            what = f"{note.parent} holds the database of a state folder that is gone, {link.parent}"
            yield Finding(Level.NOTE, what, f"delete it unless you want it back: rm -r {note.parent}")


def _processes(stack: Stack) -> Iterator[Finding]:
    processes = stack.supervisor.processes()
    if not processes and stack.known():
        yield Finding(Level.PROBLEM, stack.why_down(), "run `leadlog up`, or `leadlog down`")
    elif not processes:
        yield Finding(Level.NOTE, "the stack is down", "run `leadlog up`")
    missing = stack.missing()
    for process in processes.values():
        yield _process(stack, process, is_missing=process.name in missing)


def _code(stack: Stack) -> Iterator[Finding]:
    if stack.bases() and stack.known().get("code") != installed_code():
        what = "the services run other code than is installed now"
        yield Finding(Level.PROBLEM, what, "`leadlog up` starts them anew")


def _process(stack: Stack, process: Process, *, is_missing: bool) -> Finding:
    what = f"{process.name}: {process.state.lower()}, {process.description}"
    if process.state == "RUNNING":
        return Finding(Level.OK, what)
    if process.state == "STOPPED":
        return Finding(Level.PROBLEM if is_missing else Level.NOTE, what, "`leadlog up` starts it")
    end = stack.supervisor.last_lines(process.name, lines=5)
    log = stack.supervisor.logs / f"{process.name}.log"
    return Finding(Level.PROBLEM, what, f"read `leadlog logs {process.name}`; the end of {log}:\n{end}")


def _ports(stack: Stack) -> Iterator[Finding]:
    if stack.supervisor.is_running():
        return
    wishes = ports.wishes(workers=1)
    taken = [f"{port} ({name})" for name, port in wishes.items() if not ports.is_free(port)]
    if taken:
        step = "nothing to do: `leadlog up` takes others and `leadlog status` names them"
        yield Finding(Level.NOTE, f"ports in use by other programs: {', '.join(taken)}", step)


def _servers(stack: Stack) -> Iterator[Finding]:
    known = stack.known() | settings.given_servers()
    questions = {
        "postgres_dsn": ("Postgres", postgres.answers),
        "kafka_bootstrap": ("Kafka", kafka.answers),
        "registry_url": ("the registry", registry.answers),
    }
    for address, (name, answers) in questions.items():
        if address in known:
            yield _answer(name, str(known[address]), asyncio.run(answers(known[address])))


def _answer(name: str, address: str, is_there: bool) -> Finding:
    place = address.rpartition("@")[2]  # no password in a report that people send around
    if is_there:
        return Finding(Level.OK, f"{name} answers at {place}")
    return Finding(
        Level.PROBLEM, f"{name} does not answer at {place}", "see its process above, or its own log"
    )


def _contents(stack: Stack) -> Iterator[Finding]:
    """What the servers that answer hold and ought not to."""
    known = stack.known() | settings.given_servers()
    if not set(Addresses._fields) <= known.keys():
        return
    addresses = Addresses(*(known[name] for name in Addresses._fields))
    step = "read infra/runbooks/topics-wrong.md before anything else is changed"
    for look in (wrong_topics(addresses.kafka_bootstrap), beyond(addresses)):
        with suppress(asyncpg.PostgresError, *PASSING, *AWAY, WrongSetting):  # told above; or never deployed
            yield from [Finding(Level.PROBLEM, wrong, step) for wrong in asyncio.run(look)]
    if asyncio.run(_is_of_other_release(addresses.postgres_dsn)):
        yield Finding(Level.PROBLEM, OTHER_RELEASE, BUILD_AGAIN)


async def _is_of_other_release(dsn: str) -> bool:
    with suppress(asyncpg.PostgresError, *PASSING, WrongSetting):
        async with session(dsn) as connection:
            return await is_of_other_release(connection)
    return False


def _services(stack: Stack) -> Iterator[Finding]:
    for process, base in stack.bases().items():  # one that does not run is told above
        yield _service(process, base) if stack.listens(process) else _deaf(process, base)


def _deaf(process: str, base: str) -> Finding:
    step = "wait a moment; if another program has the port, `leadlog up` takes another one"
    return Finding(Level.PROBLEM, f"{process} does not listen at {base}", step)


def _service(process: str, base: str) -> Finding:
    name = NAMES.get(process, process)
    if stuck := served.stuck(process, base):
        step = f"see `leadlog logs {process}`; kill -9 with the pid of `leadlog status` has it started again"
        return Finding(Level.PROBLEM, f"{name} at {base} stands: {stuck}", step)
    if not_ready := served.not_ready(process, base):
        # A worker that lags or has just begun is well; one that waits for a server is not.
        is_well = process.startswith("projector") and "does not answer" not in not_ready
        level = Level.NOTE if is_well else Level.PROBLEM
        step = f"see the servers above, or `leadlog logs {process}`"
        return Finding(level, f"{name} at {base} is not ready: {not_ready}", step)
    return Finding(Level.OK, f"{name} answers at {base}")
