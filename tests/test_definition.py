"""Guards the door for definitions: the documented file is read as documented, and everything wrong with
another is told at once, with its line. What the rules then do is held by the tests of predicates, calendars
and attribution.
"""

import json
import random
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from projections.attribution import DEFAULT_MODEL_IDS
from projections.definition import Definition, DefinitionFaults, parse
from projections.roles import ROLES
from projections.sla_policy import Policy
from projections.yaml_tree import MAX_CHARACTERS, MAX_DEPTH, Fault
from schemas.records import Actor, CampaignExposed, HandoffAccepted, MeetingHeld, TouchRecorded, Utm

DOCUMENTED = (Path(__file__).parent / "vectors" / "definition.yaml").read_text()
SHIPPED = files("projections").joinpath("default.yaml").read_text()
HOUR, DAY = 3_600_000_000, 86_400_000_000
SMALLEST = """
definition_id: d
version: 1
stages:
  - {name: K, role: known}
  - {name: M, role: mql}
  - {name: S, role: sql}
  - {name: W, role: won}
"""


def faults_of(text: str) -> tuple[Fault, ...]:
    with pytest.raises(DefinitionFaults) as caught:
        parse(text)
    return caught.value.faults


def touch(**fields: Any) -> TouchRecorded:
    given = {"touch_type": "form_submitted", "direction": "inbound", "channel": "web"} | fields
    return TouchRecorded(event_id="e", subject_id="s", occurred_at=0, recorded_at=0, source="t", **given)


def test_the_documented_file_is_read_as_documented() -> None:
    """Stages, points, policies, calendars, models: each with the numbers of the file."""
    definition = parse(DOCUMENTED)
    assert definition.label == "default@3"
    assert definition.rationale.startswith("Form fills from small companies")
    assert [stage.role for stage in definition.stages] == list(ROLES)
    assert definition.by_role["won"] is definition.by_name["Customer"]
    assert [(line.points, line.expires_after) for line in definition.scoring] == [
        (20, 90 * DAY),
        (1, 30 * DAY),
        (2, None),
    ]
    assert len(definition.reject_reasons) == 12
    assert (definition.calendar, set(definition.calendars)) == ("office", {"office", "always"})
    assert [(model.model_id, model.name) for model in definition.attribution.models] == [
        ("first", "first"),
        ("decay", "decay"),
        ("custom", "house"),
    ]
    assert definition.attribution.models[2].shares == (25, 25, 40, 0, 10)
    assert definition.personal == {"email", "phone", "full_name", "title"}
    assert definition.predicate_attributes == {"country", "company_size", "competitor"}
    assert definition.text == DOCUMENTED


