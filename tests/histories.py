"""Small, vicious logs and definitions for comparisons of two folds.

Promises: everything is drawn from a `random.Random`, so that a seed names a case and hypothesis shrinks it.
Instants are few and mostly on whole minutes, inside four weeks around a change of clocks; ids, amounts and
names are few, so that events meet. Definitions are valid. Leaves out unknown fields and types.
"""

import json
from random import Random
from typing import Any

import msgspec
from hypothesis import strategies as st

from schemas import records as r

Row = dict[str, Any]
Timeline = list[tuple[int | None, str]]
Case = tuple[list[r.Record], Timeline]

MINUTE = 60_000_000
DAY = 1440 * MINUTE
MONDAY = 1_774_224_000_000_000
"""2026-03-23T00:00:00Z, six days before the clocks of Europe go forward."""

SUBJECTS = ["s1", "s2", "crm:3", "a"]
ROLES = [
    *["anonymous", "known", "engaged", "mql", "sal", "sql", "opportunity", "won"],
    *["recycled", "nurture", "disqualified", "lost", "churned"],
]
DAYS = [0, 0, 1, 1, 2, 4, 5, 6, 7, 9, 14, 20]
MANDATORY = {"mql", "sql", "won"}
TOUCH_TYPES = ["page_view", "form_submitted", "email_opened", "call"]
CHANNELS = ["web", "mail", "direct", "search"]
OFFERS = ["demo", "paper"]
CAMPAIGNS = ["c1", "c2"]
REASONS = ["no_need", "duplicate", "other"]
POLICIES = ["review", "contact", "care"]
CURRENCIES = ["EUR", "EUR", "EUR", "USD"]
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
CALENDARS: list[Row] = [
    {"zone": "Europe/Berlin", "weekly": {day: [["09:00", "17:00"]] for day in WEEK[:5]}, "holidays": []},
    {
        "zone": "Europe/Berlin",
        "weekly": {day: [["08:30", "12:00"], ["13:00", "18:00"]] for day in WEEK[:4]},
        "holidays": ["2026-03-24", "2026-04-06"],
    },
    {"zone": "Europe/Berlin", "weekly": {day: [["22:00", "06:00"]] for day in WEEK}, "holidays": []},
    {"zone": "UTC", "weekly": {day: [["00:00", "24:00"]] for day in WEEK}, "holidays": []},
    {
        "zone": "Australia/Lord_Howe",
        "weekly": {day: [["01:15", "01:45"], ["10:00", "24:00"]] for day in WEEK},
        "holidays": ["2026-04-01"],
    },
    {
        "zone": "Europe/Berlin",
        "weekly": {
            "sun": [["02:15", "03:10"], ["02:40", "04:00"], ["03:30", "09:00"]],
            "mon": [["10:00", "10:30"]],
        },
        "holidays": [],
    },
]


def chance(rng: Random, percent: int) -> bool:
    return rng.randrange(100) < percent


def maybe(rng: Random, percent: int, value: Any) -> Any:
    return value if chance(rng, percent) else None


def some(rng: Random, values: list[Any], least: int = 1) -> list[Any]:
    """A few of the values in their order."""
    few = [value for value in values if chance(rng, 50)]
    return few if len(few) >= least else values[:least]


def instant(rng: Random, days: list[int] = DAYS) -> int:
    if chance(rng, 25):
        return MONDAY + (days[0] * 1440 + rng.choice([480, 481, 960, 1920])) * MINUTE
    day = rng.choice(days)
    minute = rng.choice([0, 60, 90, 150, 420, 480, 540, 570, 720, 900, 961, 1320])
    return MONDAY + day * DAY + minute * MINUTE + rng.choice([0] * 12 + [1, 30_000_000, 59_999_999])


# Definitions


