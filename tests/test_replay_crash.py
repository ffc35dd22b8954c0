"""SIGKILL at every phase, Ctrl-C, and SIGKILL at random moments of build, catch-up, diff, promote and `log
rebuild`: the same command goes on, and in the end nothing tells that it was killed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from infra import MIGRATIONS
from services.deploy import deploy
from services.replay.versions import Refused
from services.settings import Addresses
from services.store.pool import connect
from tests.faults.equality import compare
from tests.fresh import empty_database
from tests.replaying import Commands, Store, prepared, random_case

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(900)]

PHASES = ("route", "read", "ids", "settle", "fold", "index")
RANDOM_KILLS = 3
LONGEST_SECONDS = 6.0
"""A random kill comes within so many seconds."""
ACTIVATED = "select count(*) from ops.outbox where topic = 'lead.reference'"
SAYS = "select max(definition_version) from bi.lead_current"


async def test_nothing_tells_that_a_replay_was_killed(
    database: str, topics: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is one that was built undisturbed; what BI reads is one version or the other, always."""
    monkeypatch.setenv("LEADLOG_STATE", str(tmp_path / "undisturbed"))
    case = await random_case(topics, seed=2)
    addresses = topics._replace(postgres_dsn=database)
    async with prepared(case, addresses) as store:
        await store.take(len(case.records) * 2 // 3)
        commands, rng = Commands(addresses, tmp_path / "killed"), Random(2)
        await _build(commands, rng)
        await store.take(len(case.records))
        await store.settle()
        await _catch_up_and_diff(commands)
        await _promote(store, commands, rng)
        await _look_and_go_back(commands)
        number = await store.build([(None, case.agreed[1])])
        await store.catch_up(number)
        assert await store.differences(3, case.events, [(None, case.agreed[1])]) == []
        assert await store.states(3) == await store.states(number)


async def _build(commands: Commands, rng: Random) -> None:
    for phase in PHASES:
        if phase == "fold":
            code, lines = await commands.interrupted(phase, "build")
            assert (code, len(lines)) == (1, 1), lines
            assert "the same command goes on" in lines[0]
        await commands.until(phase, "build")
    for _ in range(RANDOM_KILLS):
        if await commands.for_seconds(rng.uniform(0, LONGEST_SECONDS), "build"):
            return
    code, said = await commands.finished("build")
    assert code == 0, said


async def _catch_up_and_diff(commands: Commands) -> None:
    await commands.until("catch-up", "catch-up", "3")
    code, said = await commands.finished("catch-up", "3")
    assert code == 0, said
    await commands.until("diff", "diff", "3")
    code, said = await commands.finished("diff", "3")
    assert code == 1, said  # the definitions differ


async def _promote(store: Store, commands: Commands, rng: Random) -> None:
    for _ in range(RANDOM_KILLS):
        await commands.for_seconds(rng.uniform(0, LONGEST_SECONDS / 2), "promote", "3")
        label = await store.connection.fetchval("select label from ops.version where status = 'promoted'")
        assert await store.connection.fetchval(SAYS) == label
    await commands.finished("promote", "3")
    assert await store.connection.fetchval(SAYS) == "d@2"
    assert await store.connection.fetchval(ACTIVATED) == 1


async def _look_and_go_back(commands: Commands) -> None:
    """The other commands, as a user gives them."""
    for arguments, said in (
        (("plan",), "a replay would change nothing"),
        (("status",), "promoted"),
        (("diff", "3", "--show"), "reason"),
        (("rollback",), "BI reads version 1"),
        (("run",), "version 3 is that already"),
        (("build",), "version 3 is that already"),
        (("build", "--as-known", "2026-01-01T00:00:00Z"), "is built; next: leadlog replay diff"),
        (("retire", "2"), "version 2 is gone"),
    ):
        _, out = await commands.finished(*arguments)
        assert said in out, out


async def test_nothing_tells_that_a_rebuild_of_the_log_was_killed(
    database: str, topics: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the log, of a version and whenever: log, versions and what BI reads are as before. A
    start in between made a first version that lacked all that was read already."""
    monkeypatch.setenv("LEADLOG_STATE", str(tmp_path / "undisturbed"))
    case = await random_case(topics, seed=3)
    async with (
        prepared(case, topics._replace(postgres_dsn=database)) as store,
        empty_database(topics) as addresses,
    ):
        await store.take(len(case.records))
        await store.settle()
        commands, rng = Commands(addresses, tmp_path / "killed", "log"), Random(3)
        for phase in ("log", "read", "fold", "index"):
            await commands.until(phase, "rebuild")
        with pytest.raises(Refused, match="log rebuild"):
            await deploy(addresses, MIGRATIONS, None, case.agreed[0])
        for _ in range(RANDOM_KILLS):
            if await commands.for_seconds(rng.uniform(0, LONGEST_SECONDS), "rebuild"):
                break
        else:
            code, said = await commands.finished("rebuild")
            assert code == 0, said
        rebuilt = Store(addresses, await connect(addresses.postgres_dsn), [])
        for number, text in enumerate(case.agreed, 1):
            assert await rebuilt.differences(number, case.events, [(None, text)]) == []
        compared = await compare(store.connection, rebuilt.connection, ["log"])
        assert [line for each in compared for line in each.differences] == []
        assert await rebuilt.connection.fetchval(SAYS) == "d@2"
        await rebuilt.connection.close()
