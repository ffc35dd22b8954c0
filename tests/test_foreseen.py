"""What is said of a switch of versions beforehand, about obligations and alerts, is what the switch does.

Promises: said for versions that are fed, by policies made for each case and by random ones. Leaves what
happens to obligations without a switch to test_alerts.
"""

import asyncio
import json
from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest

from schemas import records as r
from services.cli.exits import REFUSED
from services.clock import reconcile
from services.registry import Registry
from services.replay.diff import diff
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.obligations import Key
from services.store.timeline import TimelineEntry
from services.store.versions import create_version, promote
from tests.alerting import REVIEW, Scene, definition
from tests.feeding import commands_on
from tests.histories import DAY, MINUTE, MONDAY, chance, random_definition
from tests.live import let_feed
from tests.replaying import many_logs

pytestmark = pytest.mark.servers

HOUR = 3600


async def test_what_is_said_of_a_switch_is_what_it_does(scene: Scene) -> None:
    """Beforehand: obligations that end, each with its reason, those that on-call is told of, and those that
    stay silent; one that only takes over an alert is none of them. The same of the way back."""
    second = await other_policies(scene)
    said = await said_and_done(scene, second)
    assert said.told == {("strict", "late"), ("warned", "late"), ("warned", "old")}
    assert said.silent == {("strict", "old")}
    assert {key: reason for key, reason in said.ends.items() if key[1] == "late"} == {
        ("review", "late"): "not_due",
        ("dropped", "late"): "gone",
        ("seen", "late"): "met_logged_late",
        ("left", "late"): "stopped_late",
    }
    assert said.shifts == dict.fromkeys([("raised", "late"), ("raised", "old")], "raises")
    back = await said_and_done(scene, 2)
    assert back.told == said.ends.keys()
    assert back.ends.keys() == said.told | said.silent
    assert back.silent == set()
    assert back.shifts == dict.fromkeys(said.shifts, "lowers")


async def test_a_diff_shows_told_and_silent_apart(scene: Scene, stack: Addresses, database: str) -> None:
    """By policy: what opens and what closes, with the reason, and of how many of them on-call would hear."""
    second = await other_policies(scene)
    addresses = stack._replace(postgres_dsn=database)
    async with Registry(addresses.registry_url) as registry:
        await registry.deploy()
    await diff(addresses, second, lambda _: None, Effort(1, 0))
    shown = await asyncio.to_thread(commands_on(database), "replay", "diff", str(second), "--show", "--json")
    assert shown.exit_code == REFUSED, shown.output
    alerts = [tuple(each.values()) for each in json.loads(shown.stdout)["alerts"]]
    assert alerts == [
        ("dropped", "closes", "gone", 2, 0),
        ("left", "closes", "stopped_late", 2, 0),
        ("raised", "raises", "", 2, 0),
        ("review", "closes", "not_due", 2, 0),
        ("seen", "closes", "met_logged_late", 2, 0),
        ("strict", "opens", "", 1, 1),
        ("warned", "opens", "", 2, 0),
    ]
    text = await asyncio.to_thread(commands_on(database), "replay", "diff", str(second), "--show")
    assert "dropped  closes, it has no such clock" in text.output
    assert "silent: overdue for more than 1h already when it came, so nobody is told" in text.output


async def test_an_alert_that_comes_back_to_a_clock_is_as_high_as_the_clock_says(scene: Scene) -> None:
    """Told as a breach, moved to another clock, lowered to a warning there, moved back: a breach again."""
    short, long = {"target": "100s", "warn_at": [0.001]}, {"target": "1d", "warn_at": [0.0001]}
    owned = {"start": [{"record": "LeadAssigned"}]}
    async with scene.connection.transaction():
        for changes in ({"moving": short | owned}, {"moving": short}, {"moving": long}):
            timeline = [TimelineEntry(None, policies(changes))]
            await let_feed(scene.connection, await create_version(scene.connection, timeline))
        await promote(scene.connection, 2)
    assigned = r.LeadAssigned(**scene.at(150, "owner"), owner_id="ann")
    await scene.take(scene.mql(200), assigned)
    await scene.look()
    for number, severity in ((3, "critical"), (4, "warning"), (2, "critical")):
        await said_and_done(scene, number)
        assert [alert.severity for alert in await scene.alerts() if alert.outcome is None][:1] == [severity]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [8, 22, 32, 55, 131])
