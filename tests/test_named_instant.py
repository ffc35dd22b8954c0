"""Guards how people may name an instant, wherever a command takes one."""

from zoneinfo import ZoneInfo

import pytest

from schemas.instants import rfc3339
from services.named_instant import instant_in

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-01", "2026-02-28T23:00:00Z"),
        ("2026-03-01 10:00", "2026-03-01T09:00:00Z"),
        ("2026-07-01T10:00:05", "2026-07-01T08:00:05Z"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z"),
        ("2026-03-01T10:00:00.5-02:00", "2026-03-01T12:00:00.500000Z"),
    ],
)
def test_without_an_offset_it_is_in_the_zone(text: str, instant: str) -> None:
    """`replay build --as-known` took RFC 3339 only, though people know the day."""
    assert rfc3339(instant_in(text, BERLIN)) == instant


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-02-30", "2026-03-01 25:00", "0001-01-01", "20260301"]
)
def test_what_is_none_says_what_was_expected(text: str) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(ValueError, match=f"'{text}' is no time: expected one such as 2026-01-31, '2026"):
        instant_in(text, BERLIN)
