"""The JSON door takes what the contract allows, and tells everything that is wrong with what it refuses.

What happens to records that are found on a topic is looked at in test_schemas_wire.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import MAX_EVENT_BYTES, MAX_FAULTS, id_of, parse, parse_line, record_of, to_json
from schemas.currencies import DIGITS, display
from schemas.faults import SHOWN_CHARACTERS, Fault, Refused
from schemas.instants import day_of, instant_of, iso_date, rfc3339
from schemas.records import (
    MAX_DAY,
    MAX_INSTANT,
    MIN_DAY,
    MIN_INSTANT,
    RECORDS,
    SYSTEM,
    TOPIC_OF,
    Actor,
    OpportunityChanged,
    Record,
    TouchRecorded,
    Utm,
)
from schemas.rules import FUTURE_LIMIT
from schemas.topics import REFERENCE
from tests.any_record import records
from tests.golden_files import fullest, smallest

NOW = instant_of("2026-03-01T10:00:00Z")
ENVELOPE: dict[str, Any] = {
    "event_id": "e1",
    "subject_id": "crm:1",
    "occurred_at": "2026-03-01T09:30:00Z",
    "source": "crm",
}
TOUCH = ENVELOPE | {
    "record": "TouchRecorded",
    "touch_type": "page_view",
    "direction": "inbound",
    "channel": "organic_search",
}
ATTRIBUTE = ENVELOPE | {"record": "AttributeChanged", "name": "size", "value": 12}
WON = ENVELOPE | {"record": "OpportunityWon", "opportunity_id": "o1", "amount_minor": 100, "currency": "EUR"}
OPENED = ENVELOPE | {"record": "OpportunityOpened", "opportunity_id": "o1"}
REJECTED = ENVELOPE | {"record": "HandoffRejected", "reason_code": "no_need", "return_to": "nurture"}
ACCEPTED = ENVELOPE | {"record": "HandoffAccepted", "actor": {"kind": "human", "id": "crm:u7"}}
CAMPAIGN = ENVELOPE | {
    "record": "CampaignScheduled",
    "subject_id": "c1",
    "campaign_id": "c1",
    "name": "Spring",
    "channel": "email",
    "starts_at": "2026-04-01T00:00:00Z",
}
RETRACTED = ENVELOPE | {"record": "EventRetracted", "target_event_id": "e0", "reason_code": "mistake"}
UNLINKED = ENVELOPE | {"record": "SubjectsUnlinked", "link_event_id": "e0", "reason_code": "mistake"}
APPROVED = ENVELOPE | {
    "record": "DefinitionApproved",
    "subject_id": "default",
    "definition_id": "default",
    "version": 1,
    "team": "sales",
}
CALENDAR = ENVELOPE | {
    "record": "CalendarChanged",
    "subject_id": "office",
    "calendar_id": "office",
    "zone": "Europe/Berlin",
    "weekly": {"mon": [["09:00", "17:00"]]},
}


def refused(event: object, may_import: bool = False) -> list[Fault]:
    """The faults of an event."""
    with pytest.raises(Refused) as refusal:
        parse(event, now=NOW, may_import=may_import)
    return list(refusal.value.faults)


def test_a_value_is_repeated_as_json_writes_it() -> None:
    """A publisher read `{'a': True}`, which is Python and no JSON."""
    [fault] = refused(TOUCH | {"channel": {"a": [True, None, "ü"]}})
    assert fault.value == '{"a": [true, null, "ü"]}'


def answer(event: object) -> Record | tuple[Fault, ...]:
    """The record of an import, or its faults."""
    try:
        return parse(event, now=MAX_INSTANT, may_import=True)
    except Refused as refusal:
        return refusal.faults


def told(event: object) -> list[tuple[str, str]]:
    """Code and place of each fault of an event."""
    return [(fault.code, fault.path) for fault in refused(event)]


def left_out(event: dict[str, Any], *names: str) -> dict[str, Any]:
    """An event without some fields."""
    return {name: value for name, value in event.items() if name not in names}


def test_an_event_becomes_a_record() -> None:
    """Instants become microseconds, what is left out has its default, and the door stamps the event."""
    event = TOUCH | {"occurred_at": "2026-03-01T10:30:00.25+01:00", "utm": {"source": "google"}}
    assert parse(event, now=NOW, may_import=False) == TouchRecorded(
        event_id="e1",
        subject_id="crm:1",
        occurred_at=instant_of("2026-03-01T09:30:00Z") + 250_000,
        recorded_at=NOW,
        source="crm",
        actor=SYSTEM,
        touch_type="page_view",
        direction="inbound",
        channel="organic_search",
        utm=Utm(source="google"),
    )


def test_null_is_the_same_as_left_out() -> None:
    """Optional fields and fields within them may be null."""
    event = OPENED | {"amount_minor": None, "currency": None, "source_sequence": None}
    event |= {"actor": {"kind": "human", "id": None}}
    record = parse(event, now=NOW, may_import=False)
    assert record == parse(OPENED | {"actor": {"kind": "human"}}, now=NOW, may_import=False)
    assert record.actor == Actor("human")


def test_a_date_is_a_day() -> None:
    """Dates are written as YYYY-MM-DD."""
    event = OPENED | {"record": "OpportunityChanged", "expected_close_on": "2026-05-17"}
    record = parse(event, now=NOW, may_import=False)
    assert isinstance(record, OpportunityChanged)
    assert record.expected_close_on == 20_590


RULES = {
    "sql_without_reviewer",
    "not_allowed",
    "bad_window",
    "bad_date",
    "ends_before_start",
    "wrong_subject",
}


@pytest.mark.parametrize("make", [smallest, fullest])
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_the_same_after_the_way_through_json(name: str, make: Any) -> None:
    """What `to_json` gives, `parse` takes; some of the examples break a rule and are told so."""
    record = make(name)
    given = answer(msgspec.json.decode(msgspec.json.encode(to_json(record))))
    if isinstance(given, tuple):
        assert name == "HandoffAccepted" or TOPIC_OF[name] == REFERENCE
        assert {fault.code for fault in given} <= RULES
    else:
        assert given == record


TYPE_CODES = {"wrong_type", "missing_field", "unknown_field", "bad_instant", "out_of_range", "too_long"}


@given(records())
def test_any_record_is_taken_or_refused_by_a_rule(record: Record) -> None:
    """No record has a fault of type after the way through JSON."""
    given = answer(msgspec.json.decode(msgspec.json.encode(to_json(record))))
    if isinstance(given, tuple):
        assert not TYPE_CODES & {fault.code for fault in given}
    else:
        assert given == record


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(records())
def test_fields_in_memory_are_judged_as_those_of_json(record: Record) -> None:
    """An import, which has its times as numbers, gets the record or the faults that the JSON would get."""
    name = type(record).__name__
    values = left_out(msgspec.to_builtins(record), "record")
    try:
        found: Record | tuple[Fault, ...] = record_of(name, values, now=MAX_INSTANT)
    except Refused as refusal:
        found = refusal.faults
    assert found == answer(to_json(record))


@given(st.sampled_from([fullest(name) for name in RECORDS]), st.data())
def test_spoiled_events_are_refused_with_a_fault_that_says_where(record: Record, data: st.DataObject) -> None:
    """Any value in any place is taken, or refused with faults; nothing else is ever raised."""
    event = to_json(record)
    for _ in range(data.draw(st.integers(1, 3))):
        event[data.draw(st.sampled_from(sorted(event)) | st.text(max_size=8))] = data.draw(JSON)
    given = answer(event)
    if isinstance(given, tuple):
        assert given
        assert all(fault.code and fault.expected for fault in given)
        assert not any(fault.path == "" and fault.code == "wrong_type" for fault in given)
        msgspec.json.encode(given)


@given(st.binary(max_size=80) | JSON.map(msgspec.json.encode))
def test_lines_that_are_no_event_are_refused(line: bytes) -> None:
    """Nothing but an object with the name of a record gets any further."""
    with pytest.raises(Refused) as refusal:
        parse_line(line, now=NOW, may_import=True)
    assert refusal.value.faults[0].code in ("not_json", "wrong_type", "missing_field", "unknown_record")


@pytest.mark.parametrize(
    ("field", "written", "code"),
    [
        ("url", rb'"\ud800"', "not_storable"),
        ("url", rb'"\udc00\ud83d\u0041"', "not_storable"),
        ("source_sequence", b"1e400", "out_of_range"),
        ("source_sequence", b"-" + b"9" * 5_000, "out_of_range"),
    ],
)
def test_json_that_is_read_with_pains_has_its_fault_at_its_place(
    field: str, written: bytes, code: str
) -> None:
    """Half a surrogate pair and a number without end were told as `not_json`, of an event without id."""
    line = msgspec.json.encode(TOUCH | {field: msgspec.Raw(written)})
    with pytest.raises(Refused) as refusal:
        parse_line(line, now=NOW, may_import=False)
    assert [(fault.code, fault.path) for fault in refusal.value.faults] == [(code, f"/{field}")]
    assert id_of(line) == "e1"
    msgspec.json.encode(refusal.value.faults)


def test_a_wrong_byte_is_told_by_its_place_in_the_line() -> None:
    """Position 0, within some text of the line, helped nobody to find it."""
    line = msgspec.json.encode(TOUCH | {"channel": "#"}).replace(b"#", b"\xff")
    with pytest.raises(Refused) as refusal:
        parse_line(line, now=NOW, may_import=False)
    assert f"byte 0xff in position {line.index(0xFF)}:" in (refusal.value.faults[0].hint or "")


def test_all_faults_are_told_at_once() -> None:
    """Faults of type and of rule, at every depth, come in one answer."""
    event = left_out(TOUCH, "channel") | {
        "occurred_at": "2026-03-01T12:00:00Z",
        "subject_id": "anna@example.com",
        "touch_type": "pageview",
        "actor": {"kind": "human", "name": "Anna"},
        "properties": {"a/b": 1},
        "Url": "x",
    }
    assert sorted(told(event)) == [
        ("from_the_future", "/occurred_at"),
        ("missing_field", "/channel"),
        ("not_allowed", "/touch_type"),
        ("plain_email", "/subject_id"),
        ("unknown_field", "/Url"),
        ("unknown_field", "/actor/name"),
        ("wrong_type", "/properties/a~1b"),
    ]


HINTS = [
    (TOUCH | {"record": "TouchRecord"}, "did you mean 'TouchRecorded'?"),
    (TOUCH | {"touch_type": "PageView"}, "did you mean 'page_view'?"),
    (TOUCH | {"chanel": "x"}, "did you mean 'channel'?"),
    (TOUCH | {"occurred_at": "2026-03-01T09:30:00"}, "add the offset: Z for UTC"),
    (WON | {"currency": "eur"}, "did you mean 'EUR'?"),
    (CALENDAR | {"zone": "Europe/Berln"}, "did you mean 'Europe/Berlin'?"),
    (OPENED | {"amount_minor": 1}, "send the currency together with amount_minor"),
]


@pytest.mark.parametrize(("event", "hint"), HINTS)
def test_a_fault_says_what_was_meant(event: dict[str, Any], hint: str) -> None:
    """Almost right words, and things that are often forgotten, get a hint."""
    (fault,) = refused(event)
    assert fault.hint == hint


BROKEN_RULES = [
    (TOUCH | {"occurred_at": "2026-03-01T10:05:00.000001Z"}, "from_the_future", "/occurred_at"),
    (TOUCH | {"subject_id": "crm:anna@example.com"}, "plain_email", "/subject_id"),
    (TOUCH | {"source": ""}, "empty", "/source"),
    (TOUCH | {"event_id": ""}, "empty", "/event_id"),
    (TOUCH | {"event_id": "x" * 161}, "too_long", "/event_id"),
    (TOUCH | {"url": "a\0b"}, "not_storable", "/url"),
    (TOUCH | {"url": "\ud800"}, "not_storable", "/url"),
    (TOUCH | {"source_sequence": 2**63}, "out_of_range", "/source_sequence"),
    (TOUCH | {"source_sequence": 1.0}, "wrong_type", "/source_sequence"),
    (TOUCH | {"source_sequence": True}, "wrong_type", "/source_sequence"),
    (TOUCH | {"occurred_at": "0001-01-01T00:00:00+01:00"}, "bad_instant", "/occurred_at"),
    (TOUCH | {"occurred_at": 1772357400}, "bad_instant", "/occurred_at"),
    (TOUCH | {"actor": "anna"}, "wrong_type", "/actor"),
    (ATTRIBUTE | {"value": 2**53 + 1}, "out_of_range", "/value"),
    (ATTRIBUTE | {"value": 12345678901234567890}, "out_of_range", "/value"),
    (RETRACTED | {"target_event_id": "e1"}, "takes_itself_back", "/target_event_id"),
    (UNLINKED | {"link_event_id": "e1"}, "takes_itself_back", "/link_event_id"),
    (CAMPAIGN | {"subject_id": "crm:1"}, "wrong_subject", "/subject_id"),
    (CALENDAR | {"subject_id": "crm:1"}, "wrong_subject", "/subject_id"),
    (APPROVED | {"subject_id": "crm:1"}, "wrong_subject", "/subject_id"),
    (OPENED | {"amount_minor": 1}, "money_without_currency", "/currency"),
    (OPENED | {"amount_minor": 0, "currency": ""}, "money_without_currency", "/currency"),
    (left_out(WON, "currency"), "money_without_currency", "/currency"),
    (WON | {"currency": "XYZ"}, "unknown_currency", "/currency"),
    (CAMPAIGN | {"cost_minor": 1}, "money_without_currency", "/currency"),
    (CAMPAIGN | {"ends_at": "2026-03-31T23:59:59Z"}, "ends_before_start", "/ends_at"),
    (ACCEPTED | {"actor": {"kind": "system"}}, "sql_without_reviewer", "/actor/kind"),
    (left_out(ACCEPTED, "actor"), "sql_without_reviewer", "/actor/kind"),
    (REJECTED | {"reason_code": "other"}, "note_missing", "/note"),
    (REJECTED | {"reason_code": "other", "note": ""}, "note_missing", "/note"),
    (REJECTED | {"reason_code": ""}, "empty", "/reason_code"),
    (
        OPENED | {"record": "OpportunityChanged", "expected_close_on": "2026-02-30"},
        "bad_date",
        "/expected_close_on",
    ),
    (CALENDAR | {"zone": "Mars/Base"}, "unknown_zone", "/zone"),
    (CALENDAR | {"weekly": {}}, "never_opens", "/weekly"),
    (CALENDAR | {"weekly": {"monday": [["09:00", "17:00"]]}}, "not_allowed", "/weekly/monday"),
    (CALENDAR | {"weekly": {"mon": [["9:00", "17:00"]]}}, "bad_window", "/weekly/mon/0"),
    (CALENDAR | {"holidays": ["2026-12-25", "2026-12-32"]}, "bad_date", "/holidays/1"),
]


@pytest.mark.parametrize(("event", "code", "path"), BROKEN_RULES)
def test_an_event_that_breaks_one_rule_has_one_fault(event: dict[str, Any], code: str, path: str) -> None:
    """Each rule has its code and names the place."""
    assert told(event) == [(code, path)]


KEPT_RULES = [
    ATTRIBUTE | {"value": 2**53},
    ATTRIBUTE | {"value": 2**53 + 0.0},
    TOUCH | {"occurred_at": "2026-03-01T10:05:00Z"},
    TOUCH | {"url": "a\\u0000b"},
    RETRACTED,
    UNLINKED,
    APPROVED,
    OPENED | {"amount_minor": 0, "currency": "JPY"},
    OPENED | {"currency": "EUR"},
    ACCEPTED,
    ACCEPTED | {"actor": {"kind": "import"}},
    REJECTED | {"reason_code": "other", "note": "moved away"},
    CAMPAIGN | {"ends_at": CAMPAIGN["starts_at"]},
    CALENDAR | {"weekly": {"fri": [["22:00", "02:00"]], "sat": [["00:00", "24:00"]]}},
    WON | {"amount_minor": -5},
]


@pytest.mark.parametrize("event", KEPT_RULES)
def test_an_event_at_the_limit_of_a_rule_is_taken(event: dict[str, Any]) -> None:
    """Limits are inclusive, and what only looks like a fault is none."""
    assert parse(event, now=NOW, may_import=False).event_id == "e1"


def test_only_who_may_import_history_sends_the_recording_time() -> None:
    """`recorded_at` is refused at the door; from an import it is kept, and the future is measured by it."""
    event = TOUCH | {"recorded_at": "2020-01-01T00:00:00Z", "occurred_at": "2020-01-01T00:00:00Z"}
    assert told(event) == [("recorded_at_refused", "/recorded_at")]
    assert parse(event, now=NOW, may_import=True).recorded_at == instant_of("2020-01-01T00:00:00Z")
    (fault,) = refused(event | {"occurred_at": "2020-01-01T00:06:00Z"}, may_import=True)
    assert (fault.code, fault.path) == ("from_the_future", "/occurred_at")


def test_nothing_was_recorded_later_than_now() -> None:
    """What said it was recorded in 2206 was taken. Our clock may be as far behind as a source's is ahead."""
    event = TOUCH | {"occurred_at": "2026-03-01T10:05:00Z", "recorded_at": "2026-03-01T10:05:00Z"}
    assert parse(event, now=NOW, may_import=True).recorded_at == NOW + FUTURE_LIMIT
    (fault,) = refused(event | {"recorded_at": "2026-03-01T10:05:00.000001Z"}, may_import=True)
    assert (fault.code, fault.path) == ("from_the_future", "/recorded_at")
    assert fault.expected == "at most 5 minutes after now, which is 2026-03-01T10:00:00Z"


