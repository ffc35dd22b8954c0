"""Keeps the processes of a stack up: `supervisord` as a daemon of its own per state folder.

Promises that a program that dies is started again, that `processes` tells what is, and that a stack whose
supervisor was killed leaves nothing running beside the next one. What to run is the caller's.
"""

import hashlib
import http.client
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

MARK = "LEADLOG_STACK"
"""Environment variable of the daemon and all it starts: the state folder they belong to."""

# Of `sockaddr_un` (108 with the closing zero), less the `.<pid>` that supervisord appends while it binds.
SOCKET_PATH_BYTES = 98
# All that a program sees of the caller's environment beside its own: no JAVA_TOOL_OPTIONS, no QUARKUS_*.
INHERITED = ("HOME", "LANG", "PATH", "TMPDIR", "TZ", "USER")
# Each try waits a second longer than the last: about three minutes until supervisord gives a program up.
START_TRIES = 20
AT_REST = ("STOPPED", "FATAL")
"""States from which a program comes only when it is told to."""
DAEMON_DEADLINE_SECONDS = 20.0
STOP_DEADLINE_SECONDS = 90.0
LOG_SIZE = "10MB"
LOG_COPIES = 3


class Failed(RuntimeError):
    """The supervisor, or a program under it, does not do what it was told."""


class Program(NamedTuple):
    """A process that supervisord keeps up; `starts_alone` with the daemon, else when told."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    user: str | None
    stop_signal: str
    stop_seconds: int
    starts_alone: bool


class Process(NamedTuple):
    """One process as supervisord sees it; `state` is supervisord's (RUNNING, BACKOFF, FATAL, ...)."""

    name: str
    state: str
    pid: int
    up_seconds: int
    description: str


