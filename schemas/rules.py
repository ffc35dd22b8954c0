"""Rules about an event that can be judged from the event and the clock alone.

Promises: each rule yields its faults from the fields that are there and of the right type, so that an event
with other faults is still told about these. What takes the log or a definition to see is left to the
projections, and a record that is found on a topic is never refused for one of these.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Final

from msgspec import inspect

from schemas.currencies import DIGITS
from schemas.faults import FIELDS, Fault, below, close_to, shown
from schemas.instants import rfc3339
from schemas.records import Micros

Fields = Mapping[str, Any]
"""The fields of an event that hold a value of their type; instants as microseconds."""
Rule = Callable[[Fields], Iterator[Fault]]

FUTURE_LIMIT: Final = 5 * 60 * 1_000_000
"""How far, in microseconds, one clock may be ahead of another: a source's of the log's, the log's of ours."""
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EMAIL = re.compile(r"[^\s@:]+@[^\s@]+\.[^\s@.]+")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00")


def rule_faults(record: str, fields: Fields, now: Micros) -> list[Fault]:
    """Every fault of an event of this record by the rules."""
    faults: list[Fault] = []
    occurred, recorded = fields.get("occurred_at"), fields.get("recorded_at")
    if recorded is not None and recorded > now + FUTURE_LIMIT:
        hint = "it says when the log first took the event: check the year, the clock and the time zone"
        faults.append(_from_the_future("recorded_at", recorded, "now", now, hint))
    if occurred is not None and recorded is not None and occurred > recorded + FUTURE_LIMIT:
        hint = "check the clock and the time zone of the source"
        faults.append(_from_the_future("occurred_at", occurred, "recorded_at", recorded, hint))
    for name in ("subject_id", "other_subject_id"):
        if "@" in fields.get(name, "") and _EMAIL.search(fields[name]):
            faults.append(_plain_email(name, fields[name]))
    for name in _REQUIRED_TEXTS[record]:
        if fields.get(name) == "":
            faults.append(Fault("empty", below("", name), "", "a text that is not empty"))
    for rule in _RULES.get(record, ()):
        faults += rule(fields)
    return faults


def _from_the_future(name: str, found: Micros, other: str, limit: Micros, hint: str) -> Fault:
    expected = f"at most 5 minutes after {other}, which is {rfc3339(limit)}"
    return Fault("from_the_future", below("", name), rfc3339(found), expected, hint)


def _plain_email(name: str, value: str) -> Fault:
    hint = "use the id of your system, or email-sha256: and the SHA-256 of the address in lower case"
    return Fault("plain_email", below("", name), shown(value), "an opaque id", hint)


def _currency(amount: str) -> Rule:
    """The rule of an amount and its currency."""

    def rule(fields: Fields) -> Iterator[Fault]:
        code = fields.get("currency")
        if code:
            yield from _unknown_currency(code)
        elif fields.get(amount) is not None:
            hint = f"send the currency together with {amount}"
            yield Fault("money_without_currency", "/currency", code, "an ISO 4217 code such as EUR", hint)

    return rule


def _unknown_currency(code: str) -> Iterator[Fault]:
    if code not in DIGITS:
        hint = f"did you mean {code.upper()!r}?" if code.upper() in DIGITS else None
        yield Fault("unknown_currency", "/currency", code, "an ISO 4217 code such as EUR", hint)


def _reviewer(fields: Fields) -> Iterator[Fault]:
    actor = fields.get("actor")
    kind = actor.get("kind", "system") if actor is not None else "system"
    if kind == "system":
        expected = "a human; or import, where it is not known who it was"
        hint = 'send who accepted: "actor": {"kind": "human", "id": "..."}'
        yield Fault("sql_without_reviewer", "/actor/kind", kind, expected, hint)


def _exact(fields: Fields) -> Iterator[Fault]:
    value = fields.get("value")
    if isinstance(value, int) and int(float(value)) != value:
        expected = "a number that a double holds exactly, as every integer up to 2^53"
        yield Fault("out_of_range", "/value", shown(value), expected, "send it as a text")


def _note(fields: Fields) -> Iterator[Fault]:
    if fields.get("reason_code") == "other" and not fields.get("note"):
        hint = "say in the note what the reason was, or use a reason code"
        yield Fault("note_missing", "/note", fields.get("note"), "a note, since the reason is other", hint)


