"""The parts of a definition in the words of the trade.

Promises: equal words mean an equal rule, and a rule has the same words whatever the order and the notation in
the file (one alone of several, several within several of their kind, the contrary of a contrary, something
said twice, all that there is for anything), so that words can be compared. Leaves sentences to
`projections.agreement.diff`, and what only logic finds equal (no A and no B, neither A nor B) as it is.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

from projections.attribution import CUSTOM_SHARES, Model
from projections.business_time import window_of
from projections.definition import ChannelRule, ScoreLine
from projections.predicate import (
    DIRECTIONS,
    TOUCH_TYPES,
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
from projections.sla_policy import ACTOR_KINDS, Policy, RecordMatch
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
    size, unit = next(each for each in _UNITS[1:] if micros % each[0] == 0)
    return counted(micros // size, unit)


def counted(count: int, noun: str) -> str:
    """`1 point`, `2 points`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def condition(predicate: Predicate) -> str:
    """What a predicate asks of a lead."""
    match _bare(predicate):
        case AllOf() as several:
            return _joined(" and ", several)
        case AnyOf() as several:
            return _joined(" or ", several)
        case Not(part):
            return f"not {condition(part)}"
        case ScoreAtLeast(points):
            return counted(points, "point")
        case TouchPredicate() as asked:
            within = "" if asked.within is None else f" within {duration(asked.within)}"
            return f"{asked.at_least} {touches(asked.filter)}{within}"
        case AttributeCondition() as asked:
            return _attribute(asked)
        case EventSeen(records):
            return f"an event {either(records)}"
        case never:
            assert_never(never)


def _bare(predicate: Predicate) -> Predicate:
    """What one alone of several stands for, and the contrary of a contrary."""
    match predicate:
        case AllOf((part,)) | AnyOf((part,)):
            return _bare(part)
        case Not(part):
            inner = _bare(part)
            return inner.part if isinstance(inner, Not) else Not(inner)
    return predicate


def _joined(word: str, several: AllOf | AnyOf) -> str:
    told = sorted(set(map(condition, _members(several))))
    return told[0] if len(told) == 1 else f"({word.join(told)})"


def _members(several: AllOf | AnyOf) -> Iterator[Predicate]:
    """Its conditions, with those of several of its kind within it."""
    for part in map(_bare, several.parts):
        if isinstance(part, AllOf | AnyOf) and type(part) is type(several):
            yield from _members(part)
        else:
            yield part


def _attribute(asked: AttributeCondition) -> str:
    tests = [
        *([] if asked.one_of is None else [_values(asked.one_of)]),
        *([] if asked.at_least is None else [f"of at least {asked.at_least:,}"]),
        *([] if asked.at_most is None else [f"of at most {asked.at_most:,}"]),
    ]
    if asked.exists is False:  # has no value that a test could be about
        tests = ["unknown"]
    return f"{name(asked.name)} {' and '.join(tests) or 'known'}"


def _values(values: Iterable[tuple[str, Comparable]]) -> str:
    shown = sorted(_value(kind, value) for kind, value in values)
    return " or ".join(shown)


def _value(kind: str, value: Comparable) -> str:
    if kind == "boolean":
        return "true" if value else "false"
    return name(value) if isinstance(value, str) else f"{value:,}"


def touches(asked: TouchFilter) -> str:
    """`inbound chat or call on channel web`; `touch` is one of any type."""
    direction, touch_type = _narrow(asked.direction, DIRECTIONS), _narrow(asked.touch_type, TOUCH_TYPES)
    return _touches(replace(asked, direction=direction, touch_type=touch_type))


def _narrow(values: Values, every: Collection[str]) -> Values:
    """None, which is any, for every one there is."""
    return None if values == frozenset(every) else values


def _touches(asked: TouchFilter) -> str:
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
    # Every direction is not any here: an exposure has none.
    return " ".join([_touches(rule.match), *_given(utm)])


def opening(windows: Iterable[Sequence[str]]) -> str:
    """The hours of a weekday, `09:00-12:00 and 13:00-17:00`."""
    joined = list[tuple[int, int]]()
    for window in sorted({window_of(window) for window in windows}):
        opens = joined.pop()[0] if joined and _touch(joined[-1], window) else window[0]
        joined.append((opens, window[1]))
    return " and ".join(f"{_time(opens)}-{_time(closes)}" for opens, closes in joined) or "closed"


def _touch(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two windows are as one of at most a day. Of those shorter than an hour, an end may be in the
    hour that summer time leaves out, where both are open otherwise than one that spans it."""
    is_long = min(one[1] - one[0], other[1] - other[0]) >= 60
    return is_long and one[1] == other[0] and other[1] - one[0] <= 1440


def _time(minute: int) -> str:
    """`24:00` is the end of the day, `01:00` may be of the next one."""
    hour, past = divmod(minute if minute <= 1440 else minute - 1440, 60)
    return f"{hour:02}:{past:02}"


def trigger(match: RecordMatch) -> str:
    """The events of a start or stop item."""
    direction, touch_type = _narrow(match.direction, DIRECTIONS), _narrow(match.touch_type, TOUCH_TYPES)
    actor = _narrow(match.actor, ACTOR_KINDS)
    given = [either(values) for values in (direction, touch_type) if values is not None]
    given += [f"by {either(actor)}"] if actor is not None else []
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
