"""A journey as a whole: continuing a state, packing it, tables and cost.

Guards that a continued state and a refold agree on random logs, also across definitions and calendar facts.
"""

import time
from itertools import pairwise

from hypothesis import given as over
from hypothesis import settings

from projections import identity, journey
from projections.history import History
from schemas.records import order_key
from tests.comparison import rules_of
from tests.given import HOUSE, MONDAY, by_table, continued, demo, given, linked, moved, touch, won
from tests.histories import Case, cases

SECONDS_FOR_20_000 = 5.0
"""Ten times what it takes on an idle core: a quadratic fold would need minutes."""


@settings(max_examples=60, deadline=None)
@over(cases(25))
def test_continuing_a_packed_state_gives_the_rows_of_a_refold(case: Case) -> None:
    """After every event, for random histories under random timelines and calendar facts."""
    log, timeline = case
    rules = rules_of(log, timeline)
    for history in identity.journeys(log).values():
        assert by_table(continued(history, rules)) == by_table(journey.project(history, rules))


@settings(max_examples=30, deadline=None)
@over(cases(25))
def test_rows_do_not_change_the_state_and_equal_states_pack_equally(case: Case) -> None:
    """Packing, unpacking and showing leave the same bytes."""
    log, timeline = case
    rules = rules_of(log, timeline)
    for history in identity.journeys(log).values():
        state = journey.fold(history, rules)
        packed = journey.pack(state)
        journey.rows(state, rules)
        assert journey.pack(journey.unpack(packed)) == packed == journey.pack(state)


def test_last_key_is_that_of_the_last_event_also_if_faulted() -> None:
    """What sorts before a faulted event may change whether it is one."""
    [history] = identity.journeys([touch("mon 09:00"), moved("mon 10:00", "Nowhere")]).values()
    assert journey.fold(history, HOUSE).last_key == order_key(moved("mon 10:00", "Nowhere"))


def test_events_at_one_instant_are_ordered_by_sequence_then_id() -> None:
    """Null comes first, and ids decide last."""
    spec = given(
        moved("mon 09:00", "SAL", id="a", source_sequence=2),
        moved("mon 09:00", "Known", id="c", source_sequence=1),
        moved("mon 09:00", "Engaged", id="d", source_sequence=1),
        touch("mon 09:00", id="e"),
    )
    real = [visit for visit in spec.table("stage_visit") if not visit["is_inferred"]]
    assert [visit["entered_event_id"] for visit in real] == ["e", "c", "d", "a"]


def test_every_table_names_its_key_among_its_columns() -> None:
    """Rows have as many values as the table has columns, and keys are unique."""
    rows = given(
        linked("mon 08:00", "web:1"), demo("mon 09:00"), won("tue 09:00"), moved("wed 09:00", "No")
    ).rows()
    for table in journey.TABLES:
        assert set(table.key) <= set(table.columns)
        assert table.sql.startswith(f"create table {table.name} (")
        assert all(len(row) == len(table.columns) for row in rows[table.name])


def test_a_typical_state_is_small() -> None:
    """Fifteen events, a few visits and two clocks stay near a kilobyte."""
    events = [touch(f"mon {hour:02}:00") for hour in range(9, 22)] + [
        demo("tue 09:00"),
        moved("tue 10:00", "SAL"),
    ]
    [history] = identity.journeys(events).values()
    assert len(journey.pack(journey.fold(history, HOUSE))) < 2_000


def test_a_long_journey_costs_per_event_what_a_short_one_does() -> None:
    """Twenty thousand touches and moves are folded in seconds, and continuing does not slow down."""
    events = [
        touch(
            "mon 09:00", id=f"{number:05}", occurred_at=MONDAY + number * 60_000_000, recorded_at=MONDAY * 2
        )
        for number in range(20_000)
    ]
    started = time.process_time()
    state = journey.fold(History("crm:1", list(events)), HOUSE)
    assert time.process_time() - started < SECONDS_FOR_20_000
    assert state.event_count == 20_000
    assert all(order_key(one) < order_key(other) for one, other in pairwise(events))
