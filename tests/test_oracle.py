"""`projections` equals a naive reading of the rules over random logs, and keeps what must always hold.

Guards every sentence of the journey rules that random small logs reach, and each line of their list of
properties but two: kills and worker counts are guarded where real servers run, and replay likewise.
`LEADLOG_EXAMPLES` is the number of examples of the comparison (default 100); properties run a third of it.
"""

import os
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections import identity, journey
from projections.business_time import Calendar
from projections.history import History
from projections.rules import Rules
from schemas import records as r
from tests import histories, oracle
from tests.comparison import Tables, differences, named, projected, rules_of
from tests.histories import Case

EXAMPLES = int(os.environ.get("LEADLOG_EXAMPLES", "100"))
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
comparison = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLOW)
properties = settings(max_examples=max(EXAMPLES // 3, 1), deadline=None, suppress_health_check=SLOW)
pytestmark = pytest.mark.timeout(900)
"""Hypothesis may spend five minutes on making a failing example small."""
seeds = st.integers(0, 2**32 - 1)


def assert_equal(wanted: Tables, got: Tables) -> None:
    lines = differences(wanted, got)
    assert not lines, "\n".join(lines)


def rows(tables: Tables, table: str) -> list[dict[str, Any]]:
    return tables.get(table, [])


def of_journey(tables: Tables, journey_id: str) -> Tables:
    return {
        name: [row for row in of_table if row["journey_id"] == journey_id]
        for name, of_table in tables.items()
    }


@comparison
@given(histories.cases())
def test_projections_equal_the_oracle(case: Case) -> None:
    """Every table of every journey is what a naive reading of the rules gives."""
    log, timeline = case
    assert_equal(oracle.tables(log, timeline), projected(log, timeline))


@properties
@given(histories.cases(), seeds)
def test_order_of_arrival_and_duplicates_change_nothing(case: Case, seed: int) -> None:
    """A log read in another order, with some records twice and recorded later, gives equal rows."""
    log, timeline = case
    rng = Random(seed)
    again = [msgspec.structs.replace(x, recorded_at=x.recorded_at + rng.choice([0, 7])) for x in log]
    shuffled = log + [record for record in again if rng.random() < 0.3]
    rng.shuffle(shuffled)
    assert_equal(projected(log, timeline), projected(shuffled, timeline))


def folded_in_batches(history: History, rules: Rules, cuts: list[int]) -> Tables:
    """The rows of a journey whose state was stored and read again at each cut."""
    state = journey.fold(msgspec.structs.replace(history, events=history.events[: cuts[0]]), rules)
    for start, end in zip(cuts, [*cuts[1:], len(history.events)], strict=True):
        state = journey.unpack(journey.pack(state))
        for event in history.events[start:end]:
            journey.step(state, event, rules)
    return named(journey.rows(state, rules))


@properties
@given(histories.cases(), seeds)
def test_batch_cuts_change_nothing(case: Case, seed: int) -> None:
    """A state that is stored and continued gives the rows of one fold, whatever the cuts."""
    log, timeline = case
    rules, rng = rules_of(log, timeline), Random(seed)
    for history in identity.journeys(log).values():
        cuts = sorted(rng.randrange(len(history.events) + 1) for _ in range(rng.randrange(1, 4)))
        whole = named(journey.rows(journey.fold(history, rules), rules))
        assert_equal(whole, folded_in_batches(history, rules, cuts))


@properties
@given(histories.cases())
def test_visits_tile_the_time_line(case: Case) -> None:
    """Visits that were not inferred follow each other without hole or overlap, and only the last is open."""
    tables = projected(*case)
    for lead in rows(tables, "lead_state"):
        visits = rows(of_journey(tables, lead["journey_id"]), "stage_visit")
        visits.sort(key=lambda visit: visit["visit_no"])
        assert [visit["visit_no"] for visit in visits] == list(range(1, len(visits) + 1))
        real = [visit for visit in visits if not visit["is_inferred"]]
        assert [visit["left_at"] for visit in real[:-1]] == [visit["entered_at"] for visit in real[1:]]
        assert [visit["left_at"] is None for visit in real] == [False] * (len(real) - 1) + [True]
        assert all(visit["entered_at"] == visit["left_at"] for visit in visits if visit["is_inferred"])


@properties
@given(histories.cases())
def test_credit_sums_to_the_amount_of_the_deal(case: Case) -> None:
    """Over all rows of a deal, every model sums to the won amount with its adjustments, or to nothing."""
    tables = projected(*case)
    deals = {(row["journey_id"], row["opportunity_id"]): row for row in rows(tables, "opportunity")}
    for key, deal in deals.items():
        booked: dict[str, int] = {}
        for row in rows(tables, "credit"):
            if (row["journey_id"], row["opportunity_id"]) == key and row["currency"] == deal["currency"]:
                for model, amount in zip(row["models"], row["amounts"], strict=True):
                    booked[model] = booked.get(model, 0) + amount
        is_won = deal["status"] == "won"
        in_force = [row for row in rows(tables, "credit") if is_won and row["won_at"] == deal["closed_at"]]
        amount = deal["amount_minor"] + deal["adjusted_minor"] if is_won else 0
        models = {model for row in in_force for model in row["models"]} & set(booked)
        assert all(booked[model] == (amount if model in models else 0) for model in booked)


@properties
@given(st.sampled_from(histories.CALENDARS), seeds, st.integers(0, 4000))
def test_exactly_the_target_has_elapsed_when_a_clock_is_due(
    calendar: dict[str, Any], seed: int, minutes: int
) -> None:
    """Business time from the start to the due instant is the target, one microsecond earlier it is not."""
    measured = Calendar("office", calendar["zone"], calendar["weekly"], calendar["holidays"])
    start = histories.instant(Random(seed))
    due = measured.due(start, minutes * histories.MINUTE)
    assert measured.elapsed(start, due) == minutes * histories.MINUTE
    assert minutes == 0 or measured.elapsed(start, due - 1) == minutes * histories.MINUTE - 1


def retraction_of(event_id: str, at: int) -> r.EventRetracted:
    return r.EventRetracted(
        event_id="retraction",
        subject_id="somebody-else",
        occurred_at=at,
        recorded_at=at,
        source="test",
        target_event_id=event_id,
        reason_code="mistake",
    )


@properties
@given(histories.cases(), seeds)
def test_what_is_retracted_never_was(case: Case, seed: int) -> None:
    """A retraction, under whatever subject and whenever, gives the rows of a log without its target."""
    log, timeline = case
    permanent = {x.event_id for x in log if histories.is_reference(x) or isinstance(x, r.SubjectErased)}
    targets = sorted({record.event_id for record in log} - permanent)
    if not targets:
        return
    target, at = Random(seed).choice(targets), histories.instant(Random(seed))
    without = [record for record in log if record.event_id != target]
    assert_equal(projected(without, timeline), projected([*log, retraction_of(target, at)], timeline))


@properties
@given(histories.cases(), seeds)
def test_what_is_unlinked_never_was_linked(case: Case, seed: int) -> None:
    """An unlink gives the rows of a log without the link."""
    log, timeline = case
    rng = Random(seed)
    link = r.SubjectsLinked(
        event_id="link",
        subject_id=rng.choice(histories.SUBJECTS),
        occurred_at=(at := histories.instant(rng)),
        recorded_at=at,
        source="test",
        other_subject_id=rng.choice(histories.SUBJECTS),
        evidence="identified",
    )
    unlink = r.SubjectsUnlinked(
        event_id="unlink",
        subject_id=rng.choice(histories.SUBJECTS),
        occurred_at=at,
        recorded_at=at,
        source="test",
        link_event_id="link",
        reason_code="mistake",
    )
    assert_equal(projected(log, timeline), projected([*log, link, unlink], timeline))


def without_lateness(tables: Tables) -> Tables:
    """Clocks and touches without the instant at which their event was recorded."""
    clocks = [row | {"stopped_recorded_at": None} for row in rows(tables, "sla_clock")]
    touches = [row | {"recorded_at": None} for row in rows(tables, "touch")]
    return tables | {"sla_clock": clocks, "touch": touches}


@properties
@given(histories.cases(), seeds)
def test_a_late_event_counts_as_if_it_had_been_on_time(case: Case, seed: int) -> None:
    """When an event was recorded changes nothing but that instant, where a stop or a touch shows it."""
    log, timeline = case
    once = list({record.event_id: record for record in log}.values())
    on_time = [msgspec.structs.replace(record, recorded_at=record.occurred_at) for record in once]
    rng = Random(seed)
    late = [msgspec.structs.replace(x, recorded_at=x.occurred_at + rng.choice([0, 10**12])) for x in on_time]
    wanted, got = projected(on_time, timeline), projected(late, timeline)
    assert_equal(without_lateness(wanted), without_lateness(got))


@properties
@given(histories.cases())
def test_a_journey_rebuilt_alone_is_the_same(case: Case) -> None:
    """A journey's rows need no event of another journey but controls: who is who, what is taken back."""
    log, timeline = case
    everything = projected(log, timeline)
    rules = rules_of(log, timeline)
    for journey_id, history in identity.journeys(log).items():
        mine = {event.subject_id for event in history.events} | {journey_id}
        mine |= {link.other_subject_id for link in history.events if isinstance(link, r.SubjectsLinked)}
        controls = r.EventRetracted | r.SubjectsUnlinked | r.SubjectsLinked | r.SubjectErased
        ids = {x.event_id for x in log if x.subject_id in mine or isinstance(x, controls)}
        needed = [x for x in log if x.event_id in ids or histories.is_reference(x)]
        alone = identity.journeys(needed)[journey_id]
        rebuilt = named(journey.project(alone, rules))
        assert_equal(of_journey(everything, journey_id), rebuilt)


@properties
@given(histories.cases(), seeds)
def test_erasure_cancels_running_clocks_and_changes_nothing_else(case: Case, seed: int) -> None:
    """After an erasure all rows are as before, but for clocks that were still running, which are cancelled,
    and for who did what, if it was the subject itself."""
    log, timeline = case
    rng = Random(seed)
    erased = r.SubjectErased(
        event_id="erasure",
        subject_id=rng.choice(log).subject_id,
        occurred_at=(at := histories.instant(rng)),
        recorded_at=at,
        source="test",
        request_id="request",
    )
    before, after = projected(log, timeline), projected([*log, erased], timeline)
    ends = {None, "erased"}
    running = {
        clock_key(row)
        for row in rows(before, "sla_clock")
        if row["stopped_at"] is None or row["cancelled_reason"] == "erased"
    }
    cancelled = [row for row in rows(after, "sla_clock") if clock_key(row) in running]
    assert {row["cancelled_reason"] for row in cancelled} <= ends
    mine = journey_of(log, erased)
    assert all(row["cancelled_reason"] == "erased" for row in cancelled if row["journey_id"] == mine)
    before, after = (without_clocks(tables, running) for tables in (before, after))
    assert_equal(without_actor(before, erased.subject_id), without_actor(after, erased.subject_id))


def without_actor(tables: Tables, subject_id: str) -> Tables:
    """The rows as if this subject had never said of itself that it did something."""
    return {
        name: [
            row | {"actor_id": None} if row.get("actor_id") == subject_id else row
            for row in rows(tables, name)
        ]
        for name in tables
    }


def clock_key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["journey_id"], row["policy_id"], row["clock_no"]


def journey_of(log: list[r.Record], event: r.Record) -> str:
    return oracle.journeys_of(oracle.resolve([*log, event]))[event.subject_id]


def without_clocks(tables: Tables, keys: set[tuple[str, str, int]]) -> Tables:
    of_clocks = {
        name: [row for row in rows(tables, name) if clock_key(row) not in keys]
        for name in ("sla_clock", "sla_warning")
    }
    return tables | of_clocks
