"""Counters: what predicates read of a journey, kept up event by event.

Promises: score, touch times, records seen and attribute values at the event being folded, at a cost that does
not grow with the journey; counted anew when another definition comes into force. Leaves asking to the stage
machine (rules) and the clocks (filters).
"""

from heapq import heappop, heappush

from projections.definition import Definition
from projections.moment import Moment
from projections.state import Counters, JourneyState
from schemas.records import AttributeChanged, CampaignExposed, Micros, TouchRecorded


def step(moment: Moment) -> None:
    """Counts the event. Exposures are no part of what predicates see."""
    state, event = moment.state, moment.event
    if state.definition_no != moment.definition_no:
        _count_anew(state, moment.definition)
        state.definition_no = moment.definition_no
    counters = state.counters
    _expire(counters, event.occurred_at)
    if isinstance(event, CampaignExposed):
        return
    counters.seen.add(type(event).__name__)
    if isinstance(event, TouchRecorded):
        _count_touch(counters, moment.definition, event)
    elif isinstance(event, AttributeChanged):
        _set_attribute(moment, event)


def restart(state: JourneyState) -> None:
    """Forgets everything but attributes: a return. What comes after the returning event counts again."""
    counters = state.counters
    counters.score = 0
    counters.expiring.clear()
    counters.seen.clear()
    for times in counters.touch_times:
        times.clear()
    state.touches.counted_from = len(state.touches.kept)


def _expire(counters: Counters, now: Micros) -> None:
    expiring = counters.expiring
    while expiring and expiring[0][0] < now:
        counters.score -= heappop(expiring)[1]


def _count_touch(counters: Counters, definition: Definition, touch: TouchRecorded) -> None:
    channel = definition.channel_of(touch)
    line = definition.points_of(touch, channel)
    if line is not None:
        counters.score += line.points
        if line.expires_after is not None:
            heappush(counters.expiring, (touch.occurred_at + line.expires_after, line.points))
    for predicate in definition.touch_predicates:
        if predicate.matches(touch, channel):
            times = counters.touch_times[predicate.index]
            times.append(touch.occurred_at)
            del times[: -predicate.at_least]


def _set_attribute(moment: Moment, event: AttributeChanged) -> None:
    if event.name in moment.rules.predicate_attributes:
        moment.state.counters.attributes[event.name] = event.value


def _count_anew(state: JourneyState, definition: Definition) -> None:
    """Counts the touches since the last return as this definition sees them."""
    counters, touches = state.counters, state.touches
    counters.score = 0
    counters.expiring.clear()
    counters.touch_times = [[] for _ in definition.touch_predicates]
    for touch in touches.kept[touches.counted_from :]:
        event = touch.as_event()
        if isinstance(event, TouchRecorded):
            _count_touch(counters, definition, event)
