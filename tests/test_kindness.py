"""What goes wrong in a stranger's first hour is told in a sentence: what it is, and what to do.

No command may end with a traceback here. What a line of events, a definition or a mapping may hold is guarded
by test_contract, test_definition and test_import.
"""

import asyncio
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from infra.stack import Stack
from services import settings
from services.cli import main
from services.cli import wait as waiting
from services.cli.replay import Teller
from services.replay.job import Progress
from services.settings import Addresses
from services.store.pool import PostgresAway, session
from services.wait import Behind
from tests.feeding import given
from tests.servers import RunningServers, Servers
from tests.test_publish import LEADLOG

ROOT = Path(__file__).parent.parent
NOWHERE = Addresses("postgresql://leadlog:x@127.0.0.1:9/leadlog", "127.0.0.1:9", "http://127.0.0.1:9/apis")
"""Well-formed addresses at which nothing listens."""
COMMANDS = ("wait", "lead x", "summary", "parked list", "rejected list", "migrate")
DEFINITION = ROOT / "projections" / "default.yaml"
MAPPING = ROOT / "infra" / "mappings" / "olist.yaml"


class Told(NamedTuple):
    """How a command ended, and all it said."""

    code: int
    text: str


def variables(addresses: Addresses) -> dict[str, str]:
    """Addresses as the environment gives them."""
    return {f"LEADLOG_{name.upper()}": value for name, value in addresses._asdict().items()}


def leadlog(command: str, folder: Path, *more: str, **environment: str) -> Told:
    """A command in this process, with a state folder in `folder`. A traceback raises."""
    given = {"LEADLOG_STATE": str(folder / "state")} | environment
    done = CliRunner().invoke(main, [*command.split(), *more], env=given, catch_exceptions=False)
    return Told(done.exit_code, done.output)


def run(command: Sequence[str | Path], **environment: str) -> Told:
    """A command as a process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEADLOG_")}
    done = subprocess.run(
        command,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stdout
    return Told(done.returncode, done.stdout)


def on_a_small_disk(folder: Path, size: str, *command: str | Path) -> list[str | Path]:
    """The command with `folder` on a disk of its own, which only it sees."""
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    mount = 'mount -t tmpfs -o size="$1" tmpfs "$0"; shift; exec "$@"'
    return [*alone, "sh", "-c", mount, folder, size, *command]


def as_somebody_else(*command: str | Path) -> list[str | Path]:
    """The command by a user who may read everything and write nothing of ours."""
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *may_read, *command]


@pytest.mark.parametrize("command", [*COMMANDS, "deploy", "run projector", "publish -"])
def test_without_a_stack_the_folder_is_named_and_how_to_start(command: str, tmp_path: Path) -> None:
    """A command in the wrong folder, or before `up`, ends with 3."""
    told = leadlog(command, tmp_path)
    assert told.code == 3
    assert f"no stack is up in {tmp_path / 'state'}: start it with `leadlog up`" in told.text


@pytest.mark.parametrize("command", [*COMMANDS, "deploy --wait 0"])
def test_a_server_that_is_away_is_named(command: str, tmp_path: Path) -> None:
    """With its address and what to look at; the exit code is 3, and no library speaks."""
    told = leadlog(command, tmp_path, **variables(NOWHERE))
    assert told.code == 3
    assert "does not answer" in told.text
    assert "x@127" not in told.text
    assert not re.search(r"Errno|Connect call|[a-z]Error\b", told.text)


WRONG_SETTINGS = {
    "LEADLOG_POSTGRES_DSN": ("127.0.0.1:5432", "expected postgresql://user:password@host:port/database"),
    "LEADLOG_KAFKA_BOOTSTRAP": ("localhost", "expected host:port, such as 127.0.0.1:9092"),
    "LEADLOG_REGISTRY_URL": ("127.0.0.1:8081", "expected the base of the Confluent API, such as http://"),
    "LEADLOG_BATCH_RECORDS": ("many", "expected a whole number, for example 1000"),
    "LEADLOG_LOG_LEVEL": ("loud", "expected one of debug, info, warning, error"),
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_a_setting_that_cannot_be_used_is_named(name: str) -> None:
    """With its value and what was expected, as wrong usage."""
    value, expected = WRONG_SETTINGS[name]
    told = run([LEADLOG, "deploy"], **variables(NOWHERE) | {name: value})
    assert told.code == 2
    assert told.text.startswith(f"leadlog: {name} is '{value}': {expected}")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("lead a\udcff", "a\\udcff is no text in UTF-8"),
        ("rejected list --reason \udcff", "is no text in UTF-8"),
        ("replay build --as-known yesterday", "'yesterday' is no time: expected one such as 2026-01-31"),
        ("summary --since yesterday", "'yesterday' is no date: expected one such as 2026-01-31"),
    ],
)
async def test_what_postgres_could_not_take_is_wrong_usage(
    stack: Addresses, database: str, arguments: str, expected: str
) -> None:
    """It ended with 1 and the traceback of the driver, or told the format in Python's own letters."""
    await given(database, [])
    told = run([LEADLOG, *arguments.split()], **variables(stack._replace(postgres_dsn=database)))
    assert (told.code, expected in told.text) == (2, True), told.text


