"""A single changed line of the default definition is the reason for every row that differs, and no other is.

Promises: every value and every line of the file is tried, as it stands there today; what moves no row is
named below, with why. The reason is the one that folding under the change finds. Leaves comparing
tables of versions to test_replay.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import resources
from itertools import chain, combinations, islice, product
from random import Random
from typing import NamedTuple

import pytest
import yaml

from projections import identity, journey
from projections.agreement.diff import affected, diff
from projections.definition import Definition, parse
from projections.history import History
from projections.predicate import DIRECTIONS, TOUCH_TYPES
from projections.rules import Entry, Rules
from schemas import records as r
from schemas.contract import parse_line
from services.generator import kinds
from services.generator.stream import Plan, lines
from services.replay.compare import Key, Keyed, differences, keyed
from services.replay.reasons import TOGETHER, Reasons
from tests.definition_changes import Edit, SingleChange, changed_values, edited, lines_left_out
from tests.given import (
    DAY,
    MACHINE,
    MONDAY,
    PERSON,
    accepted,
    at,
    attribute,
    demo,
    envelope,
    moved,
    opened,
    paused,
    rejected,
    resumed,
    touch,
    won,
)

DEFAULT = parse(resources.files("projections").joinpath("default.yaml").read_text())
OFFERS = ("demo_request", "contact_sales", "pricing", "guide")
WAYS = 3
"""Other values that are tried until one moves a row."""
CHANGES = 9
"""Values that are changed in pairs."""

Place = tuple[str, Key]


class Folded(NamedTuple):
    """A history with its rows under the default definition."""

    history: History
    rows: Keyed


def under(definition: Definition) -> Rules:
    """The definition for the whole of history."""
    return Rules([Entry(None, definition)])


def generated() -> Iterator[r.Record]:
    """Lives of leads over a year."""
    plan = Plan(1, None, 6, MONDAY - 365 * DAY, 365, kinds.shares("every,refused=0"))
    return (parse_line(line.json, now=r.MAX_INSTANT, may_import=True) for line in lines(plan))


def leads() -> Iterator[list[r.Envelope]]:
    """Small lives, one each for what the lines of the default definition are about."""
    for touch_type, direction in product(TOUCH_TYPES, DIRECTIONS):
        came = touch("mon 09:00", touch_type=touch_type, direction=direction, offer_id="guide")
        yield [came, opened("tue 09:00"), won("wed 09:00")]
    for line in DEFAULT.scoring:
        for touch_type, share in product(line.filter.touch_type or TOUCH_TYPES, (0.75, 1.5)):
            later = on(at("mon 09:00") + round(share * (line.expires_after or DAY)))
            yield [touch("mon 09:00", touch_type=touch_type), attribute("mon 09:00", "seen", True, **later)]
    for offer in OFFERS:
        yield [demo("mon 09:00", offer_id=offer)]
    yield from qualified()
    yield from handed_over()
    yield from classified()
    for name in sorted(DEFAULT.personal):
        yield [attribute("mon 09:00", name, "x")]
    for weeks in (30, 60):
        yield [touch(f"mon+-{weeks} 09:00"), touch("mon 09:00"), opened("tue 09:00"), won("wed 09:00")]
    for holiday in yaml.safe_load(DEFAULT.text)["calendars"]["office"]["holidays"]:
        day = int(datetime.fromisoformat(f"{holiday}T00:00Z").timestamp()) * 1_000_000
        visit = touch("mon 09:00", **on(day - DAY)), moved("mon 09:00", "Nurture", "later", **on(day + DAY))
        yield [*visit]


def on(instant: r.Micros) -> dict[str, r.Micros]:
    """For an event at an instant, whatever its name says."""
    return {"occurred_at": instant, "recorded_at": instant}


def qualified() -> Iterator[list[r.Envelope]]:
    """Scores around the thresholds, companies of several sizes, competitors, and old requests."""
    forms: list[r.Envelope] = [
        touch(f"{day} 09:00", touch_type="form_submitted") for day in ("tue", "wed", "thu")
    ]
    for size, competitor in product((None, 5.0, 20.0, 25.0), (None, True, False)):
        known = [
            attribute("mon 09:00", "company_size", size),
            attribute("mon 09:01", "competitor", competitor),
        ]
        yield [*known, *forms]
    attended = [touch(f"{day} 10:00", touch_type="event_attended") for day in ("mon", "tue", "wed", "thu")]
    for number in range(1, 5):
        yield [*attended[:number]]
    yield [touch(f"mon 10:{minute}") for minute in range(10, 20)]
    for weeks in (3, 6):
        excluded = attribute("mon 08:00", "competitor", True), demo("mon 09:00", offer_id="demo_request")
        yield [*excluded, attribute(f"mon+{weeks} 09:00", "competitor", False)]


def handed_over() -> Iterator[list[r.Envelope]]:
    """What sales does with a lead, with pauses and without."""
    asked = demo("mon 09:00", offer_id="demo_request")
    for why in sorted(DEFAULT.reject_reasons):
        yield [asked, rejected("mon 10:00", why, note="since")]
    for stage in DEFAULT.stages:
        yield [asked, moved("mon 16:00", stage.name, "so it is")]
        yield [asked, accepted("mon 10:00"), moved("tue 16:00", stage.name, "so it is")]
    for direction, by in product(DIRECTIONS, (PERSON, MACHINE)):
        yield [asked, touch("mon 11:00", touch_type="call", direction=direction, by=by)]
    held = r.MeetingHeld(**envelope("met", "mon+1 09:00", {"meeting_id": "m", "kind": "call"}))
    yield [asked, accepted("mon 10:00"), held]
    for pause in (paused("mon 09:30"), paused("mon 11:00")):
        yield [asked, accepted("mon 10:00"), pause, resumed("mon+5 10:00")]
        yield [asked, pause, resumed("mon+5 10:00")]


def classified() -> Iterator[list[r.Envelope]]:
    """A touch for each way to meet a channel rule, which gets credit for a deal."""
    for rule in DEFAULT.channels:
        ways = product(rule.match.channel or ["web"], rule.utm_medium or [None], rule.utm_source or [None])
        for channel, medium, source in ways:
            came = touch("mon 09:00", channel=channel, utm=r.Utm(medium=medium, source=source))
            yield [came, opened("tue 09:00"), won("wed 09:00")]


@pytest.fixture(scope="module")
def folded() -> list[Folded]:
    """All histories, folded under the default definition."""
    logs: list[list[r.Envelope]] = [list(generated()), *leads()]
    histories = [history for log in logs for history in identity.journeys(log).values()]
    return [Folded(each, keyed(journey.project(each, under(DEFAULT)))) for each in histories]


class Moving(NamedTuple):
    """A change that moves rows, by the number of the history."""

    change: SingleChange
    edit: Edit
    definition: Definition
    reasons: Reasons
    rows: dict[int, set[Place]]


def moved_by(definition: Definition, folded: Sequence[Folded]) -> dict[int, set[Place]]:
    """The rows that differ under it, by the number of the history."""
    rules = under(definition)
    found = {}
    for number, (history, rows) in enumerate(folded):
        after = keyed(journey.project(history, rules))
        if after != rows:
            found[number] = {(each.table, each.key) for each in differences(rows, after)}
    return found


def moving(change: SingleChange, folded: Sequence[Folded]) -> Moving | None:
    """The first of a few ways to change the line that moves a row, if there is one."""
    definitions = ((edit, made) for edit in change.edits if (made := edited(DEFAULT.text, edit)))
    for edit, made in islice(definitions, WAYS):
        if rows := moved_by(made, folded):
            return Moving(change, edit, made, Reasons([Entry(None, DEFAULT)], [Entry(None, made)]), rows)
    return None


def by_folding(
    reasons: Reasons, rows: dict[int, set[Place]], folded: Sequence[Folded]
) -> dict[int, dict[Place, list[str]]]:
    """The reasons for rows, found by folding each change alone."""
    return {number: reasons.by(folded[number].history, rows[number], folded[number].rows) for number in rows}


FIXED = "no other value makes a definition of it"
NAMES_IT = "names the definition and says why, decides nothing"
SAME = "says what is so without it"
SATURDAY = "a Saturday, the office is closed anyway"
STILL = {
    **dict.fromkeys(("definition_id", "version", "rationale"), NAMES_IT),
    **{f"stages[{number}].role": FIXED for number in range(len(DEFAULT.stages))},
    **dict.fromkeys(("calendar", "sla[0].calendar", "sla[2].calendar"), FIXED),
    **dict.fromkeys(("sla[1].stop[0].record", "sla[1].time"), FIXED),
    "calendars.office.holidays[17]": f"{SATURDAY}, between a holiday and a Sunday",
    **{f'without - "{day}"': SATURDAY for day in ("2026-10-03", "2026-12-26", "2027-12-25")},
    f'without rationale: "{DEFAULT.rationale}"': NAMES_IT,
    "without calendar: office": SAME,
    "without time: business": SAME,
    "without time: calendar": SAME,
    "without warn_at: 0.8": SAME,
    "without lookback: 365d": SAME,
    "without direction: inbound": SAME,
    "without exposures: []": SAME,
}
"""Values and lines of the default definition whose change moves no row, and why."""


@pytest.mark.slow
def test_a_changed_line_is_the_reason_for_all_rows_that_it_moves(folded: list[Folded]) -> None:
    """And nothing else is, and no table differs that the change does not reach. Every line moves a row, but
    for those of which it is said why not."""
    still = set()
    for change in chain(changed_values(DEFAULT.text), lines_left_out(DEFAULT.text)):
        found = moving(change, folded)
        if found is None:
            still.add(change.path)
            continue
        [reason] = found.reasons.lines
        assert reason.startswith((f"line {change.line}: ", f"line {change.line} gone: ")), change.path
        assert by_folding(found.reasons, found.rows, folded) == {
            number: {place: [reason] for place in places} for number, places in found.rows.items()
        }, change.path
        tables = {table for places in found.rows.values() for table, _ in places}
        assert tables <= affected(diff(DEFAULT, found.definition)), change.path
    assert still == STILL.keys()


@pytest.mark.slow
def test_two_changed_lines_are_each_the_reason_for_what_they_move_alone(folded: list[Folded]) -> None:
    """A row that both move has both; one that neither moves alone needs them together."""
    rng = Random(1)
    changes = [each for each in changed_values(DEFAULT.text) if each.path not in STILL]
    found = [each for each in (moving(change, folded) for change in rng.sample(changes, CHANGES)) if each]
    for one, other in combinations(found, 2):
        both = edited(DEFAULT.text, one.edit, other.edit)
        if both is None:
            continue
        rows = moved_by(both, folded)
        reasons = Reasons([Entry(None, DEFAULT)], [Entry(None, both)])
        assert by_folding(reasons, rows, folded) == {
            number: {place: expected(number, place, one, other) for place in places}
            for number, places in rows.items()
        }, (one.change.path, other.change.path)


def expected(number: int, place: Place, *changes: Moving) -> list[str]:
    """The reasons of those changes that move the row alone, in the order of the file."""
    moved = [each for each in changes if place in each.rows.get(number, ())]
    return [each.reasons.lines[0] for each in sorted(moved, key=lambda each: each.edit)] or [TOGETHER]
