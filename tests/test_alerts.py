"""Obligations and alerts on a real Postgres: one incident per obligation, whatever the log does.

Promises: what the clock opens and raises and what the projector ends. Leaves receivers to test_notifier, and
kills to test_alerts_crash.
"""

import asyncio
from functools import partial

import pytest

from projections import journey
from schemas import records as r
from schemas.derived import ClockMet, StageEntered
from services import settings
from services.clock import look, process
from services.store.locks import CLOCK
from services.store.obligations import TELL_CLOCK
from services.store.timeline import TimelineEntry
from services.store.versions import create_version
from tests.alerting import REVIEW, TARGET, Alert, Scene, clocks, definition
from tests.live import let_feed
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

HOUR = 3600
LEADER = f"""
select pid from pg_locks join pg_database on oid = database
where locktype = 'advisory' and objid = {CLOCK} and granted and datname = current_database()
"""
AS_IF_TIME_PASSED = """
update v0001.sla_clock set due_at = now();
update v0001.sla_warning set warn_at = now() - interval '1 microsecond' where share = 0.9
"""


async def test_a_warning_opens_and_the_breach_raises_one_alert(scene: Scene) -> None:
    """Each threshold fires once, in order; looking again changes nothing."""
    await scene.take(scene.mql(TARGET / 2))
    assert await scene.look() == 1
    assert await scene.look() == 0
    assert await scene.alerts() == [Alert("review:start", "warning", "opened", None, [None])]
    await scene.connection.execute(AS_IF_TIME_PASSED)
    assert await scene.look() == 2
    assert await scene.look() == 0
    assert await scene.alerts() == [Alert("review:start", "critical", "raised", None, [None])]
    told = ["clock_warned@0.5:review:start", "clock_warned@0.9:review:start", "clock_breached:review:start"]
    assert clocks(await scene.told()) == told


async def test_nothing_fires_early(scene: Scene) -> None:
    """Before the first warning there is no alert, and the clock knows how long it may sleep."""
    await scene.take(scene.mql(TARGET / 2 - 20))
    assert await scene.look() == 0
    assert await scene.alerts() == []


async def test_time_that_is_set_back_hides_nothing(scene: Scene) -> None:
    """The clock had been an hour ahead: a warning in that hour comes when it is due."""
    await scene.connection.execute(
        "update ops.clock set fired_until = now() + interval '1 hour', beat_at = now() + interval '1 hour'"
    )
    await scene.take(scene.mql(TARGET / 2 - 20))
    assert await scene.look() == 0
    await scene.connection.execute("update v0001.sla_warning set warn_at = now() where share = 0.5")
    assert await scene.look() == 1


async def test_an_acceptance_ends_it(scene: Scene) -> None:
    """Met after a warning, or late: the alert is resolved, once."""
    await scene.take(scene.mql(60, "a", "crm:a"), scene.mql(200, "b", "crm:b"))
    await scene.look()
    await scene.take(scene.accepted(0, "a2", "crm:a"), scene.accepted(0, "b2", "crm:b"))
    await scene.look()
    assert {alert.key: (alert.outcome, alert.reasons) for alert in await scene.alerts()} == {
        "review:a": ("resolved", ["met"]),
        "review:b": ("resolved", ["stopped_late"]),
    }


async def test_a_rejection_a_move_and_an_erasure_end_it(scene: Scene) -> None:
    """Each resolves the alert of its lead, with its own reason."""
    await scene.take(*(scene.mql(200, id, f"crm:{id}") for id in ("rejected", "moved", "erased")))
    await scene.look()
    await scene.take(
        r.HandoffRejected(**scene.at(0, "r", "crm:rejected"), reason_code="no_need", return_to="nurture"),
        r.StageChanged(**scene.at(0, "m", "crm:moved"), to_stage="Disqualified", reason_code="spam"),
        r.SubjectErased(**scene.at(0, "e", "crm:erased"), request_id="1"),
    )
    assert {alert.key: (alert.outcome, alert.reasons) for alert in await scene.alerts()} == {
        "review:rejected": ("resolved", ["stopped_late"]),
        "review:moved": ("resolved", ["moved"]),
        "review:erased": ("resolved", ["erased"]),
    }


async def test_late_evidence_withdraws_it(scene: Scene) -> None:
    """Accepted in time and recorded after the breach: withdrawn, and the conclusion says logged late."""
    await scene.take(scene.mql(200))
    await scene.look()
    await scene.take(scene.accepted(150))
    assert await scene.alerts() == [
        Alert("review:start", "critical", "withdrawn", "withdrawn", ["met_logged_late"])
    ]
    told = await scene.told()
    assert clocks(told)[-2:] == ["clock_withdrawn:review:start", "clock_met:review:start"]
    assert [each.is_logged_late for each in told if isinstance(each, ClockMet)] == [True]