@pytest.mark.servers
async def test_a_database_of_a_newer_release_is_refused(
    stack: Addresses, database: str, tmp_path: Path
) -> None:
    """An older release took it, fed nothing, and failed at the next `replay promote` with a traceback."""
    given = variables(stack._replace(postgres_dsn=database)) | {"LEADLOG_STATE": str(tmp_path)}
    assert run([LEADLOG, "migrate"], **given).code == 0
    async with session(database) as connection:
        await connection.execute("insert into ops.migration (name) values ('9999_later.sql')")
    told = run([LEADLOG, "migrate"], **given)
    assert told.code == 1
    assert "newer release, which applied 9999_later.sql" in told.text


@pytest.mark.servers
def test_postgres_says_who_may_not_come_in(stack: Addresses, database: str, tmp_path: Path) -> None:
    """A wrong password and an unknown database are wrong usage; a database without tables is not deployed."""
    server = stack.postgres_dsn.rpartition("/")[0]
    place = server.rpartition("@")[2]
    for dsn, reason in (
        (f"postgresql://leadlog:wrong@{place}/leadlog", "password authentication failed"),
        (f"{server}/nowhere", 'database "nowhere" does not exist'),
    ):
        told = leadlog("parked list", tmp_path, **variables(stack._replace(postgres_dsn=dsn)))
        assert told.code == 2
        assert f"Postgres at {place}" in told.text
        assert reason in told.text
        assert "LEADLOG_POSTGRES_DSN" in told.text
    empty = leadlog("parked list", tmp_path, **variables(stack._replace(postgres_dsn=database)))
    assert empty.code == 1
    assert "run `leadlog up`, or `leadlog deploy`" in empty.text


@pytest.mark.servers
async def test_postgres_that_goes_away_meanwhile_is_told(database: str) -> None:
    """Between two statements of a replay or a switch it ended the command with a traceback of the driver."""

    async def work() -> None:
        async with session(database) as connection:
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _: gone.set())
            async with session(database) as other:
                await other.execute("select pg_terminate_backend($1)", connection.get_server_pid())
            await gone.wait()
            await connection.execute("select 1")

    with pytest.raises(PostgresAway, match="went away meanwhile"):
        await work()


@pytest.mark.servers
def test_before_the_first_version_it_is_told_how_to_make_it(
    stack: Addresses, database: str, tmp_path: Path
) -> None:
    """Whatever needs the definition in force says the same, whether it reads a version or compares two."""
    addresses = variables(stack._replace(postgres_dsn=database))
    assert leadlog("migrate", tmp_path, **addresses).code == 0
    plan = f"replay plan --definition {DEFINITION}"
    for command in (plan, "replay promote 1", "replay verify", "bi sources", "report markov"):
        told = leadlog(command, tmp_path, **addresses)
        assert told == Told(
            1, "leadlog: no definition is in force yet: `leadlog up` makes the first version\n"
        )