def test_policies_of_the_documented_file() -> None:
    """Targets, warnings, calendars, and what starts and stops a clock."""
    review, contact = parse(DOCUMENTED).policies
    assert (review.target, review.calendar, review.max_pause) == (4 * HOUR, "office", 5 * DAY)
    assert [(warning.share, warning.after) for warning in review.warnings] == [
        (0.5, 2 * HOUR),
        (0.8, 4 * HOUR * 8 // 10),
    ]
    assert review.start.at_entry("mql")
    assert review.stop.at_entry("sql")
    assert not review.stop.at_entry("mql")
    accepted = HandoffAccepted(event_id="e", subject_id="s", occurred_at=0, recorded_at=0, source="t")
    assert review.stop.at_event(accepted)
    assert (contact.calendar, contact.filter, contact.max_pause) == (None, None, None)
    assert [warning.share for warning in contact.warnings] == [0.8]


def test_a_stop_asks_for_direction_and_actor() -> None:
    """First contact is an outbound touch by a person, or a meeting by anybody."""
    stop = parse(DOCUMENTED).policies[1].stop
    human = Actor("human", "rep")
    assert stop.at_event(touch(direction="outbound", actor=human))
    assert not stop.at_event(touch(direction="outbound"))
    assert not stop.at_event(touch(direction="inbound", actor=human))
    meeting = MeetingHeld(
        event_id="e", subject_id="s", occurred_at=0, recorded_at=0, source="t", meeting_id="m", kind="call"
    )
    assert stop.at_event(meeting)


def policy(**fields: str) -> Policy:
    """A policy with these fields in the smallest definition."""
    given = {"id": "p", "start": "[{entered: mql}]", "stop": "[{entered: sql}]", "target": "4h"} | fields
    calendars = 'calendars: {desk: {zone: UTC, weekly: {mon: [["09:00", "10:00"]]}}}\n'
    sla = ", ".join(f"{key}: {value}" for key, value in given.items())
    return parse(f"{SMALLEST}{calendars}sla: [{{{sla}}}]").policies[0]


def test_a_stop_asks_for_touch_types() -> None:
    """One of them, whatever the direction."""
    stop = policy(stop="[{record: TouchRecorded, touch_type: [call, meeting]}]").stop
    assert stop.at_event(touch(touch_type="call", direction="outbound"))
    assert stop.at_event(touch(touch_type="meeting"))
    assert not stop.at_event(touch(touch_type="email"))


@pytest.mark.parametrize(
    ("fields", "calendar"),
    [
        ({}, None),
        ({"calendar": "desk"}, "desk"),
        ({"time": "business", "calendar": "desk"}, "desk"),
        ({"time": "calendar", "calendar": "desk"}, None),
    ],
    ids=str,
)
def test_business_time_is_that_of_a_calendar(fields: dict[str, str], calendar: str | None) -> None:
    """A calendar alone means business time, unless calendar time is asked for."""
    assert policy(**fields).calendar == calendar


def test_warnings_are_at_four_fifths_of_the_target_unless_said_otherwise() -> None:
    """Shares in their order, the instants floored; an empty list is none."""
    thirds = policy(warn_at="[0.7, 0.333333333]", target="1s").warnings
    assert [warning.after for warning in thirds] == [333_333, 700_000]
    assert [warning.after for warning in policy().warnings] == [4 * HOUR * 8 // 10]
    assert policy(warn_at="[]").warnings == ()


def test_the_first_matching_channel_rule_classifies() -> None:
    """Every condition of a rule holds; without a matching rule the channel stays as sent."""
    definition = parse(DOCUMENTED)
    assert definition.channel_of(touch(utm=Utm(medium="cpc", source="google"))) == "paid_search"
    assert definition.channel_of(touch(utm=Utm(medium="cpc", source="bing"))) == "web"
    assert definition.channel_of(touch(channel="newsletter")) == "email"
    assert (
        definition.channel_of(touch(channel="mail", utm=Utm(medium="ppc", source="google"))) == "paid_search"
    )


CONDITIONS = [
    ({"channel": "web"}, {"channel": "mail"}),
    ({"touch_type": "form_submitted"}, {"touch_type": "call"}),
    ({"direction": "inbound"}, {"direction": "outbound"}),
    ({"campaign_id": "x"}, {"campaign_id": "y"}),
    ({"utm_source": "x"}, {"utm": Utm(source="y")}),
    ({"utm_medium": "x"}, {"utm": Utm(medium="y")}),
    ({"utm_campaign": "x"}, {"utm": Utm(campaign="y")}),
]


@pytest.mark.parametrize(("asked", "other"), CONDITIONS, ids=str)
def test_each_condition_of_a_channel_rule_decides(asked: dict[str, str], other: dict[str, Any]) -> None:
    """A touch that has what is asked is of the rule's channel, one that has something else is not."""
    ((key, value),) = asked.items()
    rule = parse(f"{SMALLEST}channels: [{{match: {{{key}: {value}}}, channel: ruled}}]")
    utm = {"utm": Utm("x", "x", "x")} if key.startswith("utm") else {}
    assert rule.channel_of(touch(campaign_id="x", **utm)) == "ruled"
    assert rule.channel_of(touch(**{"campaign_id": "x", **other})) != "ruled"


def exposure(channel: str) -> CampaignExposed:
    """An exposure of campaign c."""
    return CampaignExposed(
        event_id="e",
        subject_id="s",
        occurred_at=0,
        recorded_at=0,
        source="t",
        campaign_id="c",
        exposure_type="impression",
        channel=channel,
    )


@pytest.mark.parametrize(("asked", "classified"), [("c", True), ("d", False)])
@pytest.mark.parametrize("key", ["channel", "campaign_id"])
def test_an_exposure_has_a_channel_and_a_campaign(key: str, asked: str, classified: bool) -> None:
    """Either decides whether a rule is for it."""
    exposed = exposure("c")
    rule = parse(f"{SMALLEST}channels: [{{match: {{{key}: {asked}}}, channel: ruled}}]")
    assert (rule.channel_of(exposed) == "ruled") == classified


def test_exposures_are_classified_by_what_they_have() -> None:
    """Channel and campaign; a rule that asks for utm, direction or touch type is not for them."""
    exposed = exposure("mail")
    definition = parse(DOCUMENTED)
    assert definition.channel_of(exposed) == "email"
    assert not definition.attribution.counts(exposed)
    rules = "\nchannels: [{match: {campaign_id: c, direction: inbound}, channel: no}, "
    rules += "{match: {campaign_id: c}, channel: yes!}]\nattribution: {exposures: [impression]}"
    other = parse(SMALLEST + rules.replace("channel: no}", "channel: never}"))
    assert other.channel_of(exposed) == "yes!"
    assert other.attribution.counts(exposed)


def test_the_first_matching_line_gives_the_points() -> None:
    """On the channel after the rules; a touch that no line names gives none."""
    definition = parse(DOCUMENTED)
    lines = [
        definition.points_of(touch(), "web"),
        definition.points_of(touch(touch_type="page_view"), "email"),
        definition.points_of(touch(touch_type="page_view"), "web"),
        definition.points_of(touch(touch_type="page_view", direction="outbound"), "web"),
    ]
    assert [line.points if line else None for line in lines] == [20, 1, 2, None]


def test_credit_is_for_inbound_touches_unless_the_definition_says_otherwise() -> None:
    """The default direction holds also where touch types are named."""
    definition = parse(DOCUMENTED)
    assert definition.attribution.counts(touch())
    assert not definition.attribution.counts(touch(direction="outbound"))
    assert not definition.attribution.counts(touch(touch_type="chat"))
    both = parse(SMALLEST + "attribution: {touches: {direction: [inbound, outbound]}}")
    assert both.attribution.counts(touch(direction="outbound", touch_type="chat"))


def test_what_is_left_out_has_a_default() -> None:
    """Three keys are enough."""
    definition = parse(SMALLEST)
    assert [model.name for model in definition.attribution.models] == list(DEFAULT_MODEL_IDS)
    assert definition.attribution.lookback == 365 * DAY
    assert definition.reject_reasons == parse(DOCUMENTED).reject_reasons
    assert (definition.scoring, definition.policies, definition.channels) == ((), (), ())
    always = definition.calendars[definition.calendar]
    assert always.elapsed(0, 365 * DAY) == 365 * DAY


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("5m", 300), ("4h", 14_400), ("3d", 259_200), ("2w", 1_209_600), ("0s", 0)],
)
def test_a_duration_is_an_integer_and_a_unit(written: str, seconds: int) -> None:
    """Of seconds, minutes, hours, days or weeks."""
    assert policy(target=written).target == seconds * 1_000_000