class Supervisor:
    """The supervisord of one state folder, running or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.socket = _socket_path(folder)
        self._configuration = folder / "supervisord.conf"

    def run(self, programs: Iterable[Program]) -> None:
        """Start the daemon with these programs; a running one takes over what changed. Raises Failed."""
        self.logs.mkdir(exist_ok=True)
        self.logs.chmod(0o700)
        self._write(configuration(self.folder, self.socket, self.logs, programs))
        if self.is_running():
            self._take_over()
        else:
            self._start_daemon()

    def is_running(self) -> bool:
        """Whether the daemon answers."""
        try:
            self._call("supervisor.getPID")
        except Failed:
            return False
        return True

    def pid(self) -> int:
        """The daemon's process id. Raises Failed when it is down."""
        return int(self._call("supervisor.getPID"))

    def processes(self) -> dict[str, Process]:
        """Every process by name; empty when the daemon is down."""
        try:
            found = self._call("supervisor.getAllProcessInfo")
        except Failed:
            return {}
        return {info["name"]: _process(info) for info in found}

    def listens(self, program: str, port: int) -> bool:
        """Whether a program, and nobody else in its place, listens on a port."""
        process = self.processes().get(program)
        return process is not None and process.pid != 0 and port in _listening(process.pid)

    def held_ports(self) -> set[int]:
        """The ports on which programs of this daemon listen."""
        return {
            port for process in self.processes().values() if process.pid for port in _listening(process.pid)
        }

    def start(self, program: str) -> None:
        """Start a program unless it runs; ready is another matter. Raises Failed."""
        self._call("supervisor.startProcess", program, False, harmless=Faults.ALREADY_STARTED)

    def stop(self, program: str) -> None:
        """Stop a program and wait for it, even if it just died and is to be started again. Raises Failed."""
        while True:
            self._call("supervisor.stopProcess", program, True, harmless=Faults.NOT_RUNNING)
            if self.processes()[program].state in AT_REST:
                return

    def shut_down(self) -> None:
        """Stop everything, last started first, and the daemon. Raises Failed when it takes too long."""
        if not self.is_running():
            self.end_leftovers()
            return
        daemon = psutil.Process(self.pid())
        self._call("supervisor.shutdown")
        try:
            daemon.wait(STOP_DEADLINE_SECONDS)
        except psutil.TimeoutExpired as error:
            raise Failed(
                f"the stack of {self.folder} did not stop within {STOP_DEADLINE_SECONDS:.0f} s; "
                f"`leadlog status` shows what still runs. The daemon's pid is {daemon.pid}."
            ) from error

    def leftovers(self) -> list[psutil.Process]:
        """Every process of this folder's stack, as the system sees it: those of a daemon that was killed."""
        return [process for process in psutil.process_iter() if _folder_of(process) == str(self.folder)]

    def end_leftovers(self) -> None:
        """End what runs though no daemon answers (killed, folder deleted): nothing is started twice."""
        orphans = self.leftovers()
        for orphan in orphans:
            orphan.terminate()
        _, stubborn = psutil.wait_procs(orphans, timeout=STOP_DEADLINE_SECONDS / 3)
        for orphan in stubborn:
            orphan.kill()

    def last_lines(self, name: str, lines: int = 15) -> str:
        """The end of a process' log, for messages: of Java what was thrown, but not from where."""
        file = self.logs / f"{name}.log"
        written = file.read_text(errors="replace").splitlines() if file.exists() else []
        return "\n".join([line for line in written if not line.startswith("\tat ")][-lines:])

    def _start_daemon(self) -> None:
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        environment = _environment() | {MARK: str(self.folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        deadline = time.monotonic() + DAEMON_DEADLINE_SECONDS
        while not self.is_running():
            if done.returncode or time.monotonic() > deadline:
                said = (done.stderr or done.stdout).strip() or self.last_lines("supervisord")
                raise Failed(f"supervisord did not start: {said}")
            time.sleep(0.05)

    def _take_over(self) -> None:
        """Bring a running daemon to the configuration just written, as `supervisorctl update` does."""
        ((added, changed, removed),) = self._call("supervisor.reloadConfig")
        for group in (*changed, *removed):
            self._call("supervisor.stopProcessGroup", group)
            self._call("supervisor.removeProcessGroup", group)
        for group in (*added, *changed):
            self._call("supervisor.addProcessGroup", group)

    def _write(self, text: str) -> None:
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(text)

    def _call(self, method: str, *arguments: object, harmless: int | None = None) -> Any:
        transport = SupervisorTransport(serverurl=f"unix://{self.socket}")
        proxy = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
        try:
            return getattr(proxy, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == harmless:
                return None
            raise Failed(f"supervisord refused {method} {arguments}: {fault.faultString}") from fault
        except PermissionError as error:
            raise PermissionError(error.errno, error.strerror, str(self.socket)) from error
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"no supervisord answers at {self.socket}: {error}") from error
        finally:
            transport.close()


def _process(info: Mapping[str, Any]) -> Process:
    up_seconds = info["now"] - info["start"] if info["pid"] else 0
    description = info["spawnerr"] or info["description"]
    return Process(info["name"], info["statename"], info["pid"], up_seconds, description)


def _socket_path(folder: Path) -> Path:
    path = folder / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    short = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"leadlog-{short}.sock"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in INHERITED}


def configuration(folder: Path, socket: Path, logs: Path, programs: Iterable[Program]) -> str:
    """The text of `supervisord.conf`."""
    user = f"user={_literal(str(os.geteuid()))}" if os.geteuid() == 0 else ""
    head = f"""\
; Written by `leadlog up`. Holds passwords: readable by its owner only.
[unix_http_server]
file={_literal(str(socket))}
chmod=0700

[supervisord]
logfile={_literal(str(logs / "supervisord.log"))}
logfile_maxbytes={LOG_SIZE}
logfile_backups={LOG_COPIES}
pidfile={_literal(str(folder / "supervisord.pid"))}
directory={_literal(str(Path.cwd()))}
umask=077
{user}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    ranks = enumerate(programs, start=1)
    return head + "".join(_section(program, rank, logs) for rank, program in ranks)


def _section(program: Program, rank: int, logs: Path) -> str:
    return f"""
[program:{program.name}]
command={_literal(shlex.join(program.command))}
priority={rank}
environment={",".join(f"{name}={_quoted(value)}" for name, value in program.environment.items())}
{f"user={program.user}" if program.user else ""}
autostart={str(program.starts_alone).lower()}
autorestart=true
startsecs=1
startretries={START_TRIES}
stopsignal={program.stop_signal}
stopwaitsecs={program.stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={_literal(str(logs / program.name))}.log
stdout_logfile_maxbytes={LOG_SIZE}
stdout_logfile_backups={LOG_COPIES}
"""


def _literal(value: str) -> str:
    """A value in which supervisord expands nothing."""
    return value.replace("%", "%%")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_literal(escaped)}"'


def running_folders() -> set[Path]:
    """The folders of all stacks of this user of which something runs."""
    return {Path(folder) for folder in map(_folder_of, psutil.process_iter()) if folder}


def _folder_of(process: psutil.Process) -> str:
    """The folder of the stack that a process belongs to; nothing for any other."""
    try:
        return str(process.environ().get(MARK, ""))
    except psutil.Error:  # gone meanwhile, or another user's
        return ""


def _listening(pid: int) -> set[int]:
    try:
        first = psutil.Process(pid)
        sockets = [each for process in (first, *first.children()) for each in process.net_connections("tcp")]
    except psutil.Error:  # gone meanwhile
        return set()
    return {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}
