"""The parts of a definition in the words of the trade.

Promises: equal words mean an equal rule and the other way round, whatever the order and the notation in the
file, so that words can be compared. Leaves sentences to `projections.agreement.diff`.
"""

import re
from collections.abc import Callable, Iterable
from typing import assert_never

from projections.attribution import CUSTOM_SHARES, Model
from projections.definition import ChannelRule, ScoreLine
from projections.predicate import (
    AllOf,
    AnyOf,
    AttributeCondition,
    Comparable,
    EventSeen,
    Not,
    Predicate,
    ScoreAtLeast,
    TouchFilter,
    TouchPredicate,
    Values,
)
from projections.sla_policy import Policy, RecordMatch
from schemas.records import Micros

_UNITS = ((86_400_000_000, "day"), (3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second"))
_PLAIN = re.compile(r"(?!(?:true|false|and|or|not)\b)[A-Za-z_][\w.:/@+-]*|\d{4}-\d\d-\d\d")


def name(text: str) -> str:
    """A name as it is if it reads as one word, else quoted."""
    return text if _PLAIN.fullmatch(text) else repr(text)


def either(names: Iterable[str]) -> str:
    """`a, b or c`, in alphabetical order."""
    *most, last = sorted(map(name, names))
    return f"{', '.join(most)} or {last}" if most else last


def duration(micros: Micros) -> str:
    """`30 days`, `24 hours`: in the largest unit of which there is more than one."""
    size, unit = next((each for each in _UNITS if micros % each[0] == 0 and micros > each[0]), _UNITS[-1])
    return counted(micros // size, unit)


def hours(micros: Micros) -> str:
    """As `duration`, but never in days, which are ambiguous in business time."""
    size, unit = next((each for each in _UNITS[1:] if micros % each[0] == 0), _UNITS[-1])
    return counted(micros // size, unit)


def counted(count: int, noun: str) -> str:
    """`1 point`, `2 points`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def condition(predicate: Predicate) -> str:
    """What a predicate asks of a lead."""
    match predicate:
        case AllOf(parts):
            return _joined(" and ", parts)
        case AnyOf(parts):
            return _joined(" or ", parts)
        case Not(part):
            return f"not {condition(part)}"
        case ScoreAtLeast(points):
            return counted(points, "point")
        case TouchPredicate():
            within = "" if predicate.within is None else f" within {duration(predicate.within)}"
            return f"{predicate.at_least} {touches(predicate.filter)}{within}"
        case AttributeCondition():
            return _attribute(predicate)
        case EventSeen(records):
            return f"an event {either(records)}"
    assert_never(predicate)


def _joined(word: str, parts: Iterable[Predicate]) -> str:
    return f"({word.join(sorted(map(condition, parts)))})"


def _attribute(asked: AttributeCondition) -> str:
    tests = [
        *([] if asked.exists is None else ["known" if asked.exists else "unknown"]),
        *([] if asked.one_of is None else [_values(asked.one_of)]),
        *([] if asked.at_least is None else [f"of at least {asked.at_least:,}"]),
        *([] if asked.at_most is None else [f"of at most {asked.at_most:,}"]),
    ]
    return f"{name(asked.name)} {' and '.join(tests)}"


def _values(values: Iterable[tuple[str, Comparable]]) -> str:
    shown = sorted(_value(kind, value) for kind, value in values)
    return " or ".join(shown)


def _value(kind: str, value: Comparable) -> str:
    if kind == "boolean":
        return "true" if value else "false"
    return name(value) if isinstance(value, str) else f"{value:,}"


def touches(asked: TouchFilter) -> str:
    """`inbound chat or call on channel web`; `touch` is one of any type."""
    what = [either(values) for values in (asked.direction, asked.touch_type) if values is not None]
    where = (
        ("on channel", asked.channel),
        ("of campaign", asked.campaign_id),
        ("for offer", asked.offer_id),
    )
    return " ".join([*(what if asked.touch_type else [*what, "touch"]), *_given(where)])


def _given(conditions: Iterable[tuple[str, Values]]) -> list[str]:
    return [f"{label} {either(values)}" for label, values in conditions if values is not None]


def points(line: ScoreLine) -> str:
    """What a touch of a scoring line gives, and for how long."""
    expires = "for ever" if line.expires_after is None else f"for {duration(line.expires_after)}"
    return f"{counted(line.points, 'point')} {expires}"


def classified(rule: ChannelRule) -> str:
    """Which touches a channel rule names."""
    utm = (
        ("with utm_source", rule.utm_source),
        ("with utm_medium", rule.utm_medium),
        ("with utm_campaign", rule.utm_campaign),
    )
    return " ".join([touches(rule.match), *_given(utm)])


def trigger(match: RecordMatch) -> str:
    """The events of a start or stop item."""
    given = [either(values) for values in (match.direction, match.touch_type) if values is not None]
    given += [f"by {either(match.actor)}"] if match.actor is not None else []
    return f"{match.record} ({' '.join(given)})" if given else match.record


def target(policy: Policy) -> str:
    """How long a clock of the policy may run, in its own time."""
    return hours(policy.target)


def measure(policy: Policy) -> str:
    """In which time the policy's clocks run."""
    return "calendar time" if policy.calendar is None else f"business time of {name(policy.calendar)}"


def warnings(policy: Policy) -> str:
    """When the policy warns, as shares of its target."""
    shares = [f"{warning.share * 100:.15g} %" for warning in policy.warnings]
    return " and ".join(shares) if shares else "none"


def pause_limit(policy: Policy) -> str:
    """How much of a clock's pauses counts."""
    return "without limit" if policy.max_pause is None else f"at most {duration(policy.max_pause)} in all"


def model(model: Model) -> str:
    """An attribution model with its settings."""
    settings: dict[str, Callable[[], str]] = {
        "decay": lambda: f" with a half-life of {duration(model.half_life)}",
        "custom": lambda: f" with {_shares(model.shares)}",
    }
    extra = settings.get(model.model_id, str)()
    alias = "" if model.name == model.model_id else f"{name(model.name)}: "
    return f"{alias}{model.model_id}{extra}"


def _shares(shares: tuple[int, ...]) -> str:
    whole = sum(shares)
    parts = zip(CUSTOM_SHARES, shares, strict=True)
    return ", ".join(f"{position} {share * 100 / whole:.15g} %" for position, share in parts)
