"""`leadlog alerts` as people type it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services import settings
from services.store.pool import connect
from tests.alerting import Scene
from tests.feeding import commands_on
from tests.receivers import Mailbox

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def test_alerts_are_listed_and_shown(database: str) -> None:
    """Open ones by default, all on demand; one with what it covers; no such key ends with 1."""
    asyncio.run(on(database, one_late_one_over))
    leadlog = commands_on(database)
    assert [row["key"] for row in json.loads(leadlog("alerts", "list", "--json").output)] == ["review:a"]
    both = json.loads(leadlog("alerts", "list", "--all", "--json").output)
    assert {row["key"]: row["outcome"] for row in both} == {"review:a": None, "review:b": "resolved"}
    lines = leadlog("alerts", "list").output.splitlines()
    assert [line.split()[:2] for line in lines] == [["alert", "state"], ["review:a", "critical"]]
    shown = json.loads(leadlog("alerts", "show", "review:b", "--json").output)
    assert [owed["reason"] for owed in shown["obligations"]] == ["stopped_late"]
    assert "journey_id: crm:a" in leadlog("alerts", "show", "review:a").output
    assert leadlog("alerts", "deliveries").output == "nothing was delivered\n"
    missing = leadlog("alerts", "show", "nope")
    assert (missing.exit_code, "leadlog alerts list --all" in missing.output) == (1, True)


async def one_late_one_over(scene: Scene) -> None:
    """Two leads, one of them reviewed too late."""
    await scene.take(scene.mql(200, "a", "crm:a"), scene.mql(200, "b", "crm:b"))
    await scene.look()
    await scene.take(scene.accepted(0, "x", "crm:b"))


async def on(dsn: str, act: Callable[[Scene], Awaitable[None]]) -> None:
    """Acts on an empty log."""
    connection = await connect(dsn)
    scene = Scene(connection)
    await scene.begin(dsn)
    await act(scene)
    await connection.close()


def test_a_channel_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two mails arrive, the alert and its end; a refusal ends with 1 and an unknown channel with 2."""
    box = Mailbox()
    box.controller.start()
    channels = tmp_path / "channels.yaml"
    smtp = {"type": "smtp", "host": "127.0.0.1", "port": box.controller.port, "security": "none"}
    mail = smtp | {"sender": "leadlog@example.com", "recipients": ["oncall@example.com"]}
    channels.write_text(json.dumps({"channels": {"mail": mail}}))
    monkeypatch.setattr(settings, "ALERTS", str(channels))
    leadlog = commands_on("postgresql://127.0.0.1:9/none")
    try:
        assert leadlog("alerts", "test", "mail").exit_code == 0
        assert [str(each["Subject"]) for each in box.mails] == [
            "[warning] Test of a channel, nothing is wrong",
            "[resolved] Test of a channel, nothing is wrong",
        ]
        box.refuse = "554 no"
        refused = leadlog("alerts", "test", "mail")
        assert (refused.exit_code, "SMTP 554" in refused.output) == (1, True)
        assert leadlog("alerts", "test", "pager").exit_code == 2
    finally:
        box.controller.stop()