async def test_a_late_start_takes_the_alert_along(scene: Scene) -> None:
    """An earlier form that arrives later starts the clock instead: the same alert, no second one; other
    systems hear the end of the one clock and what holds of the other."""
    await scene.take(scene.mql(60))
    await scene.look()
    await scene.take(scene.mql(200, "earlier"))
    await scene.look()
    [alert] = await scene.alerts()
    assert (alert.key, alert.severity, alert.outcome) == ("review:start", "critical", None)
    assert sorted(map(str, alert.reasons)) == ["None", "earlier"]
    told = ["clock_withdrawn:review:start"]
    told += [f"clock_{what}:review:earlier" for what in ("warned@0.5", "warned@0.9", "breached")]
    assert clocks(await scene.told()) == told
    assert [each.reason for each in await scene.withdrawn()] == ["moved"]


async def test_a_retracted_start_ends_it_and_a_restored_one_is_the_same_incident(scene: Scene) -> None:
    """The obligation is gone with its event, which other systems are told, and back with it, under the same
    key."""
    await scene.take(scene.mql(200))
    await scene.look()
    away = r.EventRetracted(**scene.at(0, "away"), target_event_id="start", reason_code="test")
    await scene.take(away)
    assert [(a.outcome, a.reasons) for a in await scene.alerts()] == [("resolved", ["gone"])]
    [withdrawn] = await scene.withdrawn()
    assert withdrawn.event_id == "clock_withdrawn:review:start"
    assert (withdrawn.journey_id, withdrawn.reason) == ("crm:1", "gone")
    await scene.take(r.EventRetracted(**scene.at(0, "back"), target_event_id="away", reason_code="test"))
    await scene.look()
    assert [(a.key, a.change, a.outcome) for a in await scene.alerts()] == [
        ("review:start", "reopened", None)
    ]


async def test_a_breach_that_is_over_is_taken_back_with_its_start(scene: Scene) -> None:
    """Stopped late, then the start is retracted: whoever acted on the breach is told once that it never was;
    the alert stays over."""
    await scene.take(scene.mql(200, "a", "crm:a"), scene.mql(200, "b", "crm:b"))
    await scene.look()
    await scene.take(scene.accepted(0, "a2", "crm:a"), scene.accepted(0, "b2", "crm:b"))
    assert await scene.withdrawn() == []
    await scene.take(r.EventRetracted(**scene.at(0, "x", "crm:a"), target_event_id="a", reason_code="test"))
    await scene.take(scene.mql(0, "again", "crm:a"))
    assert [each.event_id for each in await scene.withdrawn()] == ["clock_withdrawn:review:a"]
    assert {a.outcome for a in await scene.alerts()} == {"resolved"}


async def test_an_acceptance_taken_back_opens_it_again(scene: Scene) -> None:
    """What is owed again is told again, as the same incident."""
    await scene.take(scene.mql(200))
    await scene.look()
    await scene.take(scene.accepted(0))
    await scene.take(r.EventRetracted(**scene.at(0, "x"), target_event_id="accept", reason_code="test"))
    await scene.look()
    assert await scene.alerts() == [Alert("review:start", "critical", "reopened", None, [None])]


async def test_links_and_unlinks_make_no_second_alert(scene: Scene) -> None:
    """Two leads that become one, and two again: each obligation keeps its alert, or ends with it."""
    await scene.take(scene.mql(200, "a", "crm:b"), scene.mql(150, "b", "web:1"))
    await scene.look()
    link = r.SubjectsLinked(**scene.at(0, "link", "crm:b"), other_subject_id="web:1", evidence="same_email")
    await scene.take(link)
    await scene.look()
    assert {a.key: a.outcome for a in await scene.alerts()} == {"review:a": None, "review:b": "resolved"}
    await scene.take(
        link_to := r.SubjectsLinked(**scene.at(0, "l2", "crm:a"), other_subject_id="crm:b", evidence="manual")
    )
    assert link_to.other_subject_id == "crm:b"  # the journey has another name from now on
    await scene.take(r.SubjectsUnlinked(**scene.at(0, "u", "crm:b"), link_event_id="link", reason_code="no"))
    await scene.look()
    assert {a.key: (a.outcome, a.change) for a in await scene.alerts()} == {
        "review:a": (None, "opened"),
        "review:b": (None, "reopened"),
    }
    journeys = await scene.connection.fetch("select journey_id from ops.obligation order by started_event_id")
    assert [row["journey_id"] for row in journeys] == ["crm:a", "web:1"]