def test_the_half_life_of_decay_is_that_of_the_file() -> None:
    """A week unless it is said; each decay has its own."""
    written = "attribution: {models: [{id: decay}, {id: decay, name: slow, half_life: 30d}]}"
    assert [model.half_life for model in parse(SMALLEST + written).attribution.models] == [7 * DAY, 30 * DAY]


def test_shares_are_in_proportion_as_written() -> None:
    """Half a percent is kept, and who is not named has none."""
    written = "attribution: {models: [{id: custom, shares: {first: 33.5, close: 66.5}}]}"
    assert parse(SMALLEST + written).attribution.models[0].shares == (67, 0, 0, 133, 0)


def test_a_single_calendar_is_that_of_the_visits() -> None:
    """Nothing to choose, so nothing has to be said."""
    calendars = 'calendars: {desk: {zone: UTC, weekly: {mon: [["09:00", "10:00"]]}}}'
    assert parse(SMALLEST + calendars).calendar == "desk"


def test_an_empty_section_counts_as_absent() -> None:
    """All lines of a section commented out leave a key without value."""
    assert parse(SMALLEST + "scoring:\nsla:\n").scoring == ()
    assert "no_budget" in parse(SMALLEST + "handoff: {reject_reasons: }").reject_reasons


def test_the_shipped_definition_is_valid_and_whole() -> None:
    """A newcomer's starting point has every role, every model, points, channels and the three promises of
    sales."""
    definition = parse(SHIPPED)
    assert [stage.role for stage in definition.stages] == list(ROLES)
    assert len(definition.attribution.models) == len(DEFAULT_MODEL_IDS)
    assert [policy.policy_id for policy in definition.policies] == [
        "handoff_review",
        "first_contact",
        "follow_up",
    ]
    assert definition.scoring
    assert definition.channels
    assert definition.personal


def test_definitions_are_compared_by_identity() -> None:
    """Two readings of one file are two definitions, each a key of its own."""
    first, second = parse(SMALLEST), parse(SMALLEST)
    assert first != second
    assert len({first, second, first}) == 2


def test_touch_predicates_of_filters_follow_those_of_stages() -> None:
    """One numbering for the whole file, so the fold keeps one list of counters."""
    sla = "sla: [{id: p, start: [{entered: mql}], stop: [{entered: sql}], target: 1h, "
    sla += "filter: {touch: {channel: c}}}]"
    text = SMALLEST.replace("role: mql}", "role: mql, enter: {touch: {channel: a, at_least: 2}}}") + sla
    found = parse(text).touch_predicates
    assert [(predicate.index, predicate.filter.channel) for predicate in found] == [
        (0, frozenset({"a"})),
        (1, frozenset({"c"})),
    ]


def test_json_is_a_definition_too() -> None:
    """A generated file need not be block style."""
    stages = [{"name": f"Étape {role}", "role": role} for role in ("anonymous", "mql", "sql", "won")]
    definition = parse(json.dumps({"definition_id": "j", "version": 2, "stages": stages}))
    assert definition.by_role["mql"].name == "Étape mql"


