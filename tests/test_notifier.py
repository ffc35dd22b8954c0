"""What receivers get: one incident per obligation, whatever they do to us.

Real receivers: Alertmanager, an HTTP server that misbehaves, an SMTP server. Leaves what opens and ends to
test_alerts, and kills to test_alerts_crash.
"""

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from schemas import records as r
from services.notifier import process
from services.notifier.config import Alertmanager, AnyChannel, Config, Faulty, Smtp, Takes, Webhook, read
from services.notifier.deliver import Delivery
from services.notifier.dispatch import dispatch
from services.notifier.message import messages
from services.notifier.sending import seconds
from tests.alerting import Scene
from tests.faults.leads import UNTOLD
from tests.receivers import AlertmanagerServer, Mailbox, Receiver, http_receiver, soon
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

OLD, NEW = "whsec_b2xk", "whsec_bmV3"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP address."""
    async with http_receiver() as receiver:
        yield receiver


@asynccontextmanager
async def notifying(dsn: str, *, copies: int = 1, **channels: AnyChannel) -> AsyncIterator[None]:
    """Runs notifiers meanwhile."""
    tasks = [asyncio.create_task(process.run(dsn, Config(channels=channels))) for _ in range(copies)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def webhook(receiver: Receiver, **more: Any) -> Webhook:
    """A channel to the receiver, in the middle of a change of secrets."""
    return Webhook(url=receiver.url, secrets=[OLD, NEW], **more)


async def test_a_receiver_that_misbehaves_sees_one_incident(
    scene: Scene, database: str, receiver: Receiver
) -> None:
    """Errors, silence, a closed connection and Retry-After: sent again, under one id, until it is taken."""
    receiver.behaviours = ["error", "hang", "close", "busy"]
    receiver.retry_after = "3"
    async with notifying(database, hook=webhook(receiver, timeout=1)):
        await scene.take(scene.mql(200))
        await scene.look()
        await until(partial(noted, scene, "no answer within 1 s"), "the silence was not noted")
        await soon(lambda: len(receiver.got) == 5, "it was not sent again")
        await scene.take(scene.accepted(0))
        await soon(lambda: len(receiver.got) == 6, "the end was not sent")
    assert receiver.incidents() == {"review:start": 1}
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 2
    busy, after = receiver.got[3][0], receiver.got[4][0]
    assert after - busy >= 3
    body = msgspec.json.decode(receiver.got[0][2])
    [owed] = body["data"]["obligations"]
    assert body["type"] == "alert.opened"
    assert (owed["policy"], owed["journey_id"], owed["lead"]) == ("review", "crm:1", "leadlog lead crm:1")
    assert owed["late_seconds"] >= 100


async def test_a_receiver_that_is_back_is_told_at_once(
    scene: Scene, database: str, receiver: Receiver
) -> None:
    """What waits for another try goes out as soon as anything was taken, however long it was to wait."""
    receiver.behaviours = ["error"]
    async with notifying(database, hook=webhook(receiver)):
        await scene.take(scene.mql(200, "a", "crm:a"))
        await scene.look()
        await soon(lambda: len(receiver.got) == 1, "nothing was sent")
        await until(partial(postponed, scene), "the failure was not noted")
        await scene.take(scene.mql(200, "b", "crm:b"))
        await scene.look()
        await soon(lambda: len(receiver.taken) == 2, "it was not sent again")
    assert [told["data"]["key"] for told in receiver.taken] == ["review:b", "review:a"]


async def noted(scene: Scene, error: str) -> bool:
    """Whether this went wrong last."""
    return bool(await scene.connection.fetchval("select error = $1 from ops.delivery", error))


async def postponed(scene: Scene) -> bool:
    """Puts off what failed, as many failures would; whether there was any."""
    done = await scene.connection.execute(
        "update ops.delivery set next_at = now() + interval '1 hour' where failing_since is not null"
    )
    return bool(done == "UPDATE 1")


async def test_a_receiver_that_asks_for_patience_does_not_keep_the_fallback_from_being_told(
    scene: Scene, database: str, receiver: Receiver
) -> None:
    """What failed and what was not even tried meanwhile; 503 with a long Retry-After silenced on-call."""
    receiver.behaviours = ["busy"] * 9
    receiver.retry_after = "99999999999999999"
    other = Receiver()
    await other.listen()
    try:
        hook = webhook(receiver, fallback="other", fallback_after=1)
        async with notifying(database, hook=hook, other=webhook(other, is_fallback=True)):
            await scene.take(scene.mql(200, "a", "crm:a"))
            await scene.look()
            await soon(lambda: len(receiver.got) == 1, "nothing was sent")
            await scene.take(scene.mql(200, "b", "crm:b"))
            await scene.look()
            await soon(lambda: len(other.taken) == 2, "the fallback was not told of both")
    finally:
        await other.leave()
    assert sorted(told["data"]["key"] for told in other.taken) == ["review:a", "review:b"]
    assert len(receiver.got) == 1


async def test_a_channel_that_refuses_falls_back(scene: Scene, database: str, receiver: Receiver) -> None:
    """What a receiver refuses for good is given up visibly, and another channel is told, of the end too.

    A line break in the owner's id made no mail of it, and ended the notifier.
    """
    receiver.behaviours = ["gone"]
    box = Mailbox()
    box.controller.start()
    mail = Smtp(
        host="127.0.0.1",
        port=box.controller.port,
        security="none",
        sender="leadlog@example.com",
        recipients=["oncall@example.com"],
        is_fallback=True,
    )
    odd_owner = r.LeadAssigned(**scene.at(300, "assigned"), owner_id="anna\nlee")
    try:
        async with notifying(database, hook=webhook(receiver, fallback="mail"), mail=mail):
            await scene.take(odd_owner, scene.mql(200))
            await scene.look()
            await soon(lambda: len(box.mails) == 1, "the fallback was not told")
            rows = await scene.connection.fetch(
                "select channel, error, gave_up_at is not null as gave_up from ops.delivery order by channel"
            )
            assert [(row["channel"], row["gave_up"]) for row in rows] == [("hook", True), ("mail", False)]
            assert "HTTP 410" in rows[0]["error"]
            await scene.take(scene.accepted(0))
            await soon(lambda: len(box.mails) == 2, "the fallback was not told of the end")
    finally:
        box.controller.stop()
    first, last = box.mails
    assert first["References"] == last["References"]
    assert first["Message-ID"] != last["Message-ID"]
    assert first["Subject"] == "[critical] review of lead crm:1 (anna lee): overdue"
    assert "lead crm:1" in first.as_string()


async def test_a_corrected_channel_is_told_what_was_given_up(
    scene: Scene, database: str, receiver: Receiver
) -> None:
    """After the notifier is started again: what is open, and the end of what it heard of, but no end of what
    it never heard of."""
    await scene.take(*(scene.mql(200, id, f"crm:{id}") for id in ("open", "heard", "never")))
    await scene.look()
    receiver.behaviours = ["gone", "ok", *["gone"] * 3]
    async with notifying(database, hook=webhook(receiver)):
        await soon(lambda: len(receiver.got) == 3, "not all were tried")
        told = receiver.taken[0]["data"]["key"].removeprefix("review:")
        others = sorted({"open", "heard", "never"} - {told})
        await scene.take(scene.accepted(0, "x", f"crm:{told}"), scene.accepted(0, "y", f"crm:{others[0]}"))
        await soon(lambda: len(receiver.got) == 5, "the ends were not tried")
        await until(partial(given_up, scene, 3), "the refusals were not noted")
    receiver.taken.clear()
    async with notifying(database, hook=webhook(receiver)):
        await soon(lambda: len(receiver.taken) == 2, "the corrected channel was not told")
    assert {each["data"]["key"]: each["data"]["state"] for each in receiver.taken} == {
        f"review:{told}": "resolved",
        f"review:{others[1]}": "firing",
    }


async def given_up(scene: Scene, count: int) -> bool:
    """Whether so many are tried no more."""
    return bool(await scene.connection.fetchval("select count(gave_up_at) from ops.delivery") == count)


async def test_people_are_told_how_it_ended(scene: Scene, database: str, receiver: Receiver) -> None:
    """Done late, or taken back since a pause was logged late: each in its words, without a next step."""
    await scene.take(scene.mql(200, "a", "crm:a"), scene.mql(60, "b", "crm:b"))
    await scene.look()
    async with notifying(database, hook=webhook(receiver)):
        await soon(lambda: len(receiver.taken) == 2, "the alerts were not sent")
        await scene.take(scene.accepted(0, "x", "crm:a"))
        await scene.take(r.ClockPaused(**scene.at(55, "p", "crm:b"), reason_code="holiday"))
        await soon(lambda: len(receiver.taken) == 4, "the ends were not sent")
    ends = {told["data"]["key"]: told["data"] for told in receiver.taken[2:]}
    assert {key: (each["state"], each["summary"]) for key, each in ends.items()} == {
        "review:a": ("resolved", "review of lead crm:a (nobody): done, too late"),
        "review:b": ("withdrawn", "review of lead crm:b (nobody): not due yet after all"),
    }
    assert {each["obligations"][0]["next_step"] for each in ends.values()} == {None}


async def test_two_notifiers_send_each_message_once(scene: Scene, database: str, receiver: Receiver) -> None:
    """They share nothing but Postgres; a channel is worked by one of them."""
    async with notifying(database, copies=2, hook=webhook(receiver)):
        await scene.take(*(scene.mql(200, f"s{n}", f"crm:{n}") for n in range(20)))
        await scene.look()
        await soon(lambda: len(receiver.got) >= 20, "not all were sent")
        await scene.take(scene.accepted(0, "a", "crm:0"))
        await soon(lambda: len(receiver.got) >= 21, "the end was not sent")
    assert len(receiver.got) == 21
    assert set(receiver.incidents().values()) == {1}


async def test_what_was_over_before_it_could_be_told_is_not_told(
    scene: Scene, database: str, receiver: Receiver
) -> None:
    """And channels get what they take: this one only breaches, but then the end too."""
    await scene.take(scene.mql(200, "a", "crm:a"), scene.mql(60, "b", "crm:b"), scene.mql(200, "c", "crm:c"))
    await scene.look()
    await scene.take(scene.accepted(0, "x", "crm:a"))
    async with notifying(database, hook=webhook(receiver, takes=Takes(severity=["critical"]))):
        await soon(lambda: len(receiver.taken) == 1, "the breach was not sent")
        await scene.take(scene.accepted(0, "y", "crm:b"), scene.accepted(0, "z", "crm:c"))
        await soon(lambda: len(receiver.taken) == 2, "the end was not sent")
    assert [(told["data"]["key"], told["data"]["state"]) for told in receiver.taken] == [
        ("review:c", "firing"),
        ("review:c", "resolved"),
    ]


async def test_what_opens_again_after_it_was_over_before_it_could_be_told_is_told(
    scene: Scene, receiver: Receiver
) -> None:
    """It waited for a receiver that had asked for patience, and its end was seen before it was handed over:
    what came afterwards was never sent."""
    config = Config(channels={"hook": webhook(receiver)})
    async with aiohttp.ClientSession() as http:
        delivery = Delivery(scene.connection, http, config, "hook")
        await scene.take(scene.mql(200))
        await scene.look()
        await dispatch(scene.connection, config)
        await scene.connection.execute(
            "insert into ops.channel (channel, paused_until) values ('hook', 'infinity')"
        )
        assert await delivery.step() == 0
        await scene.connection.execute("update ops.channel set paused_until = null")
        await scene.take(scene.accepted(0))
        assert await delivery.step() == 1
        await dispatch(scene.connection, config)
        assert await delivery.step() == 0
        assert await scene.connection.fetchval(UNTOLD) == 0
        await scene.take(r.EventRetracted(**scene.at(0, "no"), target_event_id="accept", reason_code="test"))
        await scene.look()
        await dispatch(scene.connection, config)
        assert await delivery.step() == 1
    assert [told["data"]["state"] for told in receiver.taken] == ["firing"]


@pytest.mark.slow
async def test_alertmanager_tells_people_once(
    scene: Scene, database: str, receiver: Receiver, tmp_path: Path
) -> None:
    """One incident from the warning over the breach to the end, though Alertmanager was killed meanwhile."""
    server = AlertmanagerServer(tmp_path, receiver)
    await server.start()
    channel = Alertmanager(url=server.url, resend=1)

    async def breached() -> bool:
        await scene.look()
        return (await server.active()).get("review:start") == "critical"

    async def ended() -> bool:
        return "review:start" not in await server.active()

    async def watched() -> bool:
        await scene.look()
        return "watchdog" in await server.active()

    try:
        async with notifying(database, pager=channel):
            await scene.take(scene.mql(90))
            await scene.look()
            await soon(lambda: bool(receiver.taken), "nobody was told of the warning")
            await until(breached, "the breach did not arrive")
            server.kill()
            await server.start()
            await until(breached, "it was not sent again after the restart")
            await until(watched, "the watchdog does not fire")
            await scene.take(scene.accepted(0))
            await until(ended, "it was not resolved")
            await soon(
                lambda: "resolved" in [t["status"] for t in receiver.taken], "nobody was told of the end"
            )
    finally:
        server.kill()
    assert receiver.alertmanager_incidents() == {"review:start": 1}


async def test_alertmanager_forgets_a_severity_that_an_alert_no_longer_has(
    scene: Scene, database: str, receiver: Receiver, tmp_path: Path
) -> None:
    """A breach that is not even due soon after all was lowered and withdrawn at once: told of the end of a
    warning only, Alertmanager kept the breach for an hour."""
    server = AlertmanagerServer(tmp_path, receiver)
    await server.start()

    async def has(*alerts: str) -> bool:
        return sorted((await server.active()).values()) == sorted(alerts)

    try:
        async with notifying(database, pager=Alertmanager(url=server.url, resend=1, watchdog=False)):
            await scene.take(scene.mql(200))
            await scene.look()
            await until(partial(has, "critical"), "the breach did not arrive")
            await scene.take(r.ClockPaused(**scene.at(190, "p"), reason_code="holiday"))
            await until(has, "the breach is still there")
    finally:
        server.kill()


def test_retry_after_is_seconds_or_a_date() -> None:
    """Both forms of RFC 9110; anything else is no answer."""
    assert seconds("7", 0.0) == 7
    assert seconds("Thu, 01 Jan 1970 00:01:00 GMT", 10.0) == 50
    assert seconds("soon", 0.0) is None
    assert seconds("99999999999999999", 0.0) == seconds("9" * 400, 0.0) == 3600
    assert seconds(None, 0.0) is None


def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path) -> None:
    """The fault names the file, the place and what was expected."""
    file = tmp_path / "channels.yaml"
    file.write_text("channels: {a: {type: webhook, url: 'http://x', secrets: [whsec_eA==], fallback: b}}")
    with pytest.raises(Faulty, match="fallback of a is b, expected one of the other"):
        read(str(file))
    file.write_text("channels: {a: {type: pigeon}}")
    with pytest.raises(Faulty, match=r"Invalid value 'pigeon'.*channels"):
        read(str(file))


@pytest.mark.parametrize("password", ["*geheim", "@geheim", '"geheim', "!geheim x", "'a' geheim"])
def test_a_password_is_not_quoted_when_it_is_no_yaml(tmp_path: Path, password: str) -> None:
    """The line stood on the terminal, and in the log at each of the notifier's attempts to start."""
    file = tmp_path / "channels.yaml"
    file.write_text(f"channels:\n  mail:\n    type: smtp\n    password: {password}\n    host: mx\n")
    with pytest.raises(Faulty, match=r"line \d, column \d+, is no YAML") as refused:
        read(str(file))
    assert "geheim" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("channels: {a: {type: webhook, url: 'http://x', secrets: ['hello world!']}}", "is not `whsec_`"),
        ("channels: {a: {type: alertmanager, url: 'http://x', per_minute: 0}}", "Expected `int` >= 1"),
        ("channels: {a: {type: alertmanager, url: 'http://x', timeout: -1}}", "Expected `float` > 0"),
        ("channels: {a: {type: alertmanager, url: 'http://x', fallback: a}}", "fallback of a is a"),
        (
            "lead_url: 'https://crm/{lead_id}'",
            "lead_url cannot be filled in: braces are for .journey_id",
        ),
        ("lead_url: 'https://crm/{journey_id.x}'", "lead_url cannot be filled in"),
        ("runbook_url: 'https://wiki/{'", "runbook_url cannot be filled in"),
        ("lead_url: 'caf\xe9'", "can't decode byte"),
    ],
)
def test_a_file_that_would_fail_when_an_alert_is_told_is_refused_before(
    tmp_path: Path, part: str, reason: str
) -> None:
    """The notifier ended with the first alert, for all channels."""
    file = tmp_path / "channels.yaml"
    file.write_text(part, encoding="latin-1")
    with pytest.raises(Faulty, match=reason):
        read(str(file))