def random_predicate(rng: Random, depth: int) -> Row:
    kinds = ["score", "score", "touch", "touch", "touch", "attribute", "attribute", "event"]
    match rng.choice(kinds + ["all", "any", "not"] * (depth > 0)):
        case "score":
            return {"score_at_least": rng.choice([1, 2, 5, 10, 20])}
        case "attribute":
            return {"attribute": random_attribute_test(rng)}
        case "event":
            names = ["MeetingHeld", "ContentRequested", "SubjectsLinked", "LeadAssigned", "OpportunityLost"]
            return {"event": rng.choice([rng.choice(names), some(rng, names)])}
        case "not":
            return {"not": random_predicate(rng, depth - 1)}
        case "all" | "any" as kind:
            return {kind: [random_predicate(rng, depth - 1) for _ in range(rng.choice([1, 2, 2, 3]))]}
    line = random_touch_line(rng)
    line |= {"at_least": rng.choice([1, 2, 3])} if chance(rng, 60) else {}
    line |= {"within": rng.choice(["0m", "1m", "1h", "1d", "7d"])} if chance(rng, 50) else {}
    return {"touch": line or {"direction": "inbound"}}


def random_attribute_test(rng: Random) -> Row:
    test: Row = {"name": rng.choice(["country", "size"])}
    match rng.choice(["in", "in", "is", "at_most", "at_least", "at_least"]):
        case "in":
            return test | {"in": rng.choice([["DE", "AT"], ["DE"], [50, True], "DE"])}
        case "is":
            return test | {"is": rng.choice([True, False, "DE", 1, 50])}
        case "at_most":
            return test | {"at_most": rng.choice([1, 49])}
    return test | {"at_least": rng.choice([1, 50])}


def random_touch_line(rng: Random) -> Row:
    keys = {
        "touch_type": rng.choice([rng.choice(TOUCH_TYPES), some(rng, TOUCH_TYPES)]),
        "channel": rng.choice([rng.choice([*CHANNELS, "email"]), some(rng, [*CHANNELS, "email"])]),
        "offer_id": rng.choice([rng.choice(OFFERS), OFFERS]),
        "campaign_id": rng.choice(CAMPAIGNS),
        "direction": rng.choice(["inbound", "outbound"]),
    }
    return {key: value for key, value in keys.items() if chance(rng, 30)}


def random_scoring(rng: Random) -> list[Row]:
    lines = []
    for _ in range(rng.choice([0, 1, 2, 3])):
        line = random_touch_line(rng) or {"direction": "inbound"}
        line["points"] = rng.choice([1, 2, 5, 10])
        if chance(rng, 50):
            line["expires_after"] = rng.choice(["1h", "1d", "7d", "90d"])
        lines.append(line)
    return lines


def random_stages(rng: Random) -> list[Row]:
    lowest = rng.choice(["anonymous", "anonymous", "known"])
    stages = []
    for role in ROLES:
        if role not in MANDATORY and role != lowest and chance(rng, 12):
            continue
        if role == "anonymous" and lowest == "known":
            continue
        stage: Row = {"name": role.title() + ("2" if chance(rng, 6) else ""), "role": role}
        if role in ("known", "engaged", "mql") and chance(rng, 65):
            stage["enter"] = random_predicate(rng, 2)
        stages.append(stage)
    return stages


def random_item(rng: Random, roles: list[str]) -> Row:
    if chance(rng, 60):
        return {"entered": rng.choice([rng.choice(roles), roles[0], "mql", "sql"])}
    names = ["HandoffAccepted", "HandoffRejected", "MeetingHeld", "LeadAssigned", "StageChanged"]
    item: Row = {"record": rng.choice(["TouchRecorded", "TouchRecorded", *names])}
    if item["record"] == "TouchRecorded":
        item |= {"direction": rng.choice(["inbound", "outbound"])} if chance(rng, 60) else {}
        item |= {"touch_type": some(rng, TOUCH_TYPES)} if chance(rng, 30) else {}
    item |= {"actor": rng.choice(["human", "system"])} if chance(rng, 30) else {}
    return item