KNOWN = "{name: Known, role: known}"
SAL = "{name: SAL, role: sal}"
ENTER = "enter: {score_at_least: 10}"
MONDAY = 'mon: [["09:00", "17:00"]], tue'
COUNTRIES = "in: [DE, AT, CH]"
DEMO = "at_least: 1, within: 30d"
WHERE = "name: country, in: [DE, AT, CH]"
REJECTED = "{record: HandoffRejected}"
STARTS = "start: [{entered: mql}]"
FIRST = "- {id: first}"
PERSONAL = "personal: [email,"
DEMO_PATH = "stages[3].enter.any[0].touch"
TEST = "stages[3].enter.any[1].all[1].attribute"
OFFICE = "calendars.office"
BUSINESS = "time: business                     # or calendar\n    calendar: office"
BAD = [
    # what the documented file says, what another one says, path of the fault, words of what was expected
    ("definition_id: default", "definition_id: a b", "definition_id", "A-Z a-z 0-9"),
    ("definition_id: default", "definition_id: 7", "definition_id", "quote it if it is text"),
    ("version: 3", "version: 0", "version", "a whole number from 1"),
    ("version: 3", "version: true", "version", "a whole number from 1"),
    ("version: 3", "version: 1.5", "version", "a whole number from 1"),
    ("version: 3", "version: 0x10", "version", "a plain decimal number"),
    ("version: 3", "version: 010", "version", "a plain decimal number"),
    ("version: 3", "version: 1_000", "version", "a plain decimal number"),
    ("version: 3", "version:", "version", "this key is needed"),
    ("version: 3", "version: 3\nversoin: 4", "versoin", "did you mean version"),
    ("version: 3", "version: 3\nversion: 4", "version", "each key once"),
    ("calendar: office ", "calendar: ofice ", "calendar", "did you mean office"),
    (KNOWN, "{name: Known, role: knwon}", "stages[1].role", "did you mean known"),
    (KNOWN, "{name: Visitor, role: known}", "stages[1].name", "a name of its own"),
    (KNOWN, "{name: Known, role: anonymous}", "stages[1].role", "a role of its own"),
    (KNOWN, "{role: known}", "stages[1].name", "this key is needed"),
    (KNOWN, "{name: '', role: known}", "stages[1].name", "a name"),
    (KNOWN, '{name: "a\\0b", role: known}', "stages[1].name", "a name"),
    (KNOWN, "{name: Kn\u202eown, role: known}", "stages[1].name", "none of control or format"),
    (KNOWN, "{name: 10:00, role: known}", "stages[1].name", "a quoted time"),
    (KNOWN, "known", "stages[1]", "a mapping"),
    (SAL, "{name: SAL, role: engaged}", "stages[4].role", "success stages in role order"),
    (SAL, "{name: SAL, role: sal, enter: {score_at_least: 1}}", "stages[4].enter", "no rule here"),
    (
        "{name: Customer, role: won}\n  - {name: Recycled, role: recycled}",
        "{name: Recycled, role: recycled}\n  - {name: Customer, role: won}",
        "stages[8].role",
        "success stages before detours",
    ),
    (ENTER, "enter: {score_at_least: ten}", "stages[2].enter.score_at_least", "a whole number"),
    (ENTER, "enter: {score: 10}", "stages[2].enter.score", "one of all, any"),
    (ENTER, "enter: {all: []}", "stages[2].enter.all", "at least one item"),
    (ENTER, "enter: {}", "stages[2].enter", "one key"),
    (ENTER, "enter: {score_at_least: }", "stages[2].enter.score_at_least", "a value"),
    (ENTER, "enter: {all: [{any: }]}", "stages[2].enter.all[0].any", "a value"),
    (ENTER, "enter: ", "stages[2].enter", "a value"),
    ("touch_type: form_submitted, points", "touch_type: , points", "scoring[0].touch_type", "a value"),
    ("utm_source: google}", "utm_source: }", "channels[0].match.utm_source", "a value"),
    ("    warn_at: [0.5, 0.8]", "    warn_at:", "sla[0].warn_at", "a value"),
    ("touches: {direction: inbound,", "touches: {direction: ,", "attribution.touches.direction", "a value"),
    (
        ENTER,
        "enter: {score_at_least: 10, event: MeetingHeld}",
        "stages[2].enter",
        "under all or any",
    ),
    (ENTER, "enter: {event: EventRetracted}", "stages[2].enter.event", "one of TouchRecorded"),
    (ENTER, "enter: {event: CampaignExposed}", "stages[2].enter.event", "one of TouchRecorded"),
    (DEMO, "at_least: 0, within: 30d", f"{DEMO_PATH}.at_least", "from 1"),
    (DEMO, "within: 30 days", f"{DEMO_PATH}.within", "a duration"),
    (DEMO, "within: 30", f"{DEMO_PATH}.within", "a duration"),
    (DEMO, "within: 99999w", f"{DEMO_PATH}.within", "at most 36525d"),
    (COUNTRIES, "in: [DE, NO]", f"{TEST}.in[1]", "quote it if it is text"),
    (COUNTRIES, "in: []", f"{TEST}.in", "at least one item"),
    (COUNTRIES, "in: [DE, {}]", f"{TEST}.in[1]", "text"),
    (COUNTRIES, "in: [DE], is: DE", f"{TEST}.in", "either is or in"),
    (WHERE, "name: country", TEST, "one of is, in"),
    (WHERE, "is: DE", f"{TEST}.name", "is needed"),
    (
        WHERE,
        "name: email, exists: true",
        f"{TEST}.name",
        "not personal",
    ),
    (
        "company_size, at_least: 50}",
        'company_size, at_least: "50"}',
        "stages[3].enter.any[1].all[2].attribute.at_least",
        "a number",
    ),
    ("points: 20", "points: 2.5", "scoring[0].points", "a whole number"),
    ("points: 20, expires_after: 90d", "expires_after: 90d", "scoring[0].points", "is needed"),
    (
        "touch_type: form_submitted, points",
        "touch_type: form, points",
        "scoring[0].touch_type",
        "one of page_view",
    ),
    (
        "already_engaged, other]",
        "already_engaged, duplicate]",
        "handoff.reject_reasons[11]",
        "a reason of its own",
    ),
    ("zone: Europe/Berlin", "zone: Europe/Berlln", f"{OFFICE}.zone", "did you mean Europe/Berlin"),
    ("zone: Europe/Berlin, ", "", f"{OFFICE}.zone", "is needed"),
    (MONDAY, "mon: [[09:00, 17:00]], tue", f"{OFFICE}.weekly.mon[0][0]", "a quoted time"),
    (MONDAY, "mon: [[10:00, 17:00]], tue", f"{OFFICE}.weekly.mon[0][0]", "a quoted time"),
    (MONDAY, 'mon: [["09:00", "9:00"]], tue', f"{OFFICE}.weekly.mon[0]", '"HH:MM"'),
    (MONDAY, 'mon: ["09:00", "17:00"], tue', f"{OFFICE}.weekly.mon[0]", "a list"),
    (MONDAY, 'mo: [["09:00", "17:00"]], tue', f"{OFFICE}.weekly.mo", "did you mean mon"),
    ('holidays: ["2026-12-25"]', "holidays: [2026-12-25]", f"{OFFICE}.holidays[0]", "a quoted date"),
    ('holidays: ["2026-12-25"]', 'holidays: ["2026-13-25"]', f"{OFFICE}.holidays[0]", "an existing date"),
    (
        "  always: {zone: UTC,",
        "  never: {zone: UTC, weekly: {}}\n  always: {zone: UTC,",
        "calendars.never.weekly",
        "window",
    ),
    (STARTS, "start: []", "sla[0].start", "at least one item"),
    (STARTS, "start: {entered: mql}", "sla[0].start", "a list"),
    (STARTS, "start: [{entered: MQL}]", "sla[0].start[0].entered", "did you mean mql?"),
    (STARTS, "start: [{entered: mql, record: MeetingHeld}]", "sla[0].start[0]", "either `entered: ROLE`"),
    (STARTS, "start: [{actor: human}]", "sla[0].start[0]", "either `entered: ROLE`"),
    (REJECTED, "{record: HandoffReject}", "sla[0].stop[1].record", "did you mean HandoffRejected"),
    (REJECTED, "{record: EventRetracted}", "sla[0].stop[1].record", "one of TouchRecorded"),
    (REJECTED, "{record: HandoffRejected, touch_type: call}", "sla[0].stop[1].touch_type", "no touch_type"),
    (REJECTED, "{record: HandoffRejected, direction: inbound}", "sla[0].stop[1].direction", "no direction"),
    (
        "{record: MeetingHeld}]",
        "{record: MeetingHeld, actor: robot}]",
        "sla[1].stop[1].actor",
        "one of human",
    ),
    ("target: 4h", "target: 4", "sla[0].target", "a duration"),
    ("target: 4h", "target: -4h", "sla[0].target", "a duration"),
    ("time: business ", "time: busines ", "sla[0].time", "did you mean business"),
    (BUSINESS, "time: business", "sla[0].time", "a calendar too"),
    ("    calendar: office", "    calendar: nowhere", "sla[0].calendar", "one of office, always"),
    ("warn_at: [0.5, 0.8]", "warn_at: [0, 0.8]", "sla[0].warn_at[0]", "a share of the target"),
    ("warn_at: [0.5, 0.8]", "warn_at: 1.2", "sla[0].warn_at", "a share of the target"),
    ("warn_at: [0.5, 0.8]", "warn_at: [0.8, 0.80]", "sla[0].warn_at[1]", "a share of its own"),
    (
        "filter: {attribute: {name: country, in",
        "filter: {attribute: {name: phone, in",
        "sla[0].filter.attribute.name",
        "not personal",
    ),
    ("  - id: first_contact", "  - id: handoff_review", "sla[1].id", "an id of its own"),
    ("utm_medium: [cpc, ppc]", "utm_term: [cpc, ppc]", "channels[0].match.utm_term", "one of channel"),
    ("channel: paid_search}", "chanel: paid_search}", "channels[0].chanel", "did you mean channel"),
    ("lookback: 365d", "lookback: 1y", "attribution.lookback", "a duration"),
    ("exposures: []", "exposures: [click]", "attribution.exposures[0]", "one of sent"),
    (FIRST, "- {id: frist}", "attribution.models[0].id", "did you mean first"),
    (FIRST, "- {id: markov}", "attribution.models[0].id", "a report per channel"),
    (FIRST, "- {id: decay}", "attribution.models[1].id", "a name of its own"),
    (FIRST, "- {id: first, half_life: 1d}", "attribution.models[0].half_life", "only decay"),
    (FIRST, "- {id: first, shares: {first: 100}}", "attribution.models[0].shares", "only custom"),
    ("half_life: 7d", "half_life: 0d", "attribution.models[1].half_life", "more than 0"),
    ("middle: 10}", "middle: 11}", "attribution.models[2].shares", "sum to 100"),
    ("close: 0, middle: 10}", "close: -10, middle: 20}", "attribution.models[2].shares.close", "at least 0"),
    (
        ", shares: {first: 25, lead: 25, opportunity: 40, close: 0, middle: 10}",
        "",
        "attribution.models[2]",
        "shares of",
    ),
    (PERSONAL, "personal: [!!str email,", "personal[0]", "a value without a tag"),
    (PERSONAL, "personal: [*email,", "personal[0]", "written out"),
    (PERSONAL, "personal: [&a email,", "personal[0]", "written out"),
    (PERSONAL, "? [a]\n: b\npersonal: [email,", "", "a name as the key"),
    (PERSONAL, "---\npersonal: [email,", "", "one document"),
    (PERSONAL, "personal: {email,", "", "valid YAML"),
]


