"""Guards the generator's promises: reproducible, valid, in order of arrival, and what it says is there.

Which values a journey takes is not tested: they are made up. What becomes of them is the projections' matter.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import pytest
from click.testing import CliRunner

from schemas.content import content_hash
from schemas.contract import parse_line
from schemas.faults import Refused
from schemas.records import MAX_INSTANT, EventRetracted, Record, SubjectsUnlinked
from services import settings
from services.cli.generate import command
from services.generator import kinds, live
from services.generator.arrival import Line
from services.generator.kinds import BIT, Tally
from services.generator.stream import Plan, lines

START = 1_736_121_600_000_000
EVENTS = 20_000
OF_EVENTS = (
    "late",
    "out_of_order",
    "duplicate",
    "restamped",
    "conflict",
    "conflict_elsewhere",
    "retracted_after",
    "retracted_before",
    "retracted_elsewhere",
    "faulty",
    "refused",
)
OF_JOURNEYS = (
    "linked",
    "linked_across",
    "unlinked",
    "erased",
    "retraction_retracted",
    "link_retracted",
    "cycle",
    "shared_deal",
    "paused",
    "rejected",
    "recycled",
    "won",
    "lost",
    "reopened",
    "adjusted",
    "renewed",
)


def plan(
    wanted: str = "every", seed: int = 1, events: int | None = EVENTS, journeys: int | None = None
) -> Plan:
    """A year of journeys."""
    return Plan(seed, events, journeys, START, 365, kinds.shares(wanted))


@pytest.fixture(scope="module")
def made() -> list[Line]:
    """One run with every kind."""
    return list(lines(plan()))


def taken(made: list[Line]) -> Iterator[tuple[Line, Record]]:
    """The lines that the door takes, and what they are."""
    for line in made:
        if not line.kinds & BIT["refused"]:
            yield line, parse_line(line.json, now=MAX_INSTANT, may_import=True)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """A run can be repeated byte for byte, and another seed gives other events."""
    first, again, other = ([line.json for line in lines(plan(seed=seed, events=3_000))] for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_as_many_events_as_asked_for(made: list[Line]) -> None:
    """--events is exact."""
    assert len(made) == EVENTS


def test_as_many_journeys_as_asked_for() -> None:
    """--journeys is exact where no deal has further contacts, and all of them are told to their end."""
    tally = Tally()
    for line in lines(plan("clean", events=None, journeys=150)):
        tally.add(line.kinds, line.firsts)
    assert tally.counts()["journey"].journeys == 150


def test_by_default_nothing_lies_ahead() -> None:
    """The journeys of the demo went on until after the day on which they were made."""
    made = CliRunner().invoke(command, ["--journeys", "2000", "--kinds", "usual,refused=0"])
    last = max(json.loads(line)["occurred_at"] for line in made.stdout.splitlines())
    assert last < datetime.now(UTC).isoformat()


def test_lines_come_in_order_of_arrival(made: list[Line]) -> None:
    """The file is in the order in which the log would have got it."""
    assert [line.arrival for line in made] == sorted(line.arrival for line in made)


def test_every_line_is_valid_but_those_meant_to_be_refused(made: list[Line]) -> None:
    """The contract takes each line that is not of the kind `refused`, and refuses each that is."""
    for line in made:
        try:
            parse_line(line.json, now=MAX_INSTANT, may_import=True)
            is_refused = False
        except Refused:
            is_refused = True
        assert is_refused == bool(line.kinds & BIT["refused"]), line.json


def test_three_percent_of_every_awkward_kind(made: list[Line]) -> None:
    """Kinds of events are at least 3 % of the events, kinds of journeys at least 3 % of the journeys."""
    tally = Tally()
    for line in made:
        tally.add(line.kinds, line.firsts)
    counts = tally.counts()
    journeys = counts["journey"].journeys
    assert {kind: counts[kind].events for kind in OF_EVENTS if counts[kind].events < 0.03 * EVENTS} == {}
    assert {
        kind: counts[kind].journeys for kind in OF_JOURNEYS if counts[kind].journeys < 0.03 * journeys
    } == {}


def test_copies_are_what_they_are_called(made: list[Line]) -> None:
    """A duplicate has the content of the first event with its id, a conflict another one."""
    first: dict[str, tuple[bytes, str]] = {}
    for line, record in taken(made):
        content = content_hash(record)
        if line.kinds & BIT["duplicate"]:
            assert first[record.event_id][0] == content
        elif line.kinds & BIT["conflict"]:
            assert first[record.event_id][0] != content
            if line.kinds & BIT["conflict_elsewhere"]:
                assert first[record.event_id][1] != record.subject_id
        else:
            assert record.event_id not in first
            first[record.event_id] = content, record.subject_id


def test_retractions_are_what_they_are_called(made: list[Line]) -> None:
    """A retraction before its target arrives earlier, one after it later; elsewhere is another subject."""
    places = {record.event_id: number for number, (_, record) in reversed(list(enumerate(taken(made))))}
    subjects = {
        record.event_id: record.subject_id for line, record in taken(made) if not line.kinds & BIT["conflict"]
    }
    for number, (line, record) in enumerate(taken(made)):
        if not isinstance(record, EventRetracted) or record.target_event_id not in places:
            continue
        target = places[record.target_event_id]
        if line.kinds & BIT["retracted_before"]:
            assert number < target
        if line.kinds & BIT["retracted_after"]:
            assert number > target
        if line.kinds & BIT["retracted_elsewhere"]:
            assert subjects[record.target_event_id] != record.subject_id


def test_unlinks_name_links(made: list[Line]) -> None:
    """What is unlinked was linked by somebody, and some unlinks arrive before their link."""
    known = {record.event_id: number for number, (_, record) in enumerate(taken(made))}
    unlinks = [
        (number, record)
        for number, (line, record) in enumerate(taken(made))
        if isinstance(record, SubjectsUnlinked) and line.kinds & BIT["unlinked"]
    ]
    named = [
        (number, known[unlink.link_event_id]) for number, unlink in unlinks if unlink.link_event_id in known
    ]
    assert len(named) > 0.9 * len(unlinks)
    assert any(number < link for number, link in named)


def test_clean_journeys_have_nothing_awkward() -> None:
    """With `clean` every event arrives once, in the order in which it happened within its journey."""
    tally = Tally()
    for line in lines(plan("clean", events=5_000)):
        tally.add(line.kinds, line.firsts)
    counts = tally.counts()
    assert {
        kind: counts[kind].events for kind in (*OF_EVENTS, "unlinked", "erased", "cycle")
    } == dict.fromkeys((*OF_EVENTS, "unlinked", "erased", "cycle"), 0)


def test_what_waits_on_disk_comes_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by a setting, and the setting does not change the result."""
    in_memory = [line.json for line in lines(plan(events=4_000))]
    monkeypatch.setattr(settings, "GENERATE_MEMORY_BYTES", 50_000)
    assert [line.json for line in lines(plan(events=4_000))] == in_memory