def random_policy(rng: Random, policy_id: str, roles: list[str]) -> Row:
    policy: Row = {
        "id": policy_id,
        "start": [random_item(rng, roles) for _ in range(rng.choice([1, 1, 1, 2]))],
        "stop": [random_item(rng, roles) for _ in range(rng.choice([1, 2, 3]))],
        "target": rng.choice(["0m", "30m", "1h", "4h", "4h", "24h", "24h", "3d"]),
        "time": rng.choice(["business", "business", "calendar"]),
    }
    if chance(rng, 30):
        policy["start"] = [{"entered": roles[0]}, {"record": rng.choice(["TouchRecorded", "StageChanged"])}]
    if policy["time"] == "business":
        policy["calendar"] = rng.choice(["office", "other"])
    optional = {
        "warn_at": rng.choice([[0.5, 0.8], [0.7], [0.9, 0.3], [0.1, 0.55, 0.99]]),
        "filter": random_predicate(rng, 1),
        "max_pause": rng.choice(["30m", "4h", "1d", "5d"]),
    }
    return policy | {key: value for key, value in optional.items() if chance(rng, 40)}


def random_channels(rng: Random) -> list[Row]:
    lines = []
    for _ in range(rng.choice([0, 1, 2])):
        keys: Row = {
            "channel": rng.choice([rng.choice(CHANNELS), some(rng, CHANNELS)]),
            "touch_type": some(rng, TOUCH_TYPES),
            "direction": "inbound",
            "campaign_id": rng.choice(CAMPAIGNS),
            "utm_medium": rng.choice(["cpc", ["cpc", "mail"]]),
            "utm_source": "google",
        }
        match = {key: value for key, value in keys.items() if chance(rng, 25)}
        lines.append(
            {"match": match or {"channel": "mail"}, "channel": rng.choice(["email", "direct", "paid"])}
        )
    return lines


MODELS: list[Row] = [
    *({"id": name} for name in ("first", "last", "lc", "last_non_direct", "linear", "u50", "u40", "pos40")),
    *({"id": name} for name in ("j", "inverse_j", "w30", "full_path", "decay", "shapley")),
    {"id": "decay", "name": "fast", "half_life": "1d"},
    {
        "id": "custom",
        "name": "house",
        "shares": {"first": 25, "lead": 25, "opportunity": 40, "close": 0, "middle": 10},
    },
    {
        "id": "custom",
        "name": "late",
        "shares": {"first": 0, "lead": 20, "opportunity": 0, "close": 50, "middle": 30},
    },
    {
        "id": "custom",
        "name": "edges",
        "shares": {"first": 40, "lead": 0, "opportunity": 0, "close": 60, "middle": 0},
    },
]


def random_attribution(rng: Random) -> Row:
    settings: Row = {}
    if chance(rng, 70):
        settings["lookback"] = rng.choice(["1h", "1d", "7d", "365d"])
    if chance(rng, 70):
        settings["touches"] = {"direction": rng.choice(["inbound", "inbound", ["inbound", "outbound"]])}
        settings["touches"] |= {"touch_type": some(rng, TOUCH_TYPES, 2)} if chance(rng, 40) else {}
    if chance(rng, 30):
        settings["exposures"] = some(rng, ["sent", "delivered", "impression"])
    if chance(rng, 70):
        settings["models"] = some(rng, MODELS)
    return settings


def long_policy(rng: Random) -> Row:
    """A policy whose clock starts early and runs long, for logs that are mostly about pauses."""
    policy: Row = {
        "id": "care",
        "start": [{"record": rng.choice(["TouchRecorded", "StageChanged", "AttributeChanged"])}],
        "stop": [{"record": "MeetingHeld"}],
        "target": rng.choice(["1h", "4h", "24h", "3d", "5d"]),
        "time": "business",
        "calendar": rng.choice(["office", "other"]),
        "warn_at": [0.25, 0.8],
    }
    return policy | ({"max_pause": rng.choice(["90m", "4h", "1d"])} if chance(rng, 60) else {})