@pytest.mark.parametrize(
    ("said", "says", "path", "expected"), BAD, ids=[f"{case[2]}: {case[1]}" for case in BAD]
)
def test_each_fault_is_told_with_its_line(said: str, says: str, path: str, expected: str) -> None:
    """A single wrong line of the documented file gives a fault at that line and path, saying what was
    expected."""
    assert said in DOCUMENTED
    before, after = DOCUMENTED.split(said, 1)
    found = [fault for fault in faults_of(before + says + after) if fault.path == path]
    assert found, faults_of(before + says + after)
    line = before.count("\n") + 1
    lines = range(
        line, line + says.count("\n") + 1 + ("decay" in says)
    )  # the second of two decays is at fault
    assert any(expected in fault.expected and fault.line in lines for fault in found), found


def test_one_wrong_value_is_one_fault() -> None:
    """What depends on a broken value is not reported as well."""
    for said, says in [
        ("role: mql\n", "role: mqll\n"),
        ('"09:00", "17:00"]], tue', '09:00, "17:00"]], tue'),
        ("zone: Europe/Berlin", "zone: Berlin"),
        ("version: 3", "version: 3:00"),
        (STARTS, "start: []"),
        (STARTS, "start: [{entered: mqll}]"),
        (STARTS, "start: [{actor: human}]"),
        (STARTS, "start: [{event: MeetingHeld}]"),
        (ENTER, "enter: {score: 10}"),
        (ENTER, "enter: {score_at_least: }"),
        (ENTER, "enter: "),
        (WHERE, "name: country, in: "),
        ("touch_type: form_submitted, points", "touch_type: , points"),
        ("warn_at: [0.5, 0.8]", "warn_at: [half, 0.8]"),
        (KNOWN, "known"),
        (KNOWN, "{name: Known, role: anonymous}"),
        ("  always: {zone: UTC,", "  never: {zone: UTC, weekly: 9}\n  always: {zone: UTC,"),
        ("  always: {zone: UTC,", "  never: {zone: UTC, weekly: {mon: 9}}\n  always: {zone: UTC,"),
        ("{first: 25,", "{frist: 25,"),
        ("{first: 25,", "{first: true,"),
        ("{first: 25,", "{first: -25,"),
    ]:
        assert len(faults_of(DOCUMENTED.replace(said, says, 1))) == 1, says


