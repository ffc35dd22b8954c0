"""Which event first explains a row that BI reads otherwise than the topics say.

Promises: of a row that differs the earliest event that gave one of the differing columns the value that the
topics say; of a missing row the event that made it; of a row too many what took back the event that it names,
else that event if the log has it. Leaves which rows these are to `diff`.
"""

from collections.abc import Iterable, Mapping, Sequence

from projections.history import History
from projections.rules import Rules
from services.projector.decoding import Decoding
from services.projector.histories import members_of, read_histories
from services.replay.compare import KEYS, Difference, Key
from services.replay.reasons import Why
from services.replay.versions import Found, timeline_of
from services.store.pool import Connection
from services.store.timeline import calendar_facts, rules_of
from services.trace import trace

NAMED = (
    *("entered_event_id", "opened_event_id", "started_event_id", "event_id", "touch_event_id"),
    *("stage_entered_event_id", "first_event_id", "last_event_id"),
)
"""Columns that name the event that a row comes from, the nearest first."""

KNOWN = """
select event_id, case when status = 'removed' then
    (select min(naming.event_id) from log.naming where target_event_id = event.event_id)
  else event_id end
from log.event where event_id = any($1) and body is not null
"""

Sources = Mapping[tuple[str, Key], Mapping[str, str]]
"""Table and key to the event of each value, by column."""


async def first_events(
    connection: Connection, decoding: Decoding, version: Found, found: Mapping[str, Sequence[Difference]]
) -> Why:
    """The event of each row that differs, by journey; an empty list where no event of the log explains it."""
    rules = rules_of(await timeline_of(connection, version), await calendar_facts(connection))
    known = dict(await connection.fetch(KNOWN, list(_named_by(found.values()))))
    why: Why = {}
    for history in await read_histories(connection, await members_of(connection, list(found)), decoding):
        sources = _sources(history, rules)
        places = {event.event_id: place for place, event in enumerate(history.events)}
        for each in found[history.journey_id]:
            events = _events(each, sources.get((each.table, each.key), {}))
            first = min(events, key=lambda id: places.get(id, -1), default=known.get(_named(each)))
            why[history.journey_id, each.table, each.key] = [first] if first else []
    return why


def _sources(history: History, rules: Rules) -> Sources:
    """By keys that do not shift."""
    traced = trace(history, rules)
    return {
        (table, tuple(values.get(name) for name in KEYS[table])): traced.sources[table, key]
        for (table, key), values in traced.rows.items()
    }


def _events(found: Difference, sources: Mapping[str, str]) -> list[str]:
    """The events of what the topics say and BI does not read."""
    if found.after is None:
        return []
    return [event for column, event in sources.items() if not found.columns or column in found.columns]


def _named(found: Difference) -> str:
    """The event that the row itself names."""
    values = found.after or found.before or {}
    return next((str(values[name]) for name in NAMED if values.get(name)), "")


def _named_by(found: Iterable[Sequence[Difference]]) -> set[str]:
    return {_named(each) for some in found for each in some}