def random_definition(rng: Random, version: int, theme: str = "any") -> str:
    """A valid definition file; JSON, which YAML reads and which quotes times."""
    stages = random_stages(rng)
    roles = [stage["role"] for stage in stages]
    body: Row = {"definition_id": "d", "version": version, "rationale": "random", "calendar": "office"}
    body["stages"] = stages
    body["scoring"] = random_scoring(rng)
    if chance(rng, 70):
        body["handoff"] = {"reject_reasons": some(rng, REASONS)}
    body["calendars"] = {"office": rng.choice(CALENDARS), "other": rng.choice(CALENDARS)}
    body["sla"] = [random_policy(rng, name, roles) for name in some(rng, POLICIES)]
    if theme in ("pauses", "clocks", "clock_change"):
        body["sla"] = [policy for policy in body["sla"] if policy["id"] != "care"] + [long_policy(rng)]
    body["channels"] = random_channels(rng)
    if chance(rng, 80):
        body["attribution"] = random_attribution(rng)
    body["personal"] = ["email", "phone"]
    return json.dumps(body)


def random_timeline(rng: Random, theme: str = "any") -> Timeline:
    first = maybe(rng, 20, MONDAY + 2 * DAY)
    if chance(rng, 70):
        return [(first, random_definition(rng, 1, theme))]
    starts = sorted(some(rng, [MONDAY + x * MINUTE for x in (480, 1500, 1920, 3 * 1440, 6 * 1440 + 480)]))
    versions = [
        (start, random_definition(rng, number, theme)) for number, start in enumerate(starts, start=2)
    ]
    return [(None if first is None else starts[0] - DAY, random_definition(rng, 1, theme)), *versions]


# Records


def id_of(number: int) -> str:
    """Ids whose byte order is not the order in which they were made."""
    return f"{'dbaCe'[number % 5]}{number}"


def random_actor(rng: Random) -> r.Actor:
    kind = rng.choice(["human", "human", "human", "human", "system", "system", "import"])
    return msgspec.convert({"kind": kind, "id": maybe(rng, 30, "s1")}, r.Actor)


def random_money(rng: Random) -> Row:
    amount = rng.choice([None, 1, 100, 10_001, 99_999])
    return {"amount_minor": amount, "currency": maybe(rng, 95, rng.choice(CURRENCIES)) if amount else None}


def touch_fields(rng: Random) -> Row:
    utm = {"source": maybe(rng, 50, "google"), "medium": rng.choice([None, "cpc", "mail"])}
    return {
        "touch_type": rng.choice(TOUCH_TYPES),
        "direction": rng.choice(["inbound", "inbound", "inbound", "outbound"]),
        "channel": rng.choice(CHANNELS),
        "campaign_id": rng.choice([None, *CAMPAIGNS]),
        "offer_id": rng.choice([None, *OFFERS]),
        "utm": maybe(rng, 40, utm),
        "url": maybe(rng, 20, "https://example.org"),
    }


def stage_fields(rng: Random) -> Row:
    role = rng.choice([*ROLES, "mql", "mql", "mql", "sal", "recycled"])
    return {
        "to_stage": rng.choice([role.title()] * 16 + [role.title() + "2", "Nowhere"]),
        "reason_code": rng.choice(["why", "why", "why", "", None]),
    }


def rejection_fields(rng: Random) -> Row:
    return {
        "reason_code": rng.choice([*REASONS, *REASONS, "unheard_of"]),
        "return_to": rng.choice(["recycled", "nurture", "disqualified"]),
        "recycle_until": maybe(rng, 30, instant(rng)),
        "note": rng.choice([None, "", "since", "since"]),
    }


def pause_fields(rng: Random) -> Row:
    return {"policy_id": rng.choice([None, None, *POLICIES]), "reason_code": "waiting"}


def attribute_fields(rng: Random) -> Row:
    values = ["DE", "AT", "FR", 50.0, 1.0, 49.0, True, False, None]
    return {"name": rng.choice(["country", "size", "size", "email"]), "value": rng.choice(values)}


def deal(rng: Random) -> Row:
    return {"opportunity_id": rng.choice(["o1", "o1", "o2"])}


def renewal_fields(rng: Random) -> Row:
    return random_money(rng) | {"opportunity_id": maybe(rng, 40, "o1"), "reason_code": maybe(rng, 50, "left")}


