"""What one definition says that another does not: guards that every change is told once, in words, at its
line, and with every table that it may reach. That a replay uses it is guarded elsewhere.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from importlib.resources import files
from random import Random
from typing import Any

import pytest

from projections import journey
from projections.agreement import words
from projections.agreement.diff import Change, affected, diff
from projections.definition import Definition, DefinitionFaults, parse
from tests import histories
from tests.comparison import Tables, differences, projected
from tests.test_oracle import EXAMPLES

SHIPPED = files("projections").joinpath("default.yaml").read_text()
DEFINITION = parse(SHIPPED)
STAGES = {"lead_state", "stage_visit", "handoff", "sla_clock", "sla_warning", "fault", "credit"}
CLOCKS = {"sla_clock", "sla_warning"}
CHANNELS = {"credit", "touch", "campaign_exposure"}
[TOUCH_TYPES] = re.findall(r"    touch_type:\n(?:      - .*\n)+", SHIPPED)


def changes(*edits: tuple[str, str], to: str = SHIPPED) -> list[Change]:
    """The changes when texts of a file are replaced, each once."""
    text = to
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return diff(parse(to), parse(text))


SENTENCES = [
    ("score_at_least: 50", "score_at_least: 60", "MQL now needs 60 points instead of 50", STAGES),
    ("is: true", "is: false", "MQL now rules out leads with competitor false instead of true", STAGES),
    ("name: MQL ", "name: Hot ", "The stage of role mql is now called Hot instead of MQL", STAGES),
    (
        "within: 30d",
        "within: 14d",
        "MQL now needs 1 form_submitted for offer contact_sales, demo_request or pricing within 14 days "
        "instead of 30",
        STAGES,
    ),
    (
        "            - {touch: {touch_type: form_submitted",
        "            - {event: MeetingHeld}\n            - {touch: {touch_type: form_submitted",
        "MQL can now also be reached by an event MeetingHeld",
        STAGES,
    ),
    (
        "        - {not: {attribute: {name: competitor, is: true}}}\n",
        "",
        "MQL no longer needs not competitor true",
        STAGES,
    ),
    (", enter: {score_at_least: 10}", "", "Engaged is no longer entered by rule", STAGES),
    ("  - {name: SAL, role: sal}", "#", "The stage SAL of role sal is gone", STAGES),
    (
        "points: 25",
        "points: 30",
        "Scoring: inbound event_attended or referral gives 30 instead of 25 points for 180 days",
        STAGES,
    ),
    ("    - student\n", "", "Sales can no longer turn a lead down for student", STAGES),
    (
        "    - student\n",
        "    - student\n    - spam\n",
        "Sales can now also turn a lead down for spam",
        STAGES,
    ),
    ("target: 8h", "target: 4h", "handoff_review is now due after 4 hours instead of 8", CLOCKS),
    (
        "warn_at: [0.5, 0.8]",
        "warn_at: [0.5, 0.9]",
        "Warnings of handoff_review, as shares of its target: now 50 % and 90 % instead of 80",
        CLOCKS,
    ),
    (
        "max_pause: 5d",
        "max_pause: 10d",
        "Pauses of handoff_review now count at most 10 instead of 5 days in all",
        CLOCKS,
    ),
    (
        "    target: 24h\n    time: calendar",
        "    target: 24h\n    time: business\n    calendar: office",
        "first_contact is now measured in business time of office instead of calendar time",
        CLOCKS,
    ),
    (
        "start: [{entered: mql}]",
        "start: [{entered: mql}, {record: MeetingHeld}]",
        "handoff_review now also starts at MeetingHeld",
        CLOCKS,
    ),
    (", {entered: opportunity}", "", "follow_up no longer stops at entry into opportunity", CLOCKS),
    ("{record: HandoffRejected}, ", "", "handoff_review no longer stops at HandoffRejected", CLOCKS),
    (
        "target: 8h",
        "filter: {attribute: {name: country, in: [DE, AT]}}\n    target: 8h",
        "handoff_review is now only for leads with country AT or DE",
        CLOCKS,
    ),
    (
        '      - "2025-01-01"\n',
        "",
        "office is now open on 2025-01-01, no longer a holiday",
        {"stage_visit", *CLOCKS},
    ),
    (
        '[["09:00", "15:30"]]',
        '[["09:00", "17:00"]]',
        "The hours of office on fri are now 09:00-17:00 instead of 09:00-15:30",
        {"stage_visit", *CLOCKS},
    ),
    (
        '      fri: [["09:00", "15:30"]]\n',
        "",
        "The hours of office on fri are now closed instead of 09:00-15:30",
        {"stage_visit", *CLOCKS},
    ),
    (
        "zone: Europe/Berlin",
        "zone: Europe/Lisbon",
        "The calendar office is now in the zone Europe/Lisbon instead of Europe/Berlin",
        {"stage_visit", *CLOCKS},
    ),
    (
        "{utm_medium: organic}, channel: organic_search",
        "{utm_medium: organic}, channel: search",
        "Channels: touch with utm_medium organic is search instead of organic_search",
        CHANNELS,
    ),
    (
        "lookback: 365d",
        "lookback: 180d",
        "Credit now looks back 180 days instead of 365 from a win",
        {"credit"},
    ),
    (TOUCH_TYPES, "", "email_opened can now get credit too", {"credit"}),
    (
        "direction: inbound\n    touch_type",
        "direction: [inbound, outbound]\n    touch_type",
        "outbound touches can now get credit too",
        {"credit"},
    ),
    ("exposures: []", "exposures: [impression]", "Exposures impression can now get credit too", {"credit"}),
    ("      - chat\n", "", "chat no longer gets credit", {"credit"}),
    ("phone, ", "", "phone is no longer personal data", {"attribute_change"}),
    ("version: 1", "version: 2", "It is now version 2 instead of 1", set()),
]


@pytest.mark.parametrize(("old", "new", "sentence", "tables"), SENTENCES, ids=[each[2] for each in SENTENCES])
def test_a_change_is_told_in_the_language_of_the_trade(
    old: str, new: str, sentence: str, tables: AbstractSet[str]
) -> None:
    """One sentence, and the tables that it reaches."""
    [change] = changes((old, new))
    assert (change.sentence, change.affects) == (sentence, tables)


@pytest.mark.parametrize(
    ("seconds", "lasting", "working"),
    [
        (0, "0 seconds", "0 hours"),
        (1, "1 second", "1 second"),
        (60, "60 seconds", "1 minute"),
        (90, "90 seconds", "90 seconds"),
        (3_600, "60 minutes", "1 hour"),
        (86_400, "24 hours", "24 hours"),
        (172_800, "2 days", "48 hours"),
    ],
)
def test_a_duration_is_told_in_a_unit_of_which_there_are_several(
    seconds: int, lasting: str, working: str
) -> None:
    """Business time never in days, which are ambiguous there."""
    assert words.duration(seconds * 1_000_000) == lasting
    assert words.hours(seconds * 1_000_000) == working


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("{all: [{score_at_least: 1}, {event: MeetingHeld}]}", "(1 point and an event MeetingHeld)"),
        ("{any: [{score_at_least: 1000}, {event: MeetingHeld}]}", "(1,000 points or an event MeetingHeld)"),
        ("{attribute: {name: size, at_least: 1000}}", "size of at least 1,000"),
        ("{attribute: {name: size, at_least: 1, at_most: 20.5}}", "size of at least 1 and of at most 20.5"),
        ("{attribute: {name: size, exists: true}}", "size known"),
        ("{attribute: {name: size, exists: false}}", "size unknown"),
        ("{attribute: {name: size, in: [b, true, 'true', 7, '7']}}", "size '7' or 'true' or 7 or b or true"),
        (
            "{touch: {direction: inbound, campaign_id: c, offer_id: [z, a b]}}",
            "1 inbound touch of campaign c for offer 'a b' or z",
        ),
    ],
)
def test_a_condition_is_told_whatever_its_order_and_notation(rule: str, told: str) -> None:
    """What is text is quoted where it reads as something else."""
    enter = parse(SHIPPED.replace("{score_at_least: 10}", rule)).by_role["engaged"].enter
    assert enter is not None
    assert words.condition(enter) == told


MET, ASSIGNED, ASKED = (f"{{event: {name}}}" for name in ("MeetingHeld", "LeadAssigned", "ContentRequested"))
TWO, THREE = f"[{MET}, {ASSIGNED}]", f"[{MET}, {ASSIGNED}, {ASKED}]"
NESTED = [
    (f"{{all: {TWO}}}", f"{{all: {THREE}}}", "now also needs an event ContentRequested"),
    (f"{{all: {THREE}}}", f"{{all: {TWO}}}", "no longer needs an event ContentRequested"),
    (f"{{any: {TWO}}}", f"{{any: {THREE}}}", "can now also be reached by an event ContentRequested"),
    (f"{{any: {THREE}}}", f"{{any: {TWO}}}", "can no longer be reached by an event ContentRequested"),
    (
        f"{{not: {{all: {TWO}}}}}",
        f"{{not: {{all: {THREE}}}}}",
        "now rules out only leads that also have an event ContentRequested",
    ),
    (
        f"{{not: {{all: {THREE}}}}}",
        f"{{not: {{all: {TWO}}}}}",
        "now rules out leads even without an event ContentRequested",
    ),
    (
        f"{{not: {{any: {TWO}}}}}",
        f"{{not: {{any: {THREE}}}}}",
        "now also rules out leads with an event ContentRequested",
    ),
    (
        f"{{not: {{any: {THREE}}}}}",
        f"{{not: {{any: {TWO}}}}}",
        "no longer rules out leads with an event ContentRequested",
    ),
    (
        f"{{not: {MET}}}",
        f"{{not: {ASKED}}}",
        "now rules out leads with an event ContentRequested instead of MeetingHeld",
    ),
    (
        f"{{not: {{not: {MET}}}}}",
        f"{{not: {{not: {ASKED}}}}}",
        "now needs an event ContentRequested instead of MeetingHeld",
    ),
]


@pytest.mark.parametrize(("before", "after", "told"), NESTED, ids=[each[2] for each in NESTED])
@pytest.mark.parametrize(
    ("place", "owner"),
    [("enter: {score_at_least: 10}", "Engaged"), ("max_pause: 10d", "The filter of follow_up")],
    ids=["of a stage", "of a filter"],
)
def test_a_condition_is_told_by_what_encloses_it(
    place: str, owner: str, before: str, after: str, told: str
) -> None:
    """More of `all` is harder to meet and more of `any` easier, and the other way round below a `not`."""
    key = "enter: " if "enter" in place else "filter: "
    text = SHIPPED.replace(place, key + before, 1)
    [change] = changes((key + before, key + after), to=text)
    assert change.sentence == f"{owner} {told}"


LOST, STUDENT, CHANNEL = (
    "  - {name: Lost, role: lost}\n",
    "    - student\n",
    "{match: {utm_source: x}, channel: x}",
)
DETOURS = "  - {name: Churned, role: churned}\n"
LINE, DIRECTION = "  - {channel: x, points: 1}\n", "direction: inbound\n    touch_type"
NEW_YEAR, MEETS = '      - "2025-01-01"\n', f"filter: {MET}\n    target: 8h"
DESK = [("calendars:\n", 'calendars:\n  desk: {zone: UTC, weekly: {mon: [["08:00", "10:00"]]}}\n')]
LESS_COMMON = [
    ("definition_id: default", "definition_id: own", ["The definition is now own instead of default"], []),
    (LOST, "", [], ["There is now a stage Lost of role lost"]),
    (
        LOST + DETOURS,
        "  - {name: Gone, role: lost}\n",
        [
            "The stage of role lost is now called Gone instead of Lost",
            "The stage Churned of role churned is gone",
        ],
        [],
    ),
    (STUDENT, "    - spam\n", ["Sales can now turn a lead down for spam instead of student"], []),
    (NEW_YEAR, "", [], ["office is now closed on 2025-01-01, a holiday"]),
    (NEW_YEAR, '      - "2025-01-02"\n', ["office is now closed on 2025-01-02 instead of 2025-01-01"], []),
    (
        "stop: [{record: MeetingHeld}",
        "stop: [{record: LeadAssigned}",
        ["follow_up now stops at LeadAssigned instead of MeetingHeld"],
        [],
    ),
    (", {entered: opportunity}", "", [], ["follow_up now also stops at entry into opportunity"]),
    (
        "scoring:\n",
        f"scoring:\n{LINE}",
        ["Scoring has a new line: touch on channel x gives 1 point for ever"],
        ["Scoring no longer has the line: touch on channel x gives 1 point for ever"],
    ),
    (
        "channels:\n",
        f"channels:\n  - {CHANNEL}\n",
        ["Channels have a new line: touch with utm_source x is x"],
        ["Channels no longer have the line: touch with utm_source x is x"],
    ),
    ("target: 8h", MEETS, [], ["handoff_review is now for every lead"]),
    (
        DIRECTION,
        DIRECTION.replace("inbound", "outbound"),
        ["Credit now goes to outbound instead of inbound touches"],
        [],
    ),
    (
        DIRECTION,
        DIRECTION.replace("inbound", "[inbound, outbound]"),
        [],
        ["outbound touches no longer get credit"],
    ),
    ("      - chat\n", "      - email_opened\n", ["Credit now goes to email_opened instead of chat"], []),
    ("exposures: []", "exposures: [impression]", [], ["Exposures impression no longer get credit"]),
    ("[email, phone", "[phone", [], ["email is now personal data"]),
    ("[email, phone", "[mail, phone", ["mail instead of email is now personal data"], []),
    (*DESK[0], [], ["The calendar desk is gone"]),
    ("{score_at_least: 10}", "{score_at_least: 5}", ["Engaged now needs 5 points instead of 10"], []),
    (", enter: {score_at_least: 10}}", "}", [], ["Engaged is now entered by rule: 10 points"]),
]


@pytest.mark.parametrize(
    ("one", "other", "there", "back"), LESS_COMMON, ids=[each[1] for each in LESS_COMMON]
)
def test_what_comes_goes_or_takes_the_place_is_told(
    one: str, other: str, there: list[str], back: list[str]
) -> None:
    """From one text to the other, and back."""
    assert one in SHIPPED
    before, after = DEFINITION, parse(SHIPPED.replace(one, other, 1))
    assert not there or [change.sentence for change in diff(before, after)] == there
    assert not back or [change.sentence for change in diff(after, before)] == back


WARN = "warn_at: [0.5, 0.8]"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (WARN, "warn_at: [0.5, 0.9]", "sla[0].warn_at[1]"),
        (WARN, "warn_at: [0.6, 0.9]", "sla[0].warn_at"),
        (WARN, "warn_at: [0.8]", "sla[0].warn_at"),
        ("within: 30d", "within: 14d", "stages[3].enter.all[0].any[0].touch.within"),
        ("within: 30d", "at_least: 1, within: 14d", "stages[3].enter.all[0].any[0].touch"),
        ("offer_id: [demo_request,", "offer_id: [demo,", "stages[3].enter.all[0].any[0].touch.offer_id[0]"),
        ("role: recycled", "role: nurture", "stages[8].role"),
    ],
)
def test_a_change_is_at_the_one_value_that_differs(old: str, new: str, path: str) -> None:
    """Where several do, or their number, it is at what holds them; the line in either file is told."""
    one_less = SHIPPED.replace("role: nurture", "role: lost").replace("  - {name: Lost, role: lost}\n", "")
    text = one_less if "nurture" in new else SHIPPED
    [change] = changes((old, new), ("definition_id:", "# more\ndefinition_id:"), to=text)
    line = 1 + text[: text.index(old)].count("\n")
    assert (change.path, change.place) == (path, f"line {line + 1}, was {line}")


def test_the_order_of_detours_decides_nothing() -> None:
    """It is told, since reports show it, and reaches no table."""
    [first, second] = re.findall(r"  - .*role: (?:recycled|nurture).*\n", SHIPPED)
    [change] = changes((first + second, second + first))
    assert change.sentence == "The stage Nurture now stands in place 9 instead of 10"
    assert change.affects == set()


def test_the_same_meaning_in_another_notation_is_no_change() -> None:
    """Order where it does not count, one value or a list of it, units, numbers, defaults written out,
    comments."""
    assert diff(DEFINITION, DEFINITION) == []
    edits = [
        ("[demo_request, contact_sales, pricing], within: 30d", "[pricing, contact_sales, demo_request]"),
        ("touch_type: form_submitted", "within: 720h, touch_type: [form_submitted]"),
        ("                - {score_at_least: 50}\n", ""),
        ("exists: false}}\n", "exists: false}}\n                - {score_at_least: 50}\n"),
        ("company_size, at_least: 20}", "company_size, at_least: 20.0}"),
        ("lookback: 365d", "# a year"),
        (
            "{record: HandoffAccepted}, {record: HandoffRejected}",
            "{record: HandoffRejected}, {record: HandoffAccepted}",
        ),
    ]
    assert changes(*edits) == []
    every_type = SHIPPED.replace(TOUCH_TYPES, TOUCH_TYPES + "      - email_opened\n")
    assert changes((TOUCH_TYPES + "      - email_opened\n", ""), to=every_type) == []


ENGAGED, FRIDAY, HANDOFF = "{score_at_least: 10}", '[["09:00", "15:30"]]', "[{entered: mql}]"
ALIKE = [
    (FRIDAY, '[["12:00", "15:30"], ["09:00", "12:00"]]'),
    (FRIDAY, '[["09:00", "12:00"], ["12:00", "14:00"], ["14:00", "15:30"]]'),
    (FRIDAY, '[["09:00", "15:30"], ["09:00", "15:30"]]'),
    ('[["20:00", "24:00"]]', '[["20:00", "00:00"]]'),
    ('[["20:00", "04:00"]]', '[["20:00", "22:00"], ["22:00", "04:00"]]'),
    ('      - "2025-01-01"\n', '      - "2025-01-01"\n      - "2025-01-01"\n'),
    (ENGAGED, f"{{all: [{ENGAGED}]}}"),
    (ENGAGED, f"{{any: [{{all: [{ENGAGED}]}}]}}"),
    (ENGAGED, f"{{all: [{ENGAGED}, {ENGAGED}]}}"),
    (ENGAGED, f"{{not: {{not: {ENGAGED}}}}}"),
    (ENGAGED, f"{{not: {{any: [{{not: {ENGAGED}}}]}}}}"),
    (f"{{not: {MET}}}", f"{{not: {{all: [{MET}]}}}}"),
    (f"{{all: {TWO}}}", f"{{all: [{MET}, {ASSIGNED}, {MET}]}}"),
    (f"{{any: {THREE}}}", f"{{any: [{ASKED}, {{any: {TWO}}}]}}"),
    (f"{{any: {THREE}}}", f"{{any: [{ASKED}, {{all: [{{any: {TWO}}}]}}]}}"),
    (f"{{all: {THREE}}}", f"{{all: [{{all: {TWO}}}, {ASKED}]}}"),
    (f"{{any: [{ASKED}, {{all: {TWO}}}]}}", f"{{any: [{{all: [{{all: {TWO}}}]}}, {{all: [{ASKED}]}}]}}"),
    ("{attribute: {name: size, in: [1, 2]}}", "{attribute: {name: size, in: [2, 1, 2.0], exists: true}}"),
    ("{attribute: {name: size, exists: false}}", "{attribute: {name: size, at_least: 1, exists: false}}"),
    ("{touch: {offer_id: demo}}", "{touch: {direction: [outbound, inbound], offer_id: [demo]}}"),
    (HANDOFF, "[{entered: mql}, {entered: mql}]"),
    ("[{record: MeetingHeld}]", "[{record: MeetingHeld, actor: [human, system, import]}]"),
    (
        "[{record: TouchRecorded}]",
        "[{record: TouchRecorded, direction: [inbound, outbound]}, {record: TouchRecorded}]",
    ),
    ("max_pause: 5d", "max_pause: 120h"),
    ("target: 48h", "target: 2d"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=[other for _, other in ALIKE])
def test_what_gives_the_same_rows_is_no_change(one: str, other: str) -> None:
    """One alone of several, several within several, what is said twice, all for any, hours in pieces: neither
    way."""
    before, after = written(one), written(other)
    assert diff(before, after) == diff(after, before) == []


def written(text: str) -> Definition:
    """The shipped definition with a text where its like stands."""
    likes = {
        "{": ENGAGED,
        "[[": FRIDAY,
        "[{": HANDOFF,
        "target": "target: 8h",
        "max_pause": "max_pause: 5d",
        "      -": '      - "2025-01-01"\n',
    }
    return parse(
        SHIPPED.replace(next(old for begin, old in likes.items() if text.startswith(begin)), text, 1)
    )


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            '[["01:00", "02:30"], ["02:30", "03:00"]]',
            '[["01:00", "03:00"]]',
            "The hours of office on fri are now 01:00-03:00 instead of 01:00-02:30 and 02:30-03:00",
        ),
        (
            '[["02:30", "03:00"], ["03:00", "05:30"]]',
            '[["02:30", "05:30"]]',
            "The hours of office on fri are now 02:30-05:30 instead of 02:30-03:00 and 03:00-05:30",
        ),
        (
            '[["09:00", "12:00"], ["12:00", "10:00"]]',
            '[["09:00", "10:00"]]',
            "The hours of office on fri are now 09:00-10:00 instead of 09:00-12:00 and 12:00-10:00",
        ),
        (
            '[["09:00", "12:00"], ["12:00", "17:00"]]',
            '[["09:00", "12:00"], ["12:01", "17:00"]]',
            "The hours of office on fri are now 09:00-12:00 and 12:01-17:00 instead of 09:00-17:00",
        ),
        (
            '[["20:00", "24:00"]]\n      sat: [["00:00", "04:00"]]',
            '[["20:00", "04:00"]]\n      sat: []',
            "The hours of office on fri are now 20:00-04:00 instead of 20:00-24:00",
        ),
        (
            "[{record: TouchRecorded, actor: human}]",
            "[{record: TouchRecorded, actor: [import, human]}]",
            "handoff_review now starts at TouchRecorded (by human or import) instead of "
            "TouchRecorded (by human)",
        ),
        (
            f"{{all: {TWO}}}",
            f"{{any: {TWO}}}",
            "Engaged now needs (an event LeadAssigned or an event MeetingHeld) instead of (an event "
            "LeadAssigned and an event MeetingHeld)",
        ),
        (
            f"{{any: [{ASKED}, {{all: [{MET}]}}]}}",
            f"{{any: [{{event: LeadAssigned}}, {MET}]}}",
            "Engaged now needs an event LeadAssigned instead of ContentRequested",
        ),
        (
            f"{{any: [{ASKED}, {{all: [{MET}, {ASSIGNED}, {MET}]}}]}}",
            f"{{any: [{{score_at_least: 5}}, {{all: [{MET}, {{all: [{ASSIGNED}]}}]}}]}}",
            "Engaged now needs 5 points instead of an event ContentRequested",
        ),
        (
            "{attribute: {name: size, in: [1, 2], at_most: 1}}",
            "{attribute: {name: size, in: [1, 2], exists: true}}",
            "Engaged now needs size 1 or 2 instead of size 1 or 2 and of at most 1",
        ),
    ],
)
def test_what_only_looks_the_same_is_told_once(before: str, after: str, sentence: str) -> None:
    """A window's end in the hour that summer time leaves out, one that a holiday takes otherwise, and a
    change beside a part in another notation."""
    told = [change.sentence for change in diff(written(before), written(after)) if "sat" not in change.path]
    assert told == [sentence]


def test_every_direction_of_a_channel_rule_is_not_any() -> None:
    """An exposure has none, and meets no rule that asks for one."""
    [change] = changes(("{utm_medium: organic}", "{utm_medium: organic, direction: [inbound, outbound]}"))
    assert change.sentence == (
        "Channels: inbound or outbound touch with utm_medium organic is organic_search instead of "
        "touch with utm_medium organic is organic_search"
    )


MODELS = "attribution:\n  models:\n    - {id: first}\n    - {id: last}\n    - {id: decay, half_life: 7d}\n"
WITH_MODELS = SHIPPED.replace("attribution:\n", MODELS)
HOUSE = "id: custom, name: house, shares: {first: 25, lead: 25, opportunity: 50, close: 0, middle: 0}"
FIRST_MODEL = 1 + WITH_MODELS[: WITH_MODELS.index("{id: first}")].count("\n")
POLICY = 1 + WITH_MODELS[: WITH_MODELS.index("- id: first_contact")].count("\n")
OFFICE = 1 + WITH_MODELS[: WITH_MODELS.index("  office:")].count("\n")
SHARES = "custom with first 25 %, lead 25 %, opportunity 50 %, close 0 %, middle 0 %"


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (
            [("    - {id: first}\n    - {id: last}\n", f"    - {{{HOUSE}}}\n    - {{id: first}}\n")],
            [
                f"line {FIRST_MODEL} new: Deals are now also credited by house: {SHARES}",
                f"line {FIRST_MODEL + 1} gone: Deals are no longer credited by last",
            ],
        ),
        (
            [("- id: first_contact", "- id: contact")],
            [f"line {POLICY}: The SLA policy contact takes the place of first_contact"],
        ),
        (
            [("  office:\n", "  desk:\n"), *[("calendar: office", "calendar: desk")] * 3],
            [
                "line 11: Business time in stages is now that of the calendar desk instead of office",
                f"line {OFFICE}: The calendar desk takes the place of office",
                *(
                    f"line {line}: {policy} is now measured in business time of desk instead of office"
                    for line, policy in ((OFFICE + 42, "handoff_review"), (OFFICE + 58, "follow_up"))
                ),
            ],
        ),
        (
            [("- id: first_contact", "- id: contact"), ("target: 24h", "target: 12h")],
            [
                f"line {POLICY} gone: The SLA policy first_contact is gone",
                f"line {POLICY} new: There is now an SLA policy contact",
            ],
        ),
    ],
    ids=["a model", "a policy that says the same", "a calendar", "a policy that says something else"],
)
def test_what_has_another_name_is_another(edits: list[tuple[str, str]], told: list[str]) -> None:
    """It came and the other is gone, each at its line; nothing of it is said to stand elsewhere, nor to be
    instead of what it does not resemble."""
    found = changes(*edits, to=WITH_MODELS)
    assert [f"{change.place}: {change.sentence}" for change in found] == told


def test_what_no_file_writes_has_no_line() -> None:
    """Without a list of models the default ones count."""
    [*_, last] = sorted(diff(parse(WITH_MODELS), DEFINITION), key=lambda change: change.lines)
    assert last.place == "default"
    assert "None" not in str([change.place for change in diff(parse(WITH_MODELS), DEFINITION)])


def test_order_counts_where_the_first_match_does() -> None:
    """A scoring line that is asked earlier may take touches from those behind it."""
    line = "  - {touch_type: page_view, points: 1, expires_after: 30d}\n"
    [change] = changes((line, ""), ("scoring:\n", f"scoring:\n{line}"))
    assert change.sentence == (
        "Scoring now asks for page_view in line 1 instead of 7; the first line that matches counts"
    )
    assert (change.line_before, change.line_after) == (50, 44)


def test_points_that_no_rule_asks_for_reach_the_score_alone() -> None:
    """Nothing but the score shown depends on them."""
    unasked = SHIPPED.replace("{score_at_least: 50}", "{event: MeetingHeld}").replace(
        "{score_at_least: 10}", "{event: TouchRecorded}"
    )
    assert affected(changes(("points: 25", "points: 30"), to=unasked)) == {"lead_state"}


SEARCH = ("{utm_medium: organic}, channel: organic_search", "{utm_medium: organic}, channel: search")
POINTS = ("points: 25", "points: 30")
UNASKED = [("{score_at_least: 50}", "{event: MeetingHeld}"), ("{score_at_least: 10}", "{event: MeetingHeld}")]


@pytest.mark.parametrize(
    ("said", "edit", "tables"),
    [
        ([("scoring:\n", "scoring:\n  - {channel: email, points: 1}\n")], SEARCH, CHANNELS | STAGES),
        ([("{score_at_least: 10}", "{not: {touch: {channel: email}}}")], SEARCH, CHANNELS | STAGES),
        ([("target: 8h", "target: 8h\n    filter: {touch: {channel: email}}")], SEARCH, CHANNELS | CLOCKS),
        ([("target: 8h", "target: 8h\n    filter: {touch: {offer_id: demo}}")], SEARCH, CHANNELS),
        (
            [*UNASKED, ("target: 8h", "target: 8h\n    filter: {all: [{not: {score_at_least: 5}}]}")],
            POINTS,
            {"lead_state"} | CLOCKS,
        ),
        ([], *DESK, set()),
        (DESK, ("calendar: office", "calendar: desk"), {"stage_visit"}),
        (DESK, ('"08:00", "10:00"', '"08:00", "11:00"'), set()),
        ([*DESK, ("calendar: office", "calendar: desk")], ('"10:00"', '"11:00"'), {"stage_visit"}),
    ],
    ids=[
        *("channels for points", "channels for a stage", "channels for a filter", "channels for nobody"),
        *("points for a filter", "a calendar for nobody", "the calendar of visits"),
        *("hours of nobody", "hours of visits"),
    ],
)
def test_a_change_reaches_whatever_asks_for_it(
    said: list[tuple[str, str]], edit: tuple[str, str], tables: AbstractSet[str]
) -> None:
    """Channels and points go on to the rules that read them, hours to the clocks and visits on them."""
    text = SHIPPED
    for old, new in said:
        text = text.replace(old, new, 1)
    assert affected(changes(edit, to=text)) == tables


def test_a_renaming_of_the_version_reaches_nothing() -> None:
    """Name, version and rationale decide nothing: no row of the past needs another look."""
    edits = [
        ("version: 1", "version: 2"),
        ("Starting point", "Start"),
        ("definition_id: default", "definition_id: b"),
    ]
    found = changes(*edits)
    assert len(found) == 3
    assert affected(found) == set()


TOKENS: list[tuple[str, list[str]]] = [
    (r"\b(\d+)(?=[smhdw]\b)", ["7"]),
    (r"(?<=points: )\d+|(?<=at_least: )\d+|(?<=version: )\d+", ["77"]),
    (r"(?<=[\[ ])0\.\d+", ["0.7"]),
    (r'"\d\d:\d\d"', ['"08:15"', '"18:45"']),
    (r'"\d{4}-\d\d-\d\d"', ['"2031-02-03"']),
    (r"\b(true|false)\b", ["true", "false"]),
    (r"\b(form_submitted|referral|chat|call|page_view|email_clicked|content_downloaded)\b", ["email_opened"]),
    (
        r"\b(demo_request|pricing|google|linkedin|cpc|newsletter|organic|student|office|phone)\b",
        ["something"],
    ),
    (r"(?<=name: )\w+|(?<=channel: )\w+|(?<=id: )\w+", ["something"]),
    (r"\b(HandoffAccepted|MeetingHeld)\b", ["LeadAssigned"]),
    (r"\b(inbound|outbound)\b", ["inbound", "outbound"]),
    (r"(?<=entered: )\w+", ["won"]),
    (r"\bEurope/Berlin\b", ["Europe/Lisbon"]),
]
"""What can be written otherwise on a line, and otherwise how."""


def edited_lines() -> Iterator[tuple[int, str]]:
    """The shipped definition with one line changed or taken out, in every way that gives a definition."""
    lines = SHIPPED.splitlines(keepends=True)
    for number, line in enumerate(lines):
        code, hash_, comment = line.partition("#")
        edits = {
            code[: found.start()] + other + code[found.end() :] + hash_ + comment
            for pattern, others in TOKENS
            for found in re.finditer(pattern, code)
            for other in others
        }
        for edit in sorted({*edits, ""} - {line}):
            yield number + 1, "".join([*lines[:number], edit, *lines[number + 1 :]])


def valid(text: str) -> Definition | None:
    """The definition, if it is one."""
    try:
        return parse(text)
    except DefinitionFaults:
        return None


@pytest.mark.slow
def test_each_single_line_change_gives_exactly_that_change() -> None:
    """Whatever one line is changed to, or if it goes: one change, and it names that line."""
    seen, silent = set(), set()
    for line, text in edited_lines():
        definition = None if is_same(text) else valid(text)
        if definition is None:
            continue
        found = diff(DEFINITION, definition)
        if found:
            assert {change.line_before for change in found} == {line}, found
            assert len(found) == 1 or line == PERSONAL_LINE, found
            assert found[0].line_after in (line, None)
            seen.add(line)
        else:
            silent.add(SHIPPED.splitlines()[line - 1].partition("#")[0].strip())
    assert silent == set(SAYS_THE_DEFAULT)
    assert len(seen) > 80


PERSONAL_LINE = len(SHIPPED.splitlines())
"""Several names on one line: without it each of them is gone."""
SAYS_THE_DEFAULT = [
    *("calendar: office", "time: business", "time: calendar", "warn_at: 0.8", "lookback: 365d"),
    *("direction: inbound", "exposures: []"),
]
"""Lines that may go without a change: what they say counts anyway."""


def is_same(text: str) -> bool:
    """Whether only a comment differs."""
    return [x.partition("#")[0].strip() for x in text.splitlines() if x.partition("#")[0].strip()] == [
        x.partition("#")[0].strip() for x in SHIPPED.splitlines() if x.partition("#")[0].strip()
    ]


SECTIONS = [
    *("stages", "scoring", "handoff", "calendars", "sla", "channels", "attribution", "calendar", "personal"),
]


def shown(tables: Tables) -> Tables:
    """Rows without the name of the definition."""
    return {
        name: [{k: v for k, v in row.items() if k not in ("definition_version", "message")} for row in rows]
        for name, rows in tables.items()
    }


def crossed(rng: Random, theme: str) -> tuple[str, str]:
    """A definition, and the same with a section or two of another, as far as that is one."""
    one, other = (json.loads(histories.random_definition(rng, 1, theme)) for _ in range(2))
    other["calendar"], other["personal"] = "other", ["phone"]
    after: dict[str, Any] = dict(one)
    for section in rng.sample(SECTIONS, rng.choice([1, 1, 1, 2])):
        after.pop(section, None)
        if section in other:
            after[section] = other[section]
    return json.dumps(one), json.dumps(after)


@pytest.mark.slow
def test_no_row_differs_in_a_table_that_no_change_reaches() -> None:
    """Definitions with another section, folded over random logs: what differs was announced."""
    differing = Counter[str]()
    for seed in range(EXAMPLES):
        rng = Random(seed)
        theme = rng.choice(list(histories.THEMES))
        log, texts = histories.random_log(rng, 60, theme), crossed(rng, theme)
        before, after = map(valid, texts)
        if before is None or after is None:
            continue
        one, other = (shown(projected(log, [(None, text)])) for text in texts)
        reached = affected(diff(before, after))
        for table in (table.name for table in journey.TABLES):
            lines = differences({table: one.get(table, [])}, {table: other.get(table, [])})
            assert not lines or table in reached, (seed, table, lines, diff(before, after))
            differing[table] += bool(lines)
    assert all(differing[table] for table in STAGES | {"touch", "attribute_change"})