def test_all_faults_are_told_at_once_in_file_order() -> None:
    """Six mistakes in six sections: six faults, ascending by line, each in words."""
    text = DOCUMENTED
    for said, says in [
        ("version: 3", "version: three"),
        ("within: 30d", "within: 1month"),
        ("points: 20", "points: lots"),
        ("zone: UTC", "zone: UCT+1"),
        ("target: 24h", "target: 24"),
        ("half_life: 7d", "half_life: week"),
    ]:
        text = text.replace(said, says, 1)
    found = faults_of(text)
    assert [fault.path for fault in found] == [
        "version",
        "stages[3].enter.any[0].touch.within",
        "scoring[0].points",
        "calendars.always.zone",
        "sla[1].target",
        "attribution.models[1].half_life",
    ]
    assert [fault.line for fault in found] == sorted(fault.line for fault in found)
    assert str(found[0]) == "line 2: version: three: expected a whole number from 1 to 2,147,483,647"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (PERSONAL, "personal: [&a email,"),
        (PERSONAL, "personal: [*a,"),
        ("version: 3", "version: 3\nversion: 4"),
        (PERSONAL, "? [a]\n: b\npersonal: [email,"),
        (PERSONAL, "? {a: [b]}\n: [c]\npersonal: [email,"),
        ("personal: [email, phone, full_name, title]", "personal: [email]\n---\na: b"),
    ],
)
def test_what_no_tree_should_have_hides_no_other_fault(said: str, says: str) -> None:
    """An anchor, an alias, a key twice or none that is text, and a second document are a fault each."""
    assert said in DOCUMENTED
    text = DOCUMENTED.replace("target: 24h", "target: 24").replace(said, says, 1)
    paths = {fault.path for fault in faults_of(text)}
    assert len(paths) == 2, paths
    assert "sla[1].target" in paths


def test_a_key_twice_is_a_fault_at_both_places() -> None:
    """Only the second was told, so whoever deleted that one kept the value that nobody had looked at."""
    found = faults_of(DOCUMENTED.replace("version: 3", "version: 4\nversion: 3", 1))
    assert [(fault.line, fault.path, fault.value) for fault in found] == [
        (2, "version", "the same key as in line 3"),
        (3, "version", "the same key as in line 2"),
    ]


def test_a_fault_of_a_key_is_told_at_the_key() -> None:
    """Not where its value begins: below the key, and below whatever comments stand between."""
    scoring = "scorring:\n  # at first sight right\n  - {points: 1}\n"
    calendars = "calendars:\n  'desk ':\n    # by day\n    zone: UTC\n"
    assert [(fault.line, fault.path) for fault in faults_of(SMALLEST + scoring + calendars)] == [
        (9, "scorring"),
        (13, "calendars.desk "),
        (13, "calendars.desk .weekly"),
    ]


def test_the_quotes_that_are_the_fault_are_told() -> None:
    """A quoted number is text."""
    [fault] = faults_of(DOCUMENTED.replace("version: 3", "version: '3'"))
    assert str(fault) == "line 2: version: '3': expected a whole number from 1 to 2,147,483,647"


