"""The parts of a diff that need no server: single changes of a definition, and rows by keys that stay."""

from importlib import resources
from itertools import count

import pytest
import yaml

from projections import definition
from services.replay.changes import single_changes
from services.replay.compare import differences, keyed

DEFAULT = resources.files("projections").joinpath("default.yaml").read_text()


def paths(before: str, after: str) -> list[str]:
    """The paths of the changes."""
    return [change.path for change in single_changes(before, after)]


@pytest.mark.parametrize(
    ("line", "other", "path", "told"),
    [
        ("{score_at_least: 50}", "{score_at_least: 60}", "stages[MQL]", "60"),
        ("target: 8h", "target: 6h", "sla[handoff_review].target", "6 hours"),
        ("lookback: 365d", "lookback: 30d", "attribution.lookback", "30 days"),
    ],
)
def test_one_line_is_one_change(line: str, other: str, path: str, told: str) -> None:
    """Its definition is the earlier one with this line alone; its reason names the line and says it."""
    assert line in DEFAULT
    after = DEFAULT.replace(line, other, 1)
    [change] = single_changes(DEFAULT, after)
    assert change.path.startswith(path)
    number = next(n for n, text in enumerate(DEFAULT.splitlines(), 1) if line in text)
    assert change.reason.startswith(f"line {number}: ")
    assert told in change.reason
    assert change.body is not None
    assert definition.parse(change.body).label == definition.parse(DEFAULT).label
    assert single_changes(change.body, after) == []


def test_changes_one_after_the_other_give_the_other_definition() -> None:
    """Stages are renamed, lines come and go: applied until none is left, the other definition is reached."""
    before = {"definition_id": "d", "a": [{"id": "x", "n": 1}, {"id": "y"}], "b": [1, 2, 3], "c": "same"}
    after = {"definition_id": "d", "a": [{"id": "y", "m": 2}, {"id": "z"}], "b": [1, 3, 4], "d": True}
    texts = [yaml.safe_dump(tree) for tree in (before, after)]
    assert len(paths(*texts)) == len(set(paths(*texts))) > 4


def test_notation_and_label_are_no_change() -> None:
    """Order of members, quotes, version and rationale decide nothing."""
    tree = yaml.safe_load(DEFAULT) | {"version": 77, "rationale": "other words"}
    assert paths(DEFAULT, yaml.safe_dump(tree)) == []


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
