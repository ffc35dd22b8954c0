"""How values are said to people."""

import pytest

from services.wording import cell, duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0.4, "0s"),
        (59.6, "1m"),
        (725, "12m 5s"),
        (22 * 3_600 + 10, "22h"),
        (3 * 86_400 + 4 * 3_600 + 5, "3d 4h"),
        (79 * 86_400 + 1, "79d"),
        (310 * 86_400 + 14 * 60, "310d"),
    ],
)
def test_a_duration_has_two_neighbouring_units_at_most(seconds: float | None, said: str) -> None:
    """79 days and a second are not `79d 1s`."""
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "written"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("-2", "'-2"), ("a=b", "a=b"), ("", ""), (-2, -2), (None, None)],
)
def test_a_cell_is_no_formula(value: object, written: object) -> None:
    """Numbers stay numbers."""
    assert cell(value) == written
