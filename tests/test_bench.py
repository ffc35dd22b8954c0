"""Guards that the measurements run; no time is asserted."""

import pytest

from tests.bench import alerts, beside, ground, importing, ingest, live, replay
from tests.servers import RunningServers

pytestmark = [pytest.mark.servers, pytest.mark.slow]


async def test_a_drain_and_a_trickle_fill_their_rows(
    local: RunningServers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few thousand events give a rate and its costs; each of a trickle has its latency and commit."""
    monkeypatch.setattr(live, "BEFORE", 5_000)
    await ground.fill(local.addresses, ground.made_up(5_000))
    used = await live.drained(local, live.BARE_ONE)
    assert used.rate > 0
    assert used.worker_us > 0
    assert used.postgres_us > 0
    found, commits = await live.trickled(local, live.ONE, 2)
    assert len(found) == 2 * live.PER_SECOND
    assert commits.number > 0
    live.percentiles("found", found)
    live.commit_line("commits", [commits])
    assert len(capsys.readouterr().out.splitlines()) == 2


async def test_the_door_and_its_rival_are_measured(
    local: RunningServers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both take every event, as batches and one by one, and have a line in each of the three tables."""
    await ingest.measure(local, number=1_000, rounds=1, seconds=1, parts=ingest.PARTS)
    told = capsys.readouterr().out
    assert [told.count(name) for name in ingest.RIVALS] == [3, 3]


async def test_import_and_publish_are_weighed_beside_bare_loops(
    local: RunningServers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command and its rival takes all of the same file, and fills its row."""
    await importing.measure(local.addresses, 2_000)
    table = [line.rsplit(maxsplit=5) for line in capsys.readouterr().out.splitlines()]
    assert [(name, rows) for name, rows, *_ in table] == [
        ("bare loop, CSV", "2,000"),
        ("import, property history", "2,000"),
        ("import, deal stages, 4 joins", "2,500"),
        ("bare loop, JSON lines", "2,000"),
        ("publish", "2,000"),
    ]


async def test_a_replay_and_its_rival_are_measured(
    local: RunningServers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every phase has its line, and the rival finds rows of all four results."""
    found, rival = await replay.measure(local.addresses, 3_000, 2)
    assert [phase for phase, *_ in found.phases] == ["route", "read", "ids", "settle", "fold", "index"]
    assert all(rival.rows.values())
    replay.show(3_000, found, rival)
    assert "replay / refresh" in capsys.readouterr().out


async def test_what_readers_wait_for_at_a_switch_is_measured(
    local: RunningServers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads without and with switches, and beside an open cursor, have a line each."""
    monkeypatch.setattr(beside, "SWITCHES", 2)
    monkeypatch.setattr(beside, "CURSOR_SECONDS", 1.0)
    await beside.readers(local, 2_000)
    assert "2 switches" in capsys.readouterr().out


async def test_how_soon_on_call_is_told_is_measured(local: RunningServers) -> None:
    """Every alert is received on both channels, and each has its line."""
    lines = await alerts.due(local.addresses.postgres_dsn, 3, 1.0)
    assert [line.split()[:4] for line in lines] == [
        ["webhook", "3", "1", "3"],
        ["alertmanager", "3", "1", "3"],
    ]