def _another(target: str) -> Rule:
    """The rule of an event that takes another one back."""

    def rule(fields: Fields) -> Iterator[Fault]:
        event_id = fields.get("event_id")
        if event_id is not None and fields.get(target) == event_id:
            yield Fault("takes_itself_back", below("", target), shown(event_id), "the id of another event")

    return rule


def _subject(name: str) -> Rule:
    """The rule of a fact that is about what this field names, which is its key on the topic."""

    def rule(fields: Fields) -> Iterator[Fault]:
        subject, wanted = fields.get("subject_id"), fields.get(name)
        if subject is not None and wanted is not None and subject != wanted:
            expected = f"{shown(wanted)!r}, the {name}"
            yield Fault("wrong_subject", "/subject_id", shown(subject), expected)

    return rule


def _window(fields: Fields) -> Iterator[Fault]:
    starts, ends = fields.get("starts_at"), fields.get("ends_at")
    if starts is not None and ends is not None and ends < starts:
        expected = f"at or after starts_at, which is {rfc3339(starts)}"
        yield Fault("ends_before_start", "/ends_at", rfc3339(ends), expected)


def _calendar(fields: Fields) -> Iterator[Fault]:
    yield from _zone(fields.get("zone"))
    weekly = fields.get("weekly")
    for day, windows in (weekly or {}).items():
        place = below("/weekly", shown(day))
        if day not in WEEKDAYS:
            yield Fault(
                "not_allowed", place, shown(day), "one of " + ", ".join(WEEKDAYS), close_to(day, WEEKDAYS)
            )
        for at, window in enumerate(windows):
            yield from _opening(window, below(place, at))
    if weekly is not None and not any(weekly.values()):
        yield Fault(
            "never_opens", "/weekly", None, "at least one window", "a calendar must open at some time"
        )
    for at, day in enumerate(fields.get("holidays", ())):
        yield from _holiday(day, below("/holidays", at))


def _zone(zone: str | None) -> Iterator[Fault]:
    if zone and zone not in zone_names():
        hint = close_to(zone, sorted(zone_names()))
        yield Fault("unknown_zone", "/zone", shown(zone), "an IANA time zone such as Europe/Berlin", hint)


@cache
def zone_names() -> frozenset[str]:
    """All IANA zones of the `tzdata` package."""
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split())


def _opening(window: list[str], path: str) -> Iterator[Fault]:
    whole = len(window) == 2 and all(_TIME.fullmatch(time) for time in window)
    if not whole or window[0] == window[1] or window[0] == "24:00":
        expected = 'two different times such as ["09:00", "17:00"], from "00:00" to "24:00"'
        yield Fault("bad_window", path, shown(window), expected)


def _holiday(day: str, path: str) -> Iterator[Fault]:
    try:
        good = len(day) == 10 and date.fromisoformat(day).isoformat() == day
    except ValueError:
        good = False
    if not good:
        yield Fault("bad_date", path, shown(day), "a date as YYYY-MM-DD")


_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "AttributeChanged": (_exact,),
    "HandoffAccepted": (_reviewer,),
    "HandoffRejected": (_note,),
    "OpportunityOpened": (_currency("amount_minor"),),
    "OpportunityChanged": (_currency("amount_minor"),),
    "OpportunityWon": (_currency("amount_minor"),),
    "RevenueAdjusted": (_currency("delta_minor"),),
    "CustomerRenewed": (_currency("amount_minor"),),
    "CustomerChurned": (_currency("amount_minor"),),
    "EventRetracted": (_another("target_event_id"),),
    "SubjectsUnlinked": (_another("link_event_id"),),
    "CampaignScheduled": (_subject("campaign_id"), _currency("cost_minor"), _window),
    **dict.fromkeys(
        ("DefinitionProposed", "DefinitionApproved", "DefinitionActivated"), (_subject("definition_id"),)
    ),
    "CalendarChanged": (_subject("calendar_id"), _calendar),
}

_REQUIRED_TEXTS: Final = {
    name: [
        field.name
        for field in fields
        if field.required and isinstance(field.type, inspect.StrType) and field.name != "currency"
    ]
    for name, fields in FIELDS.items()
}