async def test_a_late_pause_lowers_what_was_told_too_early(scene: Scene) -> None:
    """The clock was paused before it was due: the alert is a warning again, and raised when it is due. The
    breach is withdrawn, and what holds is told again."""
    await scene.take(scene.mql(200))
    await scene.look()
    await scene.take(r.ClockPaused(**scene.at(130, "p"), reason_code="holiday"))
    await scene.look()
    assert [(a.severity, a.change, a.outcome) for a in await scene.alerts()] == [("warning", "lowered", None)]
    assert clocks(await scene.told()) == ["clock_withdrawn:review:start", "clock_warned@0.5:review:start"]
    await scene.take(r.ClockResumed(**scene.at(90, "q"), reason_code="back"))
    await scene.look()
    assert [(a.severity, a.change, a.outcome) for a in await scene.alerts()] == [("critical", "raised", None)]


async def test_history_pages_nobody(scene: Scene) -> None:
    """Long due when the broker got it: silent, whatever follows. A late record within the bound is told."""
    age = settings.ALERT_MAX_AGE_SECONDS + TARGET
    await scene.take(
        scene.mql(age + 60, "old", "crm:old"), scene.mql(age - 60, "late", "crm:late"), appended_at=scene.now
    )
    assert await scene.look() == 6
    assert [alert.key for alert in await scene.alerts()] == ["review:late"]
    await scene.take(scene.accepted(0, "x", "crm:old"))
    assert [alert.key for alert in await scene.alerts()] == ["review:late"]


