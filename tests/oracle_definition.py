"""The oracle's reading of a definition: roles, channels, score and predicates, over plain YAML values."""

from typing import Any

from schemas import records as r

Row = dict[str, Any]

SUCCESS = ["anonymous", "known", "engaged", "mql", "sal", "sql", "opportunity", "won"]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def duration(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]] * 1_000_000


def name_of_role(definition: Row, role: str) -> str | None:
    return next((stage["name"] for stage in definition["stages"] if stage["role"] == role), None)


def role_of_name(definition: Row, name: str) -> str | None:
    return next((stage["role"] for stage in definition["stages"] if stage["name"] == name), None)


def lowest_role(definition: Row) -> str:
    return next(role for role in SUCCESS if name_of_role(definition, role))


def is_above(role: str, other: str) -> bool:
    """Whether both are success roles and the first is the later one."""
    return role in SUCCESS and other in SUCCESS and SUCCESS.index(role) > SUCCESS.index(other)


def version_at(versions: list[tuple[int | None, Row]], at: int) -> Row:
    in_force = [(start, body) for start, body in versions if start is None or start <= at]
    if not in_force:
        return versions[0][1]
    return max(in_force, key=lambda entry: (entry[0] is not None, entry[0] or 0))[1]


def sent_value(event: r.TouchRecorded | r.CampaignExposed, key: str) -> str | None:
    if key.startswith("utm_"):
        utm = getattr(event, "utm", None)
        return getattr(utm, key.removeprefix("utm_"), None)
    return getattr(event, key, None)


def channel_of(definition: Row, event: r.TouchRecorded | r.CampaignExposed) -> str:
    for line in definition.get("channels") or []:
        if all(sent_value(event, key) in as_list(value) for key, value in line["match"].items()):
            return str(line["channel"])
    return event.channel


def touch_matches(definition: Row, line: Row, touch: r.TouchRecorded) -> bool:
    seen = {
        "touch_type": touch.touch_type,
        "direction": touch.direction,
        "offer_id": touch.offer_id,
        "campaign_id": touch.campaign_id,
        "channel": channel_of(definition, touch),
    }
    return all(seen[key] in as_list(line[key]) for key in seen if key in line)


def score_at(definition: Row, events: list[r.Record], now: int) -> int:
    score = 0
    for touch in events:
        if isinstance(touch, r.TouchRecorded):
            lines = [x for x in definition.get("scoring") or [] if touch_matches(definition, x, touch)]
            if lines and not is_expired(lines[0].get("expires_after"), touch.occurred_at, now):
                score += lines[0]["points"]
    return score


def is_expired(within: str | None, then: int, now: int) -> bool:
    return within is not None and now - then > duration(within)


def same_value(a: Any, b: Any) -> bool:
    def kind(value: Any) -> str:
        return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"

    return a is not None and b is not None and kind(a) == kind(b) and a == b


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def attribute_holds(test: Row, events: list[r.Record]) -> bool:
    value = None
    for event in events:
        if isinstance(event, r.AttributeChanged) and event.name == test["name"]:
            value = event.value
    if "is" in test:
        return same_value(value, test["is"])
    if "in" in test:
        return any(same_value(value, wanted) for wanted in as_list(test["in"]))
    if "at_most" in test:
        return is_number(value) and value <= test["at_most"]
    return is_number(value) and value >= test["at_least"]


def holds(definition: Row, predicate: Row, every: list[r.Record], counted: list[r.Record], now: int) -> bool:
    """Whether a predicate is true; `every` holds all events so far, `counted` those since the last return."""

    def inner(part: Row) -> bool:
        return holds(definition, part, every, counted, now)

    ((kind, body),) = predicate.items()
    match kind:
        case "all" | "any":
            truths = [inner(part) for part in body]
            return all(truths) if kind == "all" else any(truths)
        case "not":
            return not inner(body)
        case "score_at_least":
            return score_at(definition, counted, now) >= int(body)
        case "attribute":
            return attribute_holds(body, every)
        case "event":
            return any(type(event).__name__ in as_list(body) for event in counted)
    return touch_count(definition, body, counted, now) >= int(body.get("at_least", 1))


def touch_count(definition: Row, line: Row, counted: list[r.Record], now: int) -> int:
    return sum(
        isinstance(touch, r.TouchRecorded)
        and touch_matches(definition, line, touch)
        and not is_expired(line.get("within"), touch.occurred_at, now)
        for touch in counted
    )