WRONG = """\
definition_id: [a]
version: 2147483648
rationale: "a\\u200bb"
versoin: 1
stages:
  - {name: Visitor, role: Known}
  - {name: " MQL", role: mql, enter: {any: []}}
  - name: MQL
    role: sql
    role: sal
  - {name: MQL, role: mql, enter: {attribute: {name: size, exists: maybe, at_most: ten}}}
  - {name: {}, role: won, enter: {score_at_least: 1}}
scoring: {points: 1}
handoff: none
personal: [&a email, *b, !c phone]
calendar: desk
sla: [{id: p, start: [{entered: mql}], stop: [{event: won}], target: 36526d}]
channels: [{match: }]
? [a]
: b
"""
TOLD = """\
line 1: definition_id: a list: expected text
line 2: version: 2147483648: expected a whole number from 1 to 2,147,483,647
line 3: rationale: "a\\u200bb": expected text without control or format characters
line 4: versoin: unknown key versoin: expected one of definition_id, version, stages, rationale, calendar, \
scoring, handoff, calendars, sla, channels, attribution, personal; did you mean version?
line 6: stages[0].role: Known: expected one of anonymous, known, engaged, mql, sal, sql, opportunity, won, \
recycled, nurture, disqualified, lost, churned; did you mean known?
line 7: stages[1].enter.any: an empty list: expected at least one item
line 7: stages[1].name:  MQL: expected a name: one line of 1 to 200 characters, none of control or format, \
no blanks at its ends
line 9: stages[2].role: the same key as in line 10: expected each key once
line 10: stages[2].role: the same key as in line 9: expected each key once
line 11: stages[3].enter.attribute.at_most: ten: expected a number
line 11: stages[3].enter.attribute.exists: maybe: expected true or false
line 11: stages[3].name: MQL: expected a name of its own, line 8 has this one
line 11: stages[3].role: mql: expected a role of its own, line 7 has this one
line 11: stages[3].role: mql: expected success stages in role order: mql before sal
line 12: stages[4].enter: a mapping: expected no rule here: only known, engaged, mql are entered by rule
line 12: stages[4].name: a mapping: expected text
line 13: scoring: a mapping: expected a list
line 14: handoff: none: expected a mapping of keys to values
line 15: personal[0]: an anchor or alias: expected the value itself, written out
line 15: personal[1]: an anchor or alias: expected the value itself, written out
line 15: personal[2]: !c: expected a value without a tag
line 16: calendar: desk: expected nothing here: there is none to choose from
line 17: sla[0].stop[0].event: unknown key event: expected one of entered, record, direction, touch_type, \
actor
line 17: sla[0].target: 36526d: expected a duration of at most 36525d
line 18: channels[0].channel: nothing: expected a value, this key is needed
line 18: channels[0].match: nothing: expected a value, this key is needed
line 19: file: a key that is not plain text: expected a name as the key"""


def test_everything_wrong_is_told_in_these_words() -> None:
    """Whoever wrote the file reads where, what stood there, what may, and what was probably meant."""
    with pytest.raises(DefinitionFaults) as caught:
        parse(WRONG)
    assert str(caught.value) == TOLD


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: '\x07'", r"line 2: file: character \u0007: expected printable characters"),
        (
            "a: 1\n\tb: 1",
            r"line 2: file: found character '\t' that cannot start any token: "
            "expected blanks: YAML takes no tabs before a value",
        ),
        (
            "a: 1\nb: c: d",
            "line 2: file: mapping values are not allowed here: "
            "expected one key a line, and a text with a colon in quotes",
        ),
        (
            "a: 1\nb: 'c",
            "line 2: file: found unexpected end of stream: "
            "expected the rest of the file: a quote or bracket is open",
        ),
        ("a: 1\nb: [c}", "line 2: file: expected ',' or ']', but got '}': expected valid YAML"),
        (
            "#" * (MAX_CHARACTERS + 1),
            "line 1: file: 131,073 characters: expected at most 131,072",
        ),
        (
            "a:\n  - " + "[" * MAX_DEPTH,
            f"line 2: a{'[0]' * MAX_DEPTH}: more than 40 levels: expected less nesting",
        ),
        ("", "line 1: file: nothing: expected a mapping of keys to values"),
    ],
    ids=lambda value: value[:20],
)
def test_a_file_that_cannot_be_read_is_one_fault_in_these_words(text: str, told: str) -> None:
    """With the line at which the reader came to its end, and what to do."""
    [fault] = faults_of(text)
    assert str(fault) == told