@pytest.mark.parametrize("event", [None, [], "TouchRecorded", 1])
def test_what_is_no_object_is_refused(event: object) -> None:
    """An event is one JSON object."""
    assert told(event) == [("wrong_type", "")]


def test_an_event_has_at_most_32_kib() -> None:
    """The limit holds for a line with its white space and for an event that was read already."""
    big = TOUCH | {"properties": {"text": "x" * MAX_EVENT_BYTES}}
    assert told(big) == [("too_large", "")]
    line = msgspec.json.encode(TOUCH)
    assert parse_line(line.ljust(MAX_EVENT_BYTES), now=NOW, may_import=False).event_id == "e1"
    with pytest.raises(Refused, match="too_large"):
        parse_line(line.ljust(MAX_EVENT_BYTES + 1), now=NOW, may_import=False)
    full = TOUCH | {"url": "x" * (MAX_EVENT_BYTES - len(msgspec.json.encode(TOUCH | {"url": ""})))}
    assert parse_line(msgspec.json.encode(full), now=NOW, may_import=False).event_id == "e1"


def test_of_many_faults_a_hundred_are_told() -> None:
    """A hostile event makes neither a long answer nor much work, and nothing but a refusal."""
    unknown = {f"field_{number}": number for number in range(MAX_FAULTS)}
    faults = refused(unknown | TOUCH | {"occurred_at": "never", "subject_id": 5})
    assert [fault.code for fault in faults] == ["unknown_field"] * MAX_FAULTS + ["more_faults"]
    bad_days = refused(CALENDAR | {"holidays": ["x"] * (MAX_FAULTS + 1)})
    assert [fault.code for fault in bad_days] == ["bad_date"] * MAX_FAULTS + ["more_faults"]