def adjustment_fields(rng: Random) -> Row:
    delta = {"delta_minor": rng.choice([-10_001, -100, -1, 0, 7, 100])}
    effective = {"effective_at": instant(rng), "reason_code": "refund"}
    return deal(rng) | delta | effective | {"currency": rng.choice([*CURRENCIES * 3, ""])}


def won_fields(rng: Random) -> Row:
    amount = {"amount_minor": rng.choice([0, 1, 100, 10_001, 99_999])}
    return deal(rng) | amount | {"currency": rng.choice([*CURRENCIES * 3, ""])}


def calendar_fields(rng: Random) -> Row:
    return {"calendar_id": rng.choice(["office", "other"]), **rng.choice(CALENDARS)}


def some_id(rng: Random) -> str:
    return id_of(rng.randrange(24))


KINDS: list[tuple[int, str, Any]] = [
    (22, "TouchRecorded", touch_fields),
    (3, "CampaignExposed", lambda rng: {
        "campaign_id": rng.choice(CAMPAIGNS),
        "exposure_type": rng.choice(["sent", "delivered", "impression"]),
        "channel": rng.choice(CHANNELS),
        "offer_id": maybe(rng, 40, "demo"),
    }),
    (7, "AttributeChanged", attribute_fields),
    (16, "StageChanged", stage_fields),
    (4, "LeadAssigned", lambda rng: {"owner_id": rng.choice(["ann", "bob"]), "team_id": maybe(rng, 50, "t")}),
    (7, "HandoffAccepted", lambda rng: {}),
    (8, "HandoffRejected", rejection_fields),
    (6, "ClockPaused", pause_fields),
    (5, "ClockResumed", pause_fields),
    (2, "MeetingHeld", lambda rng: {"meeting_id": "m1", "kind": "call", "attendees": ["x"]}),
    (1, "ContentRequested", lambda rng: {"request_id": "q", "topic": "t"}),
    (1, "ContentDelivered", lambda rng: {"request_id": "q", "topic": "t"}),
    (7, "OpportunityOpened", lambda rng: deal(rng) | random_money(rng) | {"account_id": maybe(rng, 50, "a")}),
    (3, "OpportunityChanged", lambda rng: deal(rng) | random_money(rng)),
    (7, "OpportunityWon", won_fields),
    (4, "OpportunityLost", lambda rng: deal(rng) | {"reason_code": rng.choice(["price", "price", ""])}),
    (4, "OpportunityReopened", lambda rng: deal(rng) | {"reason_code": "again"}),
    (4, "RevenueAdjusted", adjustment_fields),
    (2, "CustomerRenewed", renewal_fields),
    (3, "CustomerChurned", renewal_fields),
    (6, "EventRetracted", lambda rng: {"target_event_id": some_id(rng), "reason_code": "mistake"}),
    (5, "SubjectsLinked", lambda rng: {
        "other_subject_id": rng.choice(SUBJECTS),
        "evidence": rng.choice(["identified", "merged_in_crm", "same_email", "manual", "import"]),
    }),
    (2, "SubjectsUnlinked", lambda rng: {"link_event_id": some_id(rng), "reason_code": "mistake"}),
    (1, "SubjectErased", lambda rng: {"request_id": "e"}),
    (3, "CalendarChanged", calendar_fields),
    (1, "CampaignScheduled", lambda rng: {
        "campaign_id": "c1", "name": "c", "channel": "mail", "starts_at": instant(rng)
    }),
]  # fmt: skip