async def test_an_alert_whose_obligation_another_one_took_over_can_be_told(scene: Scene) -> None:
    """Its end was still to be told when nothing was left to say of it: no channel was told of anything."""
    alert_id = await scene.connection.fetchval(
        "insert into ops.alert (alert_key, is_digest, severity, closed_at, outcome) "
        "values ('review:start', false, 'critical', now(), 'resolved') returning alert_id"
    )
    told = await messages(scene.connection, Config(), [alert_id])
    assert (told[alert_id].summary, told[alert_id].count) == ("over", 0)


async def test_a_receiver_that_points_elsewhere_has_not_taken_it(
    scene: Scene, database: str, receiver: Receiver
) -> None:
    """A redirect, to a page of login perhaps, was followed and counted as told."""
    receiver.behaviours = ["moved"] * 2
    async with notifying(database, hook=webhook(receiver)):
        await scene.take(scene.mql(200))
        await scene.look()
        error = "HTTP 302: not taken, it points elsewhere"
        await until(partial(noted, scene, error), "the redirect was not noted")
    assert receiver.taken == []


def test_a_link_to_a_lead_holds_its_id_whole() -> None:
    """An id with characters that mean something in an address is one part of it; a command has it plain."""
    odd = "web:a/b ?#"
    assert (
        Config(lead_url="https://crm/lead/{journey_id}").lead(odd) == "https://crm/lead/web%3Aa%2Fb%20%3F%23"
    )
    assert Config().lead(odd) == f"leadlog lead {odd}"