async def test_it_is_so_for_random_policies_and_logs(scene: Scene, seed: int) -> None:
    """Switched six times between three versions, with alerts that end, begin, run again and move."""
    rng = Random(seed)
    await random_scene(scene, rng)
    said = [await said_and_done(scene, rng.choice((2, 3, 4))) for _ in range(6)]
    assert any(each.told or each.ends for each in said)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_what_goes_on_is_left_as_if_settled_one_by_one(
    scene: Scene, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Obligations that a switch need not look at one by one come out as if it did."""
    rng = Random(seed)
    await random_scene(scene, rng)
    for _ in range(6):
        number = rng.choice((2, 3, 4))
        at_once = await switched(scene, number)
        with monkeypatch.context() as patch:
            patch.setattr(reconcile, "GO_ON", reconcile.KNOWN)
            assert at_once ^ await switched(scene, number) == set()
        await scene.take_over(number)
        await scene.look()


async def switched(scene: Scene, number: int) -> set[tuple[Any, ...]]:
    """What a switch and a look would leave of the obligations that there are, whatever the time is."""
    connection = scene.connection
    transaction = connection.transaction()
    await transaction.start()
    try:
        keys = {tuple(row) for row in await connection.fetch(reconcile.KNOWN)}
        await scene.take_over(number)
        await scene.look()
        return {tuple(row) for query in LEFT for row in await connection.fetch(query) if row[:2] in keys}
    finally:
        await transaction.rollback()


LEFT = (
    """select obligation.policy_id, started_event_id, severity, revision, change, alert.outcome, journey_id,
         clock_no, started_at, due_at, owner_id, obligation.team_id, definition_version,
         obligation.closed_at is null, obligation.outcome, reason, ended_by_event_id, is_closed_by_switch
       from ops.obligation left join ops.alert using (alert_id)""",
    "select policy_id, started_event_id, threshold from ops.fired",
    "select split_part(message_id, ':', 2), split_part(message_id, ':', 3), message_id from ops.outbox",
)


async def random_scene(scene: Scene, rng: Random) -> None:
    """Three versions by random policies, and the alerts of random logs by one of them."""
    async with scene.connection.transaction():
        for version in (2, 3, 4):
            timeline = [TimelineEntry(None, random_policies(rng, version))]
            await let_feed(scene.connection, await create_version(scene.connection, timeline))
        await promote(scene.connection, 2)
    await scene.take(*(squeezed(event, scene.now) for event in many_logs(rng, 12, 12)))
    await scene.look()


def random_policies(rng: Random, version: int) -> str:
    """A random definition whose policies run for minutes and hours; every threshold is a whole minute."""
    body = json.loads(random_definition(rng, version, "clocks"))
    for policy in body["sla"]:
        for name in ("filter", "calendar"):
            policy.pop(name, None)
        policy |= {"time": "calendar", "target": rng.choice(["10m", "20m", "40m", "70m", "2h", "5h"])}
        policy["warn_at"] = rng.choice([[0.1, 0.5], [0.9], [0.1], []])
        if chance(rng, 50):
            policy["start"] = [{"record": "TouchRecorded"}]
    return json.dumps(body)


def squeezed(event: r.Record, now: int) -> r.Record:
    """Three weeks in two and a half hours before now, at half minutes, so that no threshold is reached
    meanwhile."""
    minutes = (21 * DAY - (event.occurred_at - MONDAY)) // (200 * MINUTE)
    at = now - minutes * MINUTE - MINUTE // 2
    return msgspec.structs.replace(event, occurred_at=at, recorded_at=at)


class Said(NamedTuple):
    """What was said of a switch."""

    told: set[Key]
    silent: set[Key]
    ends: dict[Key, str]
    shifts: Mapping[Key, str]


BEFORE: dict[str, dict[str, Any]] = {name: {} for name in ("review", "dropped", "seen", "left", "moving")}
BEFORE["raised"] = {"target": "1d", "warn_at": [0.001]}
AFTER: dict[str, dict[str, Any]] = {
    "review": {"target": "1d"},
    "strict": {"target": "10s"},
    "warned": {"target": "3h", "warn_at": [0.01]},
    "seen": {"stop": [{"record": "LeadAssigned"}]},
    "left": {"stop": [{"record": "ContentRequested"}]},
    "raised": {"warn_at": [0.001]},
    "moving": {"start": [{"record": "LeadAssigned"}]},
}
"""Policies of one version and of the other, and what each has otherwise than `REVIEW`."""


def policies(changes: dict[str, dict[str, Any]]) -> str:
    """A definition with these policies."""
    return definition(*(REVIEW | {"id": name} | changed for name, changed in changes.items()))


async def other_policies(scene: Scene) -> int:
    """Two leads with alerts of every policy of the first version; the second version is fed."""
    connection = scene.connection
    async with connection.transaction():
        for changes in (BEFORE, AFTER):
            await let_feed(
                connection, await create_version(connection, [TimelineEntry(None, policies(changes))])
            )
        await promote(connection, 2)
    for ago, name in ((200, "late"), (2 * HOUR, "old")):
        lead = f"crm:{name}"
        await scene.take(
            scene.mql(ago, name, lead),
            r.LeadAssigned(**scene.at(ago - 50, f"{name}-owner", lead), owner_id="ann"),
            r.ContentRequested(**scene.at(ago - 150, f"{name}-asked", lead), request_id="q", topic="t"),
        )
    await scene.look()
    return 3


async def said_and_done(scene: Scene, number: int) -> Said:
    """Switches and looks, and finds what was said beforehand."""
    foreseen = await reconcile.would_change(scene.connection, f"v{number:04d}")
    told = {each.key for each in foreseen if each.change == "opens" and not each.is_silent}
    silent = {each.key for each in foreseen if each.change == "opens" and each.is_silent}
    ends = {each.key: each.reason for each in foreseen if each.change == "closes"}
    shifts = {each.key: each.change for each in foreseen if each.change in ("raises", "lowers")}
    before = await obligations(scene)
    await scene.take_over(number)
    switched = await obligations(scene)
    await scene.look()
    after = await obligations(scene)
    ended = {
        key: each
        for key, each in switched.items()
        if not each.is_open and (key not in before or each.closed_at != before[key].closed_at)
    }
    kept = {key for key, each in switched.items() if each.is_open and each.is_told}
    assert ends == {key: each.reason for key, each in ended.items() if each.outcome != "moved"}
    heard = {key for key, each in after.items() if each.is_open and each.is_told}
    assert told == heard - kept
    assert not silent & heard
    severity = {each.alert_id: each.severity for each in before.values()}
    assert shifts == {
        key: "raises" if after[key].severity == "critical" else "lowers"
        for key in heard & kept
        if after[key].severity != severity[after[key].alert_id]
    }
    return Said(told, silent, ends, shifts)


class Known(NamedTuple):
    """An obligation as `ops` has it."""

    closed_at: int | None
    alert_id: int | None
    severity: str | None
    outcome: str | None
    reason: str | None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.closed_at is None

    @property
    def is_told(self) -> bool:
        """Whether it has an alert."""
        return self.alert_id is not None


OBLIGATIONS = """
select obligation.policy_id, started_event_id, obligation.closed_at, alert_id, severity, obligation.outcome,
  reason
from ops.obligation left join ops.alert using (alert_id)
"""


async def obligations(scene: Scene) -> dict[Key, Known]:
    """Every obligation."""
    return {(row[0], row[1]): Known(*row[2:]) for row in await scene.connection.fetch(OBLIGATIONS)}