def test_faults_repeat_little_of_what_was_sent() -> None:
    """Long values, big numbers and structures are cut, so that an answer stays small and can be written."""
    event = TOUCH | {"url": ["x" * 1000], "source_sequence": 10**300, "channel": {"y" * 1000: 1}}
    for fault in refused(event):
        assert len(str(fault.value)) <= SHOWN_CHARACTERS + 1


@given(st.integers(MIN_INSTANT, MAX_INSTANT))
def test_an_instant_survives_its_text(instant: int) -> None:
    """Every instant of the years 1 to 9999 is written and read exactly."""
    assert instant_of(rfc3339(instant)) == instant


@given(st.integers(MIN_DAY, MAX_DAY))
def test_a_day_survives_its_text(day: int) -> None:
    """Every date of the years 1 to 9999 is written and read exactly."""
    assert day_of(iso_date(day)) == day


def test_amounts_are_shown_with_the_digits_of_their_currency() -> None:
    """ISO 4217 says how many minor units there are."""
    assert display(123_456, "EUR") == "1,234.56 EUR"
    assert display(-1, "EUR") == "-0.01 EUR"
    assert display(123_456, "JPY") == "123,456 JPY"
    assert display(123_456, "KWD") == "123.456 KWD"
    assert DIGITS["XAU"] == 0


def test_a_currency_of_old_deals_is_known() -> None:
    """Codes that were withdrawn lately are on no list in force, but they are those of old deals."""
    assert {DIGITS[code] for code in ("HRK", "BGN", "LTL")} == {2}
