"""Touches: those that a later win may credit, or another definition may count differently.

Promises: no touch is forgotten that can still matter. Leaves counting to `counters`, crediting to `credit`.
"""

from bisect import bisect_left
from operator import attrgetter

from projections.moment import Moment
from projections.state import Touch, Touches
from schemas.records import CampaignExposed, Micros, TouchRecorded

_occurred_at = attrgetter("occurred_at")


def step(moment: Moment) -> None:
    """Keeps the touch if it may still matter, and drops those that no longer can."""
    event = moment.event
    if not isinstance(event, (TouchRecorded, CampaignExposed)):
        return
    if moment.rules.switches_after(moment.definition_no):
        moment.state.touches.kept.append(_touch(event))
    elif moment.rules.may_credit(event):
        _drop_before(moment.state.touches, event.occurred_at - moment.rules.longest_lookback)
        moment.state.touches.kept.append(_touch(event))


def _touch(event: TouchRecorded | CampaignExposed) -> Touch:
    common = (event.event_id, event.occurred_at, event.channel, event.campaign_id, event.offer_id)
    if isinstance(event, CampaignExposed):
        return Touch(*common, exposure_type=event.exposure_type)
    utm = event.utm
    return Touch(
        *common,
        touch_type=event.touch_type,
        direction=event.direction,
        utm=(utm.source, utm.medium, utm.campaign) if utm else None,
    )


def _drop_before(touches: Touches, horizon: Micros) -> None:
    """Drops what is too old, once it is half of everything: so that each touch is moved about once."""
    kept = touches.kept
    if kept and kept[len(kept) // 2].occurred_at < horizon:
        old = bisect_left(kept, horizon, key=_occurred_at)
        del kept[:old]
        touches.counted_from = max(touches.counted_from - old, 0)