@pytest.mark.parametrize(
    ("line", "most", "more"),
    [
        ("version: {}", 2**31 - 1, 2**31),
        ("definition_id: {}", "d" * 100, "d" * 101),
        ("scoring: [{{points: {}}}]", 10**9, 10**9 + 1),
        ("scoring: [{{points: {}}}]", -(10**9), -(10**9) - 1),
        ("scoring: [{{points: 1, expires_after: {}}}]", "36525d", "876601h"),
        ("scoring: [{{points: 1, channel: {}}}]", "c" * 200, "c" * 201),
        ("scoring: [{{points: 1, channel: '{}'}}]", "a b", "a "),
        ("rationale: {}", '"two\\n\\tlines"', '"bell\\a"'),
        ("attribution: {{models: [{{id: decay, half_life: {}}}]}}", "1s", "00s"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_most_that_is_taken(line: str, most: object, more: object) -> None:
    """The bound itself is; what is beyond is a fault."""
    key, _, _ = line.partition(":")
    rest = "\n".join(kept for kept in SMALLEST.splitlines() if not kept.startswith(key))
    parse(f"{rest}\n{line.format(most)}")
    assert len(faults_of(f"{rest}\n{line.format(more)}")) == 1


def test_a_wrong_role_hides_no_fault_of_the_order() -> None:
    """The stages above and below it are still compared."""
    text = SMALLEST.replace(
        "  - {name: M,", "  - {name: L, role: lost}\n  - {name: X, role: x}\n  - {name: M,"
    )
    assert [fault.path for fault in faults_of(text)] == [f"stages[{at}].role" for at in (2, 3, 4, 5)]


@pytest.mark.parametrize("stages", ["", "stages:", "stages: []", "stages: 3", "stages: [{name: K, role: k}]"])
def test_what_is_missing_is_told_once(stages: str) -> None:
    """Roles are missed only where there are stages, and none whose role cannot be read."""
    assert len(faults_of(f"definition_id: d\nversion: 1\n{stages}")) == 1


def test_a_calendar_of_none() -> None:
    """A file without calendars has none to name; the fault ended in the middle of its sentence."""
    [fault] = faults_of(SMALLEST + "calendar: desk")
    assert str(fault) == "line 9: calendar: desk: expected nothing here: there is none to choose from"


def test_many_wrong_names_of_many_calendars_are_told_in_seconds() -> None:
    """Each named all calendars and looked for a near one in them: minutes, and hundreds of megabytes."""
    calendars = ", ".join(f"c{number}: {{}}" for number in range(4_000))
    policies = ", ".join(["{calendar: x}"] * 1_000)
    began = time.perf_counter()
    found = faults_of(f"{SMALLEST}calendars: {{{calendars}}}\nsla: [{policies}]")
    assert time.perf_counter() - began < 30
    assert max(len(fault.expected) for fault in found) < 2_000
    assert any(fault.expected.endswith("c198, c199 and others") for fault in found)


def test_needed_roles() -> None:
    """Without an entry, an mql, an sql or a won stage there is no funnel."""
    found = faults_of("definition_id: d\nversion: 1\nstages: [{name: E, role: engaged}]")
    assert [fault.expected for fault in found] == [
        "a stage of role anonymous or known",
        "a stage of role mql",
        "a stage of role sql",
        "a stage of role won",
    ]


def test_a_policy_that_never_starts_is_a_fault_but_one_of_several_stops_may_be_missing() -> None:
    """A role that no stage has cannot be entered; a stop or a record beside it still can happen."""
    policy = "sla: [{id: p, target: 1h, start: [{entered: START}], stop: [{entered: sal}, {entered: sql}]}]"
    assert parse(SMALLEST + policy.replace("START", "mql")).policies[0].stop.roles == {"sal", "sql"}
    assert parse(SMALLEST + policy.replace("START", "sal}, {record: SubjectsLinked"))
    (fault,) = faults_of(SMALLEST + policy.replace("START", "sal"))
    assert (fault.path, fault.expected) == (
        "sla[0].start",
        "something that can happen: no stage has the role sal",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a mapping"),
        ("- a", "a mapping"),
        ("just words", "a mapping"),
        ("a: \x07", "printable characters"),
        ("\tversion: 1", "takes no tabs"),
        ("x" * (MAX_CHARACTERS + 1), "at most"),
        ("a: " + "[" * 100_000, "less nesting"),
        ("a: " * 1, "one of definition_id"),
        ("- " * 5_000 + "a", "less nesting"),
        ("a: {" * 200, "less nesting"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", "written out"),
        ("version: " + "9" * 5_000, "a plain decimal number"),
        ('version: 1\nrationale: "\\ud800"', "control or format characters"),
        ("version: .inf", "a plain decimal number"),
    ],
    ids=lambda value: value[:20],
)
def test_hostile_text_is_a_fault_within_a_second(text: str, expected: str) -> None:
    """Empty, huge, deep, self-multiplying or unprintable: told like any other fault, and printable."""
    began = time.perf_counter()
    found = faults_of(text)
    assert time.perf_counter() - began < 5
    assert any(expected in fault.expected for fault in found), found
    assert "\n".join(map(str, found)).encode()


def test_mutated_files_are_read_or_refused() -> None:
    """Whatever a keyboard or a broken disk does to a file: a definition or its faults, nothing else."""
    rng = random.Random(7)
    pieces = [
        "\n",
        "  ",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "#",
        "\0",
        "null",
        "é",
        "10:00",
        "&a",
        "!x",
        "|",
        "%",
    ]
    for _ in range(150):
        text = list(SHIPPED if rng.random() < 0.3 else DOCUMENTED)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 1, 1, 5, 40])] = rng.choice(pieces)
        assert_read_or_refused("".join(text))


def assert_read_or_refused(text: str) -> None:
    faults: tuple[Fault, ...] = ()
    try:
        assert isinstance(parse(text), Definition)
    except DefinitionFaults as refused:
        faults = refused.faults or (Fault(0, "", "refused without a fault", ""),)
    assert all(1 <= fault.line <= text.count("\n") + 2 and fault.expected for fault in faults), faults
