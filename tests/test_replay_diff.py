"""The parts of a diff that need no server: single changes of a definition, and rows by keys that stay."""

import json
from importlib import resources
from itertools import count

import yaml

from projections.agreement.diff import diff
from projections.definition import parse
from projections.identity import journeys
from projections.journey import project
from projections.rules import Entry, Rules
from services.replay.changes import Change, single_changes
from services.replay.compare import differences, keyed
from services.replay.reasons import NOT_THE_LOG, SCHEDULE, Reasons
from tests.given import MONDAY, demo

DEFAULT = resources.files("projections").joinpath("default.yaml").read_text()


def changes(before: str, after: str) -> list[Change]:
    """The single changes between two files."""
    return single_changes(parse(before), parse(after))


def test_one_line_is_one_change() -> None:
    """Its definition is the earlier one with this line alone; its reason names the line and says it."""
    after = DEFAULT.replace("target: 8h", "target: 6h")
    [change] = changes(DEFAULT, after)
    assert change.path == "sla[handoff_review].target"
    number = next(n for n, text in enumerate(DEFAULT.splitlines(), 1) if "target: 8h" in text)
    assert change.reason == f"line {number}: handoff_review is now due after 6 hours instead of 8"
    assert change.definition is not None
    assert change.definition.label == parse(DEFAULT).label
    assert single_changes(change.definition, parse(after)) == []


def test_a_line_that_is_gone_is_named_as_such() -> None:
    """It is one of the earlier file, and something else stands there in the later one."""
    line = 1 + DEFAULT[: DEFAULT.index("    - student")].count("\n")
    assert [each.reason for each in changes(DEFAULT, DEFAULT.replace("    - student\n", ""))] == [
        f"line {line} gone: Sales can no longer turn a lead down for student"
    ]


def test_two_values_of_one_line_are_two_changes_of_that_line() -> None:
    """Though the line is told in one sentence when both are changed."""
    after = DEFAULT.replace("points: 20, expires_after: 90d", "points: 21, expires_after: 80d")
    line = 1 + DEFAULT[: DEFAULT.index("points: 20, ")].count("\n")
    assert [each.reason for each in changes(DEFAULT, after)] == [
        f"line {line}: Scoring: form_submitted gives 21 instead of 20 points for 90 days",
        f"line {line}: Scoring: form_submitted gives 20 points for 80 days instead of 90",
    ]


MANY = {
    "name: Visitor": "name: Guest",
    "  - {touch_type: page_view, points: 1, expires_after: 30d}\n": "",
    "    - student\n": "    - student\n    - too_small\n",
    "max_pause: 5d": "max_pause: 6d",
    "  - {match: {utm_medium: [email, newsletter]}, channel: email}\n": "",
    "lookback: 365d": "lookback: 30d",
    "personal: [email, phone, ": "personal: [phone, ",
}
"""Parts of the default definition, and what stands there instead."""


def test_changes_one_after_the_other_give_the_other_definition() -> None:
    """A stage is renamed, values change, lines come and go: each is one change, named with its line, and
    applied until none is left they give the other definition."""
    after = DEFAULT
    for part, other in MANY.items():
        assert part in after
        after = after.replace(part, other, 1)
    definition, wanted = parse(DEFAULT), parse(after)
    for left in range(len(MANY), 0, -1):
        found = single_changes(definition, wanted)
        assert len({each.reason for each in found}) == left
        assert all(each.reason.startswith("line ") for each in found)
        assert found[0].definition is not None
        definition = found[0].definition
    assert diff(definition, wanted) == []


def test_notation_and_label_are_no_change() -> None:
    """Order of members, quotes, version and rationale decide nothing, nor what is so without being said."""
    tree = yaml.safe_load(DEFAULT) | {"version": 77, "rationale": "other words"}
    assert changes(DEFAULT, json.dumps(tree)) == []
    assert changes(DEFAULT, DEFAULT.replace("    warn_at: 0.8\n", "    warn_at: [0.8]\n")) == []


def test_a_definition_that_counts_later_is_none_of_the_reasons() -> None:
    """Both versions have it: rows after its date differ for what the first definition still decides, if for
    anything, and an unlike timeline is a reason of its own."""
    first, other, later = (parse(DEFAULT.replace("target: 8h", f"target: {n}h")) for n in (8, 6, 4))
    june = Entry(MONDAY, later)
    reasons = Reasons([Entry(None, first), june], [Entry(None, other), june])
    events = [demo(f"{week} 09:00", subject=week, offer_id="demo_request") for week in ("mon", "mon+-1")]
    for history in journeys(events).values():
        rows, others = (keyed(project(history, Rules([Entry(None, each), june]))) for each in (first, other))
        places = {(each.table, each.key) for each in differences(rows, others)}
        assert bool(places) == (history.journey_id == "mon+-1")
        assert reasons.by(history, places, rows) == dict.fromkeys(places, reasons.lines)
        unlike = Reasons([Entry(None, first), june], [Entry(None, other)])
        assert all(names == [SCHEDULE] for names in unlike.by(history, places, rows).values())


def test_a_row_that_the_one_change_does_not_move_is_not_put_under_it() -> None:
    """A version whose row is behind differs for another reason than the one line that was changed."""
    first, other = (parse(DEFAULT.replace("target: 8h", f"target: {n}h")) for n in (8, 6))
    reasons = Reasons([Entry(None, first)], [Entry(None, other)])
    [history] = journeys([demo("mon 09:00", offer_id="demo_request")]).values()
    rows = keyed(project(history, Rules([Entry(None, first)])))
    places = {place for place in rows if place[0] in ("sla_clock", "stage_visit")}
    for (table, key), names in reasons.by(history, places, rows).items():
        is_moved = table == "sla_clock" and "handoff_review" in key
        assert names == (reasons.lines if is_moved else [NOT_THE_LOG])


def test_a_visit_more_changes_no_number_of_the_others() -> None:
    """Rows are matched by what caused them: one that comes in between is added, the later ones stay."""
    number = count(1)

    def visit(event: str, stage: str) -> tuple[object, ...]:
        row = ["j", next(number), stage, stage.lower(), 0, None, None, None, False, event, None, None, None]
        return (*row, "d@1")

    before = keyed({"stage_visit": [visit("e1", "Known"), visit("e3", "MQL")]})
    number = count(1)
    after = keyed({"stage_visit": [visit("e1", "Known"), visit("e2", "Engaged"), visit("e3", "MQL")]})
    [found] = differences(before, after)
    assert (found.kind, found.key) == ("added", ("j", "e2", "Engaged"))
    assert differences(before, before) == []