THEMES: dict[str, tuple[set[str], list[int]]] = {
    "any": (set(), DAYS),
    "clocks": (
        {"ClockPaused", "ClockResumed", "StageChanged", "HandoffRejected", "CalendarChanged"},
        [0, 0, 1, 2],
    ),
    "clock_change": ({"ClockPaused", "ClockResumed", "StageChanged", "SubjectErased"}, [5, 6, 6, 7]),
    "deals": (
        {name for _, name, _ in KINDS if name.startswith(("Opportunity", "Customer", "Revenue", "Touch"))},
        DAYS,
    ),
    "wins": (
        {"TouchRecorded", "OpportunityWon", "OpportunityReopened", "RevenueAdjusted"},
        [0, 1, 2, 5],
    ),
    "touches": ({"TouchRecorded"}, [0, 0, 1, 2, 7, 9]),
    "pauses": ({"ClockPaused", "ClockResumed", "CalendarChanged"}, [0, 0, 1]),
    "handoffs": ({"HandoffAccepted", "HandoffRejected", "StageChanged", "AttributeChanged"}, [0, 1, 2, 5]),
    "names": ({"SubjectsLinked", "SubjectsUnlinked", "EventRetracted"}, [0, 1]),
}
"""What a log is mostly about: kinds of record that come five times as often, and its days."""


def random_record(rng: Random, theme: str = "any") -> r.Record:
    """One record of any kind, without an id yet."""
    favoured, days = THEMES[theme]
    weights = [weight * (5 if name in favoured else 1) for weight, name, _ in KINDS]
    _, name, fields = rng.choices(KINDS, weights=weights)[0]
    occurred_at = instant(rng, days)
    lag = rng.choice([0] * 8 + [1, 60, 4000]) if chance(rng, 96) else rng.choice([-5, -6])
    envelope = {
        "event_id": "unnamed",
        "subject_id": rng.choice(["s1", "s1", "s1", "s1", *SUBJECTS]),
        "occurred_at": occurred_at,
        "recorded_at": occurred_at + lag * MINUTE,
        "source": "test",
        "source_sequence": maybe(rng, 30, rng.randrange(-1, 3)),
        "actor": random_actor(rng),
    }
    if name in ("CalendarChanged", "CampaignScheduled"):
        envelope |= {"subject_id": "office", "recorded_at": occurred_at}
    return msgspec.convert(envelope | fields(rng), r.RECORDS[name])


def is_reference(record: r.Record) -> bool:
    return isinstance(record, r.CalendarChanged | r.CampaignScheduled)


def random_copy(rng: Random, record: r.Record) -> r.Record:
    """A duplicate of a record, or a conflict under its id."""
    if chance(rng, 45) or is_reference(record):
        return msgspec.structs.replace(
            record, recorded_at=record.recorded_at + rng.choice([-1, 0, 9]) * MINUTE
        )
    other = random_record(rng)
    while is_reference(other):
        other = msgspec.structs.replace(record, subject_id=rng.choice(SUBJECTS), source="other")
    same = {"event_id": record.event_id, "recorded_at": record.recorded_at} if chance(rng, 30) else {}
    return msgspec.structs.replace(other, **({"event_id": record.event_id} | same))


def log_of(rng: Random, records: list[r.Record]) -> list[r.Record]:
    """The records with ids by their place, and copies of some of them."""
    named = [msgspec.structs.replace(one, event_id=id_of(place)) for place, one in enumerate(records)]
    return named + [random_copy(rng, record) for record in named if chance(rng, 8)]


def random_log(rng: Random, size: int, theme: str) -> list[r.Record]:
    return log_of(rng, [random_record(rng, theme) for _ in range(size)])


def random_case(seed: int, size: int) -> Case:
    """The log and timeline that a seed names, for long runs outside pytest."""
    rng = Random(seed)
    theme = rng.choice(list(THEMES))
    return random_log(rng, size, theme), random_timeline(rng, theme)


def _randoms() -> st.SearchStrategy[Random]:
    return st.randoms(use_true_random=False)


def logs(theme: str, max_size: int = 30) -> st.SearchStrategy[list[r.Record]]:
    """Whole logs of a theme of up to `max_size` events, copies apart."""
    one = st.builds(random_record, _randoms(), st.just(theme))
    return st.builds(log_of, _randoms(), st.lists(one, min_size=1, max_size=max_size))


def cases(max_size: int = 30) -> st.SearchStrategy[Case]:
    """A log and a definition timeline of one theme."""
    return st.sampled_from(list(THEMES)).flatmap(
        lambda theme: st.tuples(logs(theme, max_size), st.builds(random_timeline, _randoms(), st.just(theme)))
    )