def test_a_rate_is_held() -> None:
    """Lines leave at the rate asked for, over the run and not only one by one."""
    started = time.monotonic()
    assert len(list(live.paced(lines(plan(events=101)), 200))) == 101
    assert time.monotonic() - started >= 0.5


def test_live_events_happen_now_and_copies_stay_copies() -> None:
    """Moved to the present, events are recorded by now, none is from the future, duplicates stay equal."""
    moved = list(live.as_now(lines(plan("every,refused=0", events=3_000))))
    now = time.time_ns() // 1000
    hashes: dict[str, bytes] = {}
    for line, record in taken(moved):
        assert record.recorded_at <= now
        if line.kinds & BIT["duplicate"]:
            assert hashes[record.event_id] == content_hash(record)
        hashes.setdefault(record.event_id, content_hash(record))


def test_the_command_writes_lines_and_counts() -> None:
    """`leadlog generate` writes the contract's JSON to stdout and the count of each kind to stderr."""
    result = CliRunner().invoke(command, ["--events", "200", "--seed", "3", "--json"])
    assert result.exit_code == 0
    assert [json.loads(line)["record"] for line in islice(result.stdout.splitlines(), 3)]
    assert json.loads(result.stderr)["events"] == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kinds", "evry"], "there are every, usual, clean, late"),
        (["--kinds", "late=lots"], "expected a percentage"),
        (["--kinds", "late=101"], "0 to 100"),
        (["--rate", "fast"], "20/s"),
        (["--events", "1", "--journeys", "1"], "exclude each other"),
    ],
)
def test_wrong_options_are_explained(arguments: list[str], said: str) -> None:
    """An option that cannot be meant ends the command with what was expected."""
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert said in result.stderr
