"""One lead under two ways of looking at it: two definitions, or what was known then and today.

Promises: both are folded from the events in the log, so each difference is explained event by event; rows are
paired by keys that do not shift when another row comes before them. Leaves warnings (`sla_warning`) to their
clocks, and which event made which value to `services.trace`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from projections import credit, identity, journey
from projections.definition import Definition
from projections.history import History
from projections.identity import Naming, Resolution
from projections.journey import JourneyState
from projections.rules import Rules
from schemas.instants import rfc3339
from schemas.records import CalendarChanged, Envelope, Micros, SubjectsLinked, order_key
from services.lead import Unknown, control_of
from services.projector.decoding import Decoding
from services.store.pool import Connection
from services.store.timeline import TimelineEntry, calendar_facts, rules_of
from services.store.versions import promoted_version
from services.trace import Trace, keyed, trace

SUBJECT_OF = """
select subject_id from log.subject where subject_id = $1
union all
select subject_id from log.event where event_id = $1 and subject_id is not null
limit 1
"""

EVER_LINKED = """
with recursive person (subject_id) as (
  select $1::text collate "C"
  union
  select case when link.subject_a = person.subject_id then link.subject_b else link.subject_a end
  from person join log.link on link.subject_a = person.subject_id or link.subject_b = person.subject_id
),
own (event_id) as (
  select event_id from log.event where subject_id in (select subject_id from person)
  union
  select event_id from log.event_copy where subject_id in (select subject_id from person)
),
named (event_id) as (
  select event_id from own
  union
  select case when naming.event_id = named.event_id then naming.target_event_id else naming.event_id end
  from named join log.naming
    on naming.event_id = named.event_id or naming.target_event_id = named.event_id
)
select body from log.event where event_id in (select event_id from named) and body is not null
union all
select body from log.event_copy where event_id in (select event_id from named)
"""
"""Every copy of every event of those who were ever one person, and of what takes them back, wherever that
is."""

KEYS = {
    "lead_state": (),
    "lead_money": ("currency",),
    "stage_visit": ("stage_role", "entered_event_id"),
    "handoff": ("opened_event_id",),
    "sla_clock": ("policy_id", "started_event_id"),
    "opportunity": ("opportunity_id",),
    "fault": ("event_id", "copy_no"),
}
"""Table to the columns that name a row whatever other rows there are."""
UNCOMPARED = {"journey_id", "definition_version", "visit_no", "handoff_no", "clock_no", "message"}
"""Columns that count or name, and decide nothing."""


Values = Mapping[str, object]
"""Column to value."""


@dataclass(frozen=True)
class Side:
    """A way of looking at a lead: what the events known then come to, by some rules.

    `known` has the counting copy of each id, `removed` the ids taken back with what does so. Without a
    history nothing is known of the lead.
    """

    label: str
    rules: Rules
    known: Mapping[str, Envelope]
    removed: Mapping[str, list[str]]
    history: History | None
    trace: Trace

    @cached_property
    def events(self) -> dict[str, Envelope]:
        """The events of the lead, faulty ones and erasures too."""
        if self.history is None:
            return {}
        faulty = (fact.event for fact in self.history.faults)
        return {event.event_id: event for event in (*self.history.events, *self.history.erased, *faulty)}


class Told(NamedTuple):
    """An event, and what it does on each side."""

    event: Envelope
    before: str
    after: str


class Differing(NamedTuple):
    """A row that differs: the columns that do, or all if only one side has it (the other is None).

    A currency is there wherever an amount may be. `sources` names the event of each value, of the later side
    if it has one.
    """

    table: str
    key: tuple[str, ...]
    before: Values | None
    after: Values | None
    sources: Mapping[str, str]


class Difference(NamedTuple):
    """What differs between two sides, in the order of the tables, and of the events."""

    subject_id: str
    labels: tuple[str, str]
    journey_ids: tuple[str | None, str | None]
    rows: list[Differing]
    events: list[Told]


async def under(
    connection: Connection, some_id: str, candidate: Definition, decoding: Decoding
) -> Difference:
    """The lead under the definitions in force, and under the candidate. Raises Unknown, NothingPromoted."""
    lead = await _read(connection, some_id, decoding)
    tried = rules_of([TimelineEntry(None, candidate.text)], lead.calendars)
    present = rules_of(lead.timeline, lead.calendars)
    return compare(
        lead.subject_id,
        side_of(lead.label, lead.subject_id, lead.copies, present),
        side_of(candidate.label, lead.subject_id, lead.copies, tried),
    )


async def as_known(connection: Connection, some_id: str, at: Micros, decoding: Decoding) -> Difference:
    """The lead by what was recorded up to an instant, and by what is known today; both under the definitions
    in force today. Raises Unknown, NothingPromoted."""
    lead = await _read(connection, some_id, decoding)
    copies = [copy for copy in lead.copies if copy.recorded_at <= at]
    then = rules_of(lead.timeline, [fact for fact in lead.calendars if fact.recorded_at <= at])
    return compare(
        lead.subject_id,
        side_of(f"as known at {rfc3339(at)}", lead.subject_id, copies, then),
        side_of("today", lead.subject_id, lead.copies, rules_of(lead.timeline, lead.calendars)),
    )


class _Lead(NamedTuple):
    subject_id: str
    copies: list[Envelope]
    """Every copy of every event that may say something about the lead."""
    label: str
    timeline: list[TimelineEntry]
    calendars: list[CalendarChanged]


async def _read(connection: Connection, some_id: str, decoding: Decoding) -> _Lead:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        subject = await connection.fetchval(SUBJECT_OF, some_id)
        if subject is None:
            raise Unknown(some_id)
        promoted = await promoted_version(connection)
        return _Lead(
            subject_id=subject,
            copies=[
                await decoding.event(row["body"]) for row in await connection.fetch(EVER_LINKED, subject)
            ],
            label=promoted.label,
            timeline=promoted.timeline,
            calendars=await calendar_facts(connection),
        )


def side_of(label: str, subject_id: str, copies: Iterable[Envelope], rules: Rules) -> Side:
    """The journey of a subject by these copies, folded by these rules."""
    copies = list(copies)
    of_id: dict[str, list[Envelope]] = defaultdict(list)
    for copy in copies:
        of_id[copy.event_id].append(copy)
    known = {event_id: identity.ranked(same)[0] for event_id, same in of_id.items()}
    names = {event_id: identity.naming(event) for event_id, event in known.items()}
    resolution = identity.resolve_retractions(names)
    links = [
        (event.subject_id, event.other_subject_id)
        for event in known.values()
        if isinstance(event, SubjectsLinked) and identity.is_link_in_force(event, resolution)
    ]
    history = identity.journeys(copies).get(identity.components([subject_id], links)[subject_id])
    return Side(
        label=label,
        rules=rules,
        known=known,
        removed=_removed(names, resolution),
        history=history,
        trace=Trace() if history is None else trace(history, rules),
    )


def _removed(names: Mapping[str, Naming], resolution: Resolution) -> dict[str, list[str]]:
    removed: dict[str, list[str]] = {event_id: [] for event_id in resolution.removed}
    for event_id, (_, target) in sorted(names.items()):
        if target in removed and event_id not in removed:
            removed[target].append(event_id)
    return removed


def compare(subject_id: str, before: Side, after: Side) -> Difference:
    """What differs between two sides; the later one knows every event."""
    own = _own(before, after)
    told = (
        Told(event, _told(before, event), _told(after, event))
        for event in sorted(after.known.values(), key=order_key)
        if event.event_id in own
    )
    return Difference(
        subject_id=subject_id,
        labels=(before.label, after.label),
        journey_ids=(_journey_id(before), _journey_id(after)),
        rows=list(_differing(_rows(before), _rows(after))),
        events=[each for each in told if each.before != each.after],
    )


def _journey_id(side: Side) -> str | None:
    return None if side.history is None else side.history.journey_id


def _own(before: Side, after: Side) -> set[str]:
    """The events of the lead on either side, and what takes them back, wherever that is."""
    events = before.events | after.events
    subjects = {event.subject_id for event in events.values()}
    removed = (after.known[event_id] for event_id in before.removed.keys() | after.removed.keys())
    own = events.keys() | {event.event_id for event in removed if event.subject_id in subjects}
    return own | {each.event_id for each in after.known.values() if identity.naming(each).target in own}


def _told(side: Side, event: Envelope) -> str:
    """What an event does on a side, in words."""
    if event.event_id not in side.known:
        return f"not known yet: recorded {rfc3339(event.recorded_at)}"
    if event.event_id in side.removed:
        return f"taken back by {', '.join(side.removed[event.event_id])}"
    effects = [
        *([control] if (control := control_of(event)) else []),
        *side.trace.effects.get(event.event_id, ()),
    ]
    if effects:
        return "; ".join(effects)
    return "no change" if event.event_id in side.events else "of another lead"


RowKey = tuple[str, tuple[str, ...]]
"""Table, and what names the row there whatever other rows there are."""
Row = tuple[Values, Mapping[str, str]]
"""The row by column, and the event of each value."""


def _rows(side: Side) -> dict[RowKey, Row]:
    """The rows of a side, credit by touch and model."""
    if side.history is None:
        return {}
    state = journey.fold(side.history, side.rules)
    found: dict[RowKey, Row] = {}
    for (table, key), values in keyed(state, side.rules).items():
        if table in KEYS:
            lasting = tuple(str(values[name]) for name in KEYS[table])
            found[table, lasting] = (values, side.trace.sources.get((table, key), {}))
    return found | dict(_credit(state, side.rules))


def _credit(state: JourneyState, rules: Rules) -> Iterator[tuple[RowKey, Row]]:
    for row in journey.rows(state, rules)[credit.TABLE.name]:
        values: dict[str, Any] = dict(zip(credit.TABLE.columns, row, strict=True))
        shares = zip(values["models"], values["weights"], values["amounts"], strict=True)
        for model, weight, amount in shares:
            key = (
                values["opportunity_id"],
                values["kind"],
                values["event_id"],
                values["touch_event_id"],
                model,
            )
            told = {"weight": weight, "amount_minor": amount, "currency": values["currency"]}
            yield (credit.TABLE.name, key), (told, dict.fromkeys(told, values["event_id"]))


def _differing(before: Mapping[RowKey, Row], after: Mapping[RowKey, Row]) -> Iterator[Differing]:
    for table, key in dict.fromkeys((*before, *after)):
        old, _ = before.get((table, key), (None, {}))
        new, sources = after.get((table, key)) or (None, before[table, key][1])
        columns = [name for name in (old or new or {}) if _is_other(name, old, new)]
        if columns:
            shown = [name for name in (old or new or {}) if name in columns or name == "currency"]
            yield Differing(
                table=table,
                key=key,
                before=None if old is None else {name: old[name] for name in shown},
                after=None if new is None else {name: new[name] for name in shown},
                sources={name: sources[name] for name in shown if name in sources},
            )


def _is_other(name: str, old: Values | None, new: Values | None) -> bool:
    return name not in UNCOMPARED and (old is None or new is None or old[name] != new[name])