FOREIGN = {
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is no JSON"),
    "spreadsheet": (b"PK\x03\x04\x14\0", "save the data as CSV, for `leadlog import`"),
    "csv": (b"lead_id,created\n1,2026-01-01\n", "`leadlog import FILE --mapping MAPPING.yaml`"),
    "compressed": (gzip.compress(b'{"record": "X"}\n'), "`gzip -dc FILE | leadlog publish -`"),
    "utf-16": ('{"record": "X"}\n'.encode("utf-16"), "save it as UTF-8"),
    "array": (b'[{"record": "X"},\n {"record": "Y"}]\n', "`jq -c '.[]' FILE`"),
    "indented": (json.dumps({"record": "X"}, indent=2).encode(), "`jq -c . FILE`"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_without_events_is_told_once_and_what_it_is(kind: str, tmp_path: Path) -> None:
    """Not line by line, and before anything is sent."""
    content, remedy = FOREIGN[kind]
    (tmp_path / kind).write_bytes(content)
    told = leadlog("publish", tmp_path, str(tmp_path / kind), **variables(NOWHERE))
    assert told.code == 1
    assert told.text.count("\n") == 1
    assert "is not one JSON event a line, nothing was published" in told.text
    assert remedy in told.text


def test_a_file_with_events_is_read_though_lines_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object, well-formed or not, is enough; a byte order mark is no fault."""
    monkeypatch.setattr(settings, "PUBLISH_DEADLINE_SECONDS", 0)
    for content in (b"{oops}\n", b'\xef\xbb\xbf{"record": "X"}\n', b'garbage\n{"record": "X"}\n'):
        (tmp_path / "events").write_bytes(content)
        told = leadlog("publish", tmp_path, str(tmp_path / "events"), **variables(NOWHERE))
        assert told.code == 3  # it went on to the broker


@pytest.mark.parametrize("command", ["publish", "import --mapping"])
def test_a_file_that_is_not_there_or_a_folder_is_wrong_usage(command: str, tmp_path: Path) -> None:
    """The path is named."""
    for path, reason in ((tmp_path / "no.file", "o such file|does not exist"), (tmp_path, "directory")):
        told = leadlog(command, tmp_path, str(path))
        assert told.code == 2
        assert str(path) in told.text
        assert any(each in told.text for each in reason.split("|"))


def edited(old: str, new: str, file: Path) -> str:
    """A YAML file that ships, with one thing changed."""
    text = file.read_text()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    "command",
    [
        *("alerts list --limit -1", "alerts deliveries --limit 99999999999999999999", "logs -n -1"),
        *("replay promote 9999999999", "replay retire 0", "report markov --quiet-days 9999999999"),
        "generate --days 9999999999",
    ],
)
def test_a_number_out_of_range_is_wrong_usage(command: str, tmp_path: Path) -> None:
    """It ended the command with a traceback, mostly from Postgres."""
    told = leadlog(command, tmp_path, **variables(NOWHERE))
    assert (told.code, f"{command.rsplit(maxsplit=1)[-1]} is not in the range" in told.text) == (2, True)


@pytest.mark.parametrize(
    "command",
    ["key rotate some --overlap-hours nan", "wait --timeout nan", "deploy --wait nan", "generate --rate nan"],
)
def test_what_is_no_number_is_wrong_usage(command: str, tmp_path: Path) -> None:
    """It is beyond no bound, and ended in a traceback or in no end."""
    told = leadlog(command, tmp_path, **variables(NOWHERE))
    assert (told.code, "'nan'" in told.text) == (2, True)


def test_of_logs_as_many_lines_are_shown_as_asked_for(tmp_path: Path) -> None:
    """With none, before those that come, the whole file was."""
    folder = tmp_path / "state" / "logs"
    folder.mkdir(parents=True)
    (folder / "kafka.log").write_text("one\ntwo\n")
    shown = [leadlog(f"logs kafka -n {lines}", tmp_path).text for lines in (0, 1, 9)]
    assert shown == ["", "kafka | two\n", "kafka | one\nkafka | two\n"]


WRONG_DEFINITIONS = {
    "bare time": (edited('"09:00"', "09:00", DEFINITION), 'a quoted time such as "10:00"'),
    "tab": (edited("  - {name", "\t- {name", DEFINITION), "blanks: YAML takes no tabs"),
    "unknown key": (edited("rationale:", "rationle:", DEFINITION), "did you mean rationale?"),
    "colon": (edited('rationale: "', 'rationale: why: "', DEFINITION), "a text with a colon in quotes"),
    "cut off": (DEFINITION.read_text()[:500], "a quote or bracket is open"),
    "empty": ("", "a mapping of keys to values"),
}


@pytest.mark.parametrize("kind", WRONG_DEFINITIONS)
@pytest.mark.parametrize("command", ["up", "deploy"])
def test_a_wrong_definition_is_told_before_anything_is_started(
    command: str, kind: str, tmp_path: Path
) -> None:
    """Each fault with file, line and what was expected; no server and no folder is made."""
    text, expected = WRONG_DEFINITIONS[kind]
    (tmp_path / "my.yaml").write_text(text)
    told = leadlog(command, tmp_path, "--definition", str(tmp_path / "my.yaml"))
    assert told.code == 1
    assert f"{tmp_path / 'my.yaml'} is no definition:\nline " in told.text
    assert expected in told.text
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("content", [None, "chanels: {}"])
def test_a_wrong_file_of_channels_is_told_before_anything_is_started(
    content: str | None, tmp_path: Path
) -> None:
    """`up` ended with 0 although the notifier could not start."""
    file = tmp_path / "channels.yaml"
    if content is not None:
        file.write_text(content)
    told = run([LEADLOG, "up"], LEADLOG_STATE=str(tmp_path / "state"), LEADLOG_ALERTS=str(file))
    assert told.code == 1
    assert told.text.startswith(f"leadlog: LEADLOG_ALERTS: {file}: ")
    assert not (tmp_path / "state").exists()


WRONG_MAPPINGS = {
    "bare time": (edited('"00:00"', "00:00", MAPPING), 'a quoted time such as "10:00"'),
    "tab": (edited("  leads:", "\tleads:", MAPPING), "blanks: YAML takes no tabs"),
    "unknown key": (edited("source:", "sauce:", MAPPING), "did you mean source?"),
}


@pytest.mark.parametrize("kind", WRONG_MAPPINGS)
def test_a_wrong_mapping_is_told_with_its_lines(kind: str, tmp_path: Path) -> None:
    """Each fault with file, line and what was expected, as wrong usage."""
    text, expected = WRONG_MAPPINGS[kind]
    (tmp_path / "my.yaml").write_text(text)
    told = leadlog("import --mapping", tmp_path, str(tmp_path / "my.yaml"))
    assert told.code == 2
    assert f"{tmp_path / 'my.yaml'} does not fit:\n" in told.text
    assert expected in told.text


def test_a_yaml_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    """For definitions, policies and mappings alike: some commands ended with a traceback, some with 1."""
    picture = tmp_path / "picture"
    picture.write_bytes(b"\x89PNG")
    for command in (
        *("up --definition", "import --mapping", "definition validate", "replay plan --definition"),
        *("lead crm:1 --definition", "sla what-if --policy"),
    ):
        told = leadlog(command, tmp_path, str(picture))
        assert told == Told(2, f"leadlog: {picture} is no text in UTF-8 (byte 0 is 0x89)\n")


@pytest.mark.parametrize("process", ["projector", "clock"])
def test_a_taken_port_is_told(process: str, tmp_path: Path) -> None:
    """The port, and that 0 finds a free one. `up` passes taken ones over (test_stack)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = leadlog(f"run {process} --web-port {port}", tmp_path, **variables(NOWHERE))
    assert told.code == 1
    assert f"port {port} of 127.0.0.1 is taken; give another (0: a free one)" in told.text


def test_a_full_disk_is_told_by_whatever_writes() -> None:
    """With what to do; the exit code is 1."""
    told = run(["sh", "-c", f"{LEADLOG} generate --events 1000 >/dev/full"])
    assert told.code == 1
    assert told.text.startswith("leadlog: writing: No space left on device: make room")


def test_a_full_disk_is_told_by_downloads(tmp_path: Path) -> None:
    """It is not mistaken for a network that is away; the folder and its setting are named."""
    cache = tmp_path / "cache"
    cache.mkdir()
    command = on_a_small_disk(cache, "256k", LEADLOG, "up")
    told = run(command, LEADLOG_CACHE=str(cache), LEADLOG_STATE=str(tmp_path / "state"))
    assert told.code == 3
    assert f"could not be stored in {cache}: No space left on device" in told.text
    assert "LEADLOG_CACHE" in told.text


@pytest.mark.slow
def test_a_full_disk_is_told_by_the_first_start() -> None:
    """The server that could not be made is named; `doctor` says how much room there should be."""
    small = Path(tempfile.mkdtemp(prefix="leadlog-small-"))
    small.chmod(0o755)  # as root, Postgres' own user passes through
    three = f"{LEADLOG} up; {LEADLOG} doctor; {LEADLOG} down"
    told = run(on_a_small_disk(small, "8m", "sh", "-c", three), LEADLOG_STATE=str(small / "state"))
    small.rmdir()
    assert "could not" in told.text
    assert "No space left on device" in told.text
    assert f"problem  the state folder {small / 'state'} has 0 GiB of disk free" in told.text
    assert "make room, or move the folder by LEADLOG_STATE" in told.text


def test_no_network_is_told_by_downloads(tmp_path: Path) -> None:
    """What could not be fetched, why, and which setting names a proxy."""
    elsewhere = {"LEADLOG_CACHE": str(tmp_path / "cache"), "LEADLOG_STATE": str(tmp_path / "state")}
    told = run([LEADLOG, "up"], HTTPS_PROXY="http://127.0.0.1:9", **elsewhere)
    assert told.code == 3
    assert "could not be downloaded from Maven Central: Connection refused" in told.text
    assert "does HTTPS_PROXY name its proxy" in told.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.slow
def test_a_folder_of_somebody_else_is_told(tmp_path: Path) -> None:
    """Whose it is, who one is, and which setting names another folder."""
    tmp_path.chmod(0o755)
    (tmp_path / "state").mkdir()
    for command, place in (("up", "state/ports.new"), ("up", "new")):
        state = tmp_path / place.removesuffix("/ports.new")
        told = run(as_somebody_else(LEADLOG, command), LEADLOG_STATE=str(state), LEADLOG_CACHE="/tmp")
        assert told.code == 1
        assert f"{tmp_path / place}: Permission denied: you are nobody, it belongs to root" in told.text
        assert "LEADLOG_STATE" in told.text


def test_a_state_folder_on_a_read_only_disk_is_told(tmp_path: Path) -> None:
    """`doctor` said to run as its owner, who one was."""
    small = on_a_small_disk(tmp_path, "1m,ro", LEADLOG, "doctor")
    told = run(small, LEADLOG_STATE=str(tmp_path / "state"))
    assert "its file system is read-only: mount it for writing, or choose another by LEADL" in told.text


def test_a_state_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    """Its path, and which setting names another one."""
    (tmp_path / "state").touch()
    told = leadlog("up", tmp_path)
    assert told.code == 1
    assert f"{tmp_path / 'state'}: File exists: choose another folder by LEADLOG_STATE" in told.text


@pytest.mark.servers
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.slow
def test_a_stack_of_somebody_else_is_not_called_down(servers: Servers) -> None:
    """`status` and `down` by another user say whose stack it is; so does `doctor`."""
    if not isinstance(servers, RunningServers):
        pytest.skip("containers belong to nobody here")
    state = servers.stack.state
    for command in ("status", "down", "doctor"):
        told = run(as_somebody_else(LEADLOG, command), LEADLOG_STATE=str(state))
        assert told.code == 1
        assert f"{Stack(state).supervisor.socket}: Permission denied" in told.text


def project(folder: Path) -> Path:
    """What of the project its scripts need, without a .venv."""
    shutil.copytree(ROOT / "infra", folder / "infra")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder / "infra" / "test"


def bare_path(folder: Path) -> str:
    """A folder for PATH with what the scripts use, and no Python."""
    folder.mkdir()
    for tool in ("bash", "env", "cat", "dirname", "sha256sum"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    return str(folder)


def test_without_python_it_is_told_what_to_install(tmp_path: Path) -> None:
    """What was looked for, and how to name another one."""
    told = run([project(tmp_path), "--install-only"], PATH=bare_path(tmp_path / "bin"), PYTHON="")
    assert told.code == 1
    assert "Python 3.11 or newer with venv and pip is needed" in told.text
    assert "found: none of them" in told.text
    assert "apt install python3 python3-venv" in told.text


def test_what_is_wrong_with_a_python_is_told(tmp_path: Path) -> None:
    """Too old, without the modules, or none at all; one that was named is not passed over."""
    script = project(tmp_path)
    old = tmp_path / "old"
    old.mkdir()
    # The oldest Python that can be had everywhere is this one, told that it is another.
    (old / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 9, 1)\n")
    told = run([script, "--install-only"], PYTHON=sys.executable, PYTHONPATH=str(old))
    assert (told.code, f"found: {sys.executable} is Python 3.9." in told.text) == (1, True)
    bare = without_ensurepip(tmp_path / "bare")
    told = run([script, "--install-only"], PYTHON=str(bare))
    assert (told.code, f"found: {bare} has no module ensurepip." in told.text) == (1, True)
    told = run([script, "--install-only"], PYTHON="/bin/cat")
    assert (told.code, "found: /bin/cat is no Python." in told.text) == (1, True)


def without_ensurepip(folder: Path) -> Path:
    """A Python as Debian ships it without python3-venv."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = folder / "lib" / version
    library.mkdir(parents=True)
    (folder / "bin").mkdir()
    for entry in (Path(sys.base_prefix) / "lib" / version).iterdir():
        if entry.name not in ("ensurepip", "site-packages"):
            (library / entry.name).symlink_to(entry)
    return Path(shutil.copy(Path(sys.executable).resolve(), folder / "bin" / version))


@pytest.mark.slow
def test_no_network_is_told_by_the_installation(tmp_path: Path) -> None:
    """pip's own words, then what to do."""
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    told = run([project(tmp_path), "--install-only"], PYTHON=sys.executable, **nowhere)
    assert told.code == 1
    assert "leadlog: pip failed, its message is above. Is there a network" in told.text
    assert "HTTPS_PROXY names a proxy" in told.text


def test_a_replay_on_a_pipe_says_now_and_then_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of the up to hundreds of units of a phase was a line, in a CI's log too."""
    tell = Teller()
    for phase in ("read", "fold"):
        for finished in range(1, 65):
            tell(Progress(phase, finished, 64, finished * 100, 1_000.0, None))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "read 1/64",
        "read 64/64",
        "fold 1/64",
        "fold 64/64",
    ]


def test_waiting_on_a_pipe_says_now_and_then_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Each change was a line, five a second, of numbers that nobody could read."""
    with waiting.Told(quiet=False) as told:
        for records in (17_542, 16_542, 15_542):
            told.report(Behind(records, 2, 6_500))
    told_lines = capsys.readouterr().err.splitlines()
    assert told_lines == ["still 17,542 events to read, 2 leads to bring up to date, 6,500 messages to send"]
