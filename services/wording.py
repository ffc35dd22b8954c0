"""How events, amounts, instants and durations are said to people, on a terminal, on a page and in a file."""

from typing import Any

from schemas.currencies import display
from schemas.instants import rfc3339
from schemas.records import Envelope, Micros

TELLING = (
    *("direction", "touch_type", "exposure_type", "channel", "offer_id", "campaign_id", "name", "value"),
    *("to_stage", "owner_id", "team_id", "return_to", "policy_id", "reason_code", "kind", "outcome", "topic"),
    *("opportunity_id", "sales_stage", "other_subject_id", "evidence", "target_event_id", "link_event_id"),
)
"""Fields by which people recognise an event, in the order shown."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How a formula begins (OWASP, CSV injection)."""


def legible(text: str) -> str:
    """Text that any terminal can show: what would move its cursor or change its colours is written out."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def cell(value: Any) -> Any:
    """A value of a CSV file. A text that a spreadsheet would take for a formula, and run, has `'` before it:
    channels and campaigns are often what a visitor's address said."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def instant(at: str | Micros | None) -> str:
    """An instant, RFC 3339 in UTC or in microseconds, as people read it: `2026-03-24 10:00:05`."""
    if at is None:
        return ""
    text = rfc3339(at) if isinstance(at, int) else at
    return text[:19].replace("T", " ")


def duration(seconds: float | None) -> str:
    """Seconds in the largest of days, hours, minutes and seconds, with the unit below it unless that is 0:
    `3d 4h`, `12m 5s`, `79d`, `0s`."""
    if seconds is None:
        return ""
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    for number, below, units in ((days, hours, "dh"), (hours, minutes, "hm"), (minutes, left, "ms")):
        if number:
            return f"{number}{units[0]}" + (f" {below}{units[1]}" if below else "")
    return f"{left}s"


def money(amount_minor: int | None, currency: str | None) -> str:
    """`1,234.56 EUR`; nothing while either is not known."""
    return "" if amount_minor is None or not currency else display(amount_minor, currency)


def gist(event: Envelope) -> str:
    """What is particular about an event, in a line."""
    values = [getattr(event, name, None) for name in TELLING]
    return " ".join(str(value) for value in values if value is not None)