async def test_many_at_once_are_one_digest(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """After downtime one alert covers them all; it ends with the last of them."""
    monkeypatch.setattr(settings, "ALERT_DIGEST_OVER", 3)
    subjects = [f"crm:{n}" for n in range(5)]
    await scene.take(*(scene.mql(200, f"s{subject}", subject) for subject in subjects))
    await scene.look()
    [digest] = await scene.alerts()
    assert (digest.key, digest.severity, len(digest.reasons)) == ("digest:1", "critical", 5)
    await scene.take(*(scene.accepted(0, f"a{subject}", subject) for subject in subjects[1:]))
    assert [alert.outcome for alert in await scene.alerts()] == [None]
    await scene.take(scene.accepted(0, "last", subjects[0]))
    assert [alert.outcome for alert in await scene.alerts()] == ["resolved"]


async def test_one_of_a_digest_is_over_or_put_off_by_itself(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is overdue for others is no breach of this one: a pause made a warning of all of them, and what
    was done in time after its warning was taken back."""
    monkeypatch.setattr(settings, "ALERT_DIGEST_OVER", 3)
    late = [scene.mql(200, f"s{n}", f"crm:{n}") for n in range(3)]
    await scene.take(*late, scene.mql(60, "met", "crm:met"), scene.mql(60, "paused", "crm:paused"))
    await scene.look()
    pause = r.ClockPaused(**scene.at(0, "pause", "crm:paused"), reason_code="holiday")
    await scene.take(pause, scene.accepted(0, "accept", "crm:met"))
    await scene.look()
    [digest] = await scene.alerts()
    assert (digest.severity, digest.outcome) == ("critical", None)
    assert sorted(map(str, digest.reasons)) == ["None"] * 4 + ["met"]
    assert await scene.withdrawn() == []
    await scene.take(*(scene.accepted(0, f"a{n}", f"crm:{n}") for n in range(3)))
    [digest] = await scene.alerts()
    assert (digest.severity, digest.change) == ("warning", "lowered")


async def test_a_switch_takes_nothing_back_of_a_merge_that_is_parked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was due before the merge is still due: its clock stands under the id that it had."""
    await scene.take(scene.mql(200), scene.mql(1, "other", "crm:0"))
    await scene.look()
    with monkeypatch.context() as defect:
        defect.setattr(journey, "step", _raises)
        link = r.SubjectsLinked(**scene.at(0, "link"), other_subject_id="crm:0", evidence="identified")
        await scene.take(link)
    assert await scene.connection.fetchval("select count(*) from ops.parked") == 2
    await scene.take_over(1)
    assert [alert.outcome for alert in await scene.alerts()] == [None]
    assert await scene.withdrawn() == []


def _raises(*_: object) -> None:
    raise ZeroDivisionError("planted")


async def test_stages_are_told_once(scene: Scene) -> None:
    """A stage entered is told when it is entered, and not again when the lead is merged into another."""
    await scene.take(scene.mql(20, "a", "crm:b"))
    await scene.take(
        r.SubjectsLinked(**scene.at(0, "l", "crm:a"), other_subject_id="crm:b", evidence="manual")
    )
    told = [(e.role, e.entered_event_id) for e in await scene.told() if isinstance(e, StageEntered)]
    assert len(told) == len(set(told))
    assert ("mql", "a") in told


async def test_a_second_fed_version_tells_nobody(scene: Scene) -> None:
    """Only the promoted version has clocks that fire and conclusions that leave."""
    connection = scene.connection
    async with connection.transaction():
        strict = REVIEW | {"id": "strict", "target": "1s"}
        await let_feed(
            connection, await create_version(connection, [TimelineEntry(None, definition(strict))])
        )
    await scene.take(scene.mql(20))
    assert await scene.look() == 0
    assert await scene.alerts() == []
    assert len({each.event_id for each in await scene.told()}) == len(await scene.told())


async def test_promote_and_rollback_reconcile(scene: Scene) -> None:
    """Gone ones are resolved, kept ones go on as the same incident, old new ones are silent, and back."""
    connection = scene.connection
    strict = REVIEW | {"id": "strict", "target": "10s"}
    later = REVIEW | {"target": "1d"}
    async with connection.transaction():
        other = definition(strict, later).replace('"version": 1', '"version": 2')
        second = await create_version(connection, [TimelineEntry(None, other)])
        await let_feed(connection, second)
    await scene.take(scene.mql(200, "late", "crm:late"), scene.mql(2 * HOUR, "old", "crm:old"))
    await scene.look()
    assert {a.key: a.outcome for a in await scene.alerts()} == {"review:late": None, "review:old": None}

    await scene.take_over(second)
    await scene.look()
    assert {a.key: (a.change, a.outcome) for a in await scene.alerts()} == {
        "review:late": ("withdrawn", "withdrawn"),
        "review:old": ("withdrawn", "withdrawn"),
        "strict:late": ("opened", None),
    }
    await scene.take_over(1)
    await scene.look()
    assert {a.key: (a.change, a.outcome) for a in await scene.alerts()} == {
        "review:late": ("reopened", None),
        "review:old": ("reopened", None),
        "strict:late": ("resolved", "resolved"),
    }
    told = {each.started_event_id: each for each in await scene.withdrawn() if each.policy_id == "strict"}
    assert {id: (each.reason, each.definition_version) for id, each in told.items()} == {
        "late": ("gone", "default@1"),
        "old": ("gone", "default@1"),
    }


async def test_two_clocks_fire_once(scene: Scene, database: str) -> None:
    """One leads, the other stands by; when the leader's connection dies the other goes on."""
    clocks_running = [asyncio.create_task(process.run(database)) for _ in range(2)]

    async def opened(count: int) -> bool:
        return len(await scene.alerts()) == count

    try:
        await scene.take(*(scene.mql(200, f"a{n}", f"crm:a{n}") for n in range(5)))
        await until(partial(opened, 5), "the first five did not fire")
        pids = await scene.connection.fetch(LEADER)
        assert len(pids) == 1
        await scene.connection.execute("select pg_terminate_backend($1)", pids[0]["pid"])
        await scene.take(*(scene.mql(200, f"b{n}", f"crm:b{n}") for n in range(5)))
        await until(partial(opened, 10), "the other clock did not take over")
    finally:
        for task in clocks_running:
            task.cancel()
        await asyncio.gather(*clocks_running, return_exceptions=True)
    assert {alert.change for alert in await scene.alerts()} == {"opened"}
    ids = clocks(await scene.told())
    assert len(ids) == len(set(ids)) == 30


async def test_a_clock_that_was_told_of_nothing_for_long_takes_thousands(scene: Scene) -> None:
    """What Postgres had planned for no rows was kept for those of a switch: nobody could feed for 10 s."""
    await scene.connection.execute("set statement_timeout = '5s'")
    await scene.connection.execute("vacuum analyze ops.changed_clock")
    for _ in range(10):
        await scene.look()
    journeys = [f"crm:{number}" for number in range(10_000)]
    await scene.connection.execute(TELL_CLOCK, journeys)
    await scene.look()
    left = await scene.connection.fetchval("select count(*) from ops.changed_clock")
    assert left == len(journeys) - look.CHANGES_AT_ONCE


async def test_the_clock_scans_nothing(scene: Scene) -> None:
    """Every question that it asks again and again is answered from an index."""
    await scene.connection.execute("set enable_seqscan = off")
    for query in (look.DUE_WINDOW, look.WARNING_WINDOW):
        asked = query.format(schema="v0001").replace("$1", "now()").replace("$2", "now()")
        rows = await scene.connection.fetch("explain " + asked.replace("$3", "1"))
        plan = "\n".join(row[0] for row in rows)
        assert "Index Scan using sla_" in plan or "Index Only Scan using sla_" in plan
        assert "Sort" not in plan
