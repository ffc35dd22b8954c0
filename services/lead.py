"""Everything known about one lead, with the event that each value comes from.

Promises: the rows are those that BI reads at one instant; the timeline has every event of the lead's
subjects, also those without effect. Leaves which event made which value to `services.trace`, printing to
`services.cli.lead`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from asyncpg import Record as Row

from schemas.records import Envelope, EventRetracted, SubjectErased, SubjectsUnlinked, order_key
from services.projector.decoding import Decoding
from services.projector.histories import members_of, read_histories
from services.store.pool import Connection
from services.store.reading import Rows, read_shown
from services.store.timeline import calendar_facts, rules_of
from services.store.versions import Promoted, promoted_version
from services.trace import Trace, trace

JOURNEY_OF = """
select journey_id from log.subject where subject_id = $1
union all
select subject.journey_id from log.event join log.subject using (subject_id) where event.event_id = $1
limit 1
"""

STANDING = """
select
  coalesce(bool_or(folded.is_stale or folded.revision < subject.revision), true) as is_stale,
  max(parked.error) as parked
from log.subject
left join {schema}.journey as folded on folded.journey_id = subject.journey_id
left join ops.parked on parked.journey_id = subject.journey_id and parked.version_no = $2
where subject.subject_id = $1
"""

EVENTS = """
select
  event.event_id, 1::bigint as copy_no, event.subject_id, event.status, event.body,
  (
    select string_agg(namer.event_id, ', ' order by namer.event_id)
    from log.naming join log.event as namer using (event_id)
    where naming.target_event_id = event.event_id and namer.status is null
  ) as taken_back_by
from log.event
where subject_id = any($1) and body is not null
union all
select copy.event_id, copy.copy_no, copy.subject_id, 'conflict', copy.body, null
from (
  select *, 1 + row_number() over (partition by event_id order by recorded_at, content_hash) as copy_no
  from log.event_copy
  where event_id = any(select event_id from log.event_copy where subject_id = any($1))
) as copy
where copy.subject_id = any($1)
"""

VIEWS = {
    "lead_current": ("lead_state", ("journey_id",)),
    "lead_money": ("lead_money", ("journey_id", "currency")),
    "stage_visit": ("stage_visit", ("journey_id", "visit_no")),
    "handoff": ("handoff", ("journey_id", "handoff_no")),
    "sla_clock": ("sla_clock", ("journey_id", "policy_id", "clock_no")),
    "opportunity": ("opportunity", ("journey_id", "opportunity_id")),
}
"""The views whose values are explained, their table and its key. Credit and faults name their events."""


class Unknown(LookupError):
    """No subject, journey or event has this id."""


class Shown(NamedTuple):
    """A row of a view, by column, and the event that each value comes from."""

    values: dict[str, Any]
    sources: dict[str, str]


class Entry(NamedTuple):
    """One event, or one copy of it, and what it did. `status`: counts, fault, retracted, control."""

    event: Envelope
    copy_no: int
    status: str
    effects: list[str]

    @property
    def name(self) -> str:
        """The event's id, and which copy of it."""
        return self.event.event_id if self.copy_no == 1 else f"{self.event.event_id} (copy {self.copy_no})"

    @property
    def told(self) -> str:
        """The effects in a line."""
        mark = {"fault": "FAULT: ", "retracted": "RETRACTED: "}.get(self.status, "")
        return mark + "; ".join(effect.removeprefix("no effect: ") for effect in self.effects)

    @property
    def late_seconds(self) -> float | None:
        """How long after it happened it was recorded; None below a minute."""
        late = (self.event.recorded_at - self.event.occurred_at) / 1e6
        return late if late >= 60 else None


@dataclass(frozen=True)
class Lead:
    """All about a lead. Rows by view; `error` is what stopped the lead's fold, if it is parked."""

    journey_id: str
    subjects: list[str]
    definition_version: str
    is_stale: bool
    error: str | None
    rows: Mapping[str, list[Shown]]
    credit: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    timeline: list[Entry]


async def read_lead(connection: Connection, some_id: str, decoding: Decoding) -> Lead:
    """All about the lead that a subject id, journey id or event id names, as of one instant.

    Raises Unknown, NothingPromoted.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        journey_id = await connection.fetchval(JOURNEY_OF, some_id)
        if journey_id is None:
            raise Unknown(some_id)
        version = await promoted_version(connection)
        return await _read(connection, journey_id, version, decoding)


async def _read(connection: Connection, journey_id: str, version: Promoted, decoding: Decoding) -> Lead:
    members = await members_of(connection, [journey_id])
    standing = await connection.fetchrow(
        STANDING.format(schema=version.schema_name), journey_id, version.version_no
    )
    assert standing is not None
    rules = rules_of(version.timeline, await calendar_facts(connection))
    [history] = await read_histories(connection, members, decoding)
    found = Trace() if standing["parked"] else trace(history, rules)
    return Lead(
        journey_id=journey_id,
        subjects=members[journey_id],
        definition_version=version.label,
        is_stale=standing["is_stale"],
        error=standing["parked"],
        rows={view: await _explained(connection, view, journey_id, found) for view in VIEWS},
        credit=await _rows(
            connection, "credit", journey_id, "model, won_at, effective_at, event_id, touched_at"
        ),
        faults=await _rows(connection, "fault", journey_id, "occurred_at, event_id, copy_no"),
        timeline=await _timeline(connection, members[journey_id], decoding, found),
    )


async def _rows(connection: Connection, view: str, journey_id: str, order: str) -> Rows:
    """A view's rows of the journey."""
    return await read_shown(
        connection, f"select * from bi.{view} where journey_id = $1 order by {order}", journey_id
    )


async def _explained(connection: Connection, view: str, journey_id: str, found: Trace) -> list[Shown]:
    table, key = VIEWS[view]
    rows = await _rows(connection, view, journey_id, ", ".join(key))
    return [Shown(row, found.sources.get((table, tuple(row[name] for name in key)), {})) for row in rows]


async def _timeline(
    connection: Connection, members: Sequence[str], decoding: Decoding, found: Trace
) -> list[Entry]:
    entries = []
    for row in await connection.fetch(EVENTS, members):
        event = await decoding.event(row["body"])
        entries.append(_entry(event, row, found))
    return sorted(entries, key=lambda entry: (order_key(entry.event), entry.copy_no))


def _entry(event: Envelope, row: Row, found: Trace) -> Entry:
    """A row of the log as an entry: what is settled before the fold, else what the fold made of it."""
    effects = found.effects.get(event.event_id, [])
    if row["status"] == "removed":
        return Entry(event, row["copy_no"], "retracted", [f"taken back by {row['taken_back_by']}"])
    if row["status"] == "conflict":
        return Entry(event, row["copy_no"], "fault", ["conflict: another copy of this id counts"])
    if event.event_id in found.faulty:
        return Entry(event, 1, "fault", effects)
    if control := control_of(event):
        return Entry(event, 1, "control", [control, *effects])
    return Entry(event, 1, "counts", effects)


def control_of(event: Envelope) -> str | None:
    """What an event does that is read before the fold; None for any other."""
    match event:
        case EventRetracted(target_event_id=target):
            return f"takes back {target}"
        case SubjectsUnlinked(link_event_id=link):
            return f"takes back the link {link}"
        case SubjectErased():
            return f"erases the personal values of {event.subject_id}"
    return None
