"""The log in Postgres: events, their copies, what retracts what, links, subjects.

Promises: after `store` and `lock_journeys` the tables of schema `log` say what the topics say up to this
batch, whatever the order of arrival, and every journey that the batch touched is locked until the transaction
ends. The rules (which copy counts, what a retraction removes, who is one person) are those of
`projections.identity`; this module only keeps their inputs and results. Leaves folding to
`services.projector.fold`.

Locks are taken in one order everywhere: feeding, positions, reference revision, event ids, subjects, each
sorted; rejects last.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from asyncpg import Record as Row

from projections import fault
from projections.identity import CONTROLS, Naming, components, naming, resolve_retractions
from schemas.records import (
    TOPIC_OF,
    Micros,
    Record,
    SubjectErased,
    SubjectsLinked,
)
from schemas.topics import REFERENCE
from services.store.locks import REJECTS
from services.store.pool import Connection, copy_in


class Arrival(NamedTuple):
    """One decoded record with its place on the topic."""

    record: Record
    content_hash: bytes
    body: bytes
    partition: int
    offset: int
    appended_at: Micros
    """By the broker's clock; nothing in a projection depends on it."""

    @property
    def topic(self) -> str:
        """The topic it came from: a record on another topic is rejected before."""
        return TOPIC_OF[type(self.record).__name__]


class Copy(NamedTuple):
    """One distinct content of an event id, as stored."""

    event_id: str
    content_hash: bytes
    subject_id: str
    record_name: str
    occurred_at: Micros
    recorded_at: Micros
    body: bytes
    partition: int
    offset: int
    appended_at: Micros | None


class Grown(Exception):
    """Another transaction enlarged a journey while its lock was waited for: start again with these
    subjects."""

    def __init__(self, subjects: set[str]) -> None:
        super().__init__(f"{len(subjects)} subjects to lock")
        self.subjects = subjects


@dataclass
class Stored:
    """What a batch changed in the log."""

    fresh: list[Arrival] = field(default_factory=list)
    """Events of ids never seen or named before, one copy each."""
    counting: list[Arrival] = field(default_factory=list)
    """Arrivals that now are the copy that counts: the fresh ones and more."""
    touched: set[str] = field(default_factory=set)
    """Subjects whose histories changed otherwise than by new events or links."""
    linked: set[str] = field(default_factory=set)
    """Subjects of new links: their journeys are one from now on."""
    erased: set[str] = field(default_factory=set)
    """Subjects that an erasure of the batch names."""
    relinked: bool = False
    """A link came into force or went out of it."""
    unlearned: bool = False
    """A reference fact lost to another copy of its id, of whatever record."""


class Journeys(NamedTuple):
    """The locked journeys of a batch."""

    members: dict[str, list[str]]
    """Journey to its subjects, after the batch."""
    journey_of: dict[str, str]
    """Subject to journey, after the batch."""
    journey_before: dict[str, str]
    """Subject to journey, before the batch."""
    revisions: dict[str, int]
    """Journey, of before or after, to its revision before the batch."""
    gone: set[str]
    """Ids that named a journey before the batch and no longer do."""
    erased: set[str]
    """Erased subjects that the batch brought something of: their events are to be overwritten."""
    rewritten: set[str]
    """Journeys whose history changed otherwise than by new events or links."""


NAME_EVENTS = """
insert into log.event (event_id)
select id from unnest($1::text[]) id order by id
on conflict (event_id) do nothing
"""

LOCK_EVENTS = """
select event_id, content_hash, subject_id, record_name, occurred_at, recorded_at, body, partition,
       "offset", appended_at
from log.event where event_id = any($1) order by event_id for update
"""

COPIES = """
select event_id, content_hash, subject_id, record_name, occurred_at, recorded_at, body, partition, "offset",
       appended_at
from log.event_copy where event_id = any($1)
"""

UPDATE_EVENT = """
update log.event set content_hash = $2, subject_id = $3, record_name = $4, occurred_at = $5, recorded_at = $6,
  body = $7, partition = $8, "offset" = $9, appended_at = $10
where event_id = $1
"""

NAMING_CLOSURE = """
with recursive reach (id) as (
  select unnest($1::text[]) collate "C"
  union
  select case when naming.event_id = reach.id then naming.target_event_id else naming.event_id end
  from reach join log.naming
    on naming.event_id = reach.id or naming.target_event_id = reach.id
)
select id from reach
"""

NAMED_EVENTS = """
select event.event_id, event.record_name, event.subject_id, event.status, naming.target_event_id
from log.event left join log.naming using (event_id)
where event.event_id = any($1) order by event.event_id for update of event
"""

INSERT_SUBJECTS = """
insert into log.subject (subject_id, journey_id)
select id, id from unnest($1::text[]) id order by id
on conflict (subject_id) do nothing
returning subject_id, journey_id, revision, erased_at is not null as is_erased, is_joined, ctid as place
"""

MEMBERS = """
with touched as materialized (
  select subject_id, journey_id, revision, erased_at is not null as is_erased, is_joined, ctid as place
  from log.subject where subject_id = any($1)
)
select * from touched where not is_joined
union all
select subject_id, journey_id, revision, erased_at is not null, is_joined, ctid
from log.subject where journey_id = any(select journey_id from touched where is_joined)
"""

LOCK_SUBJECTS = """
select subject_id, ctid as place from log.subject where subject_id = any($1) order by subject_id for update
"""

LINKS = "select subject_a, subject_b from log.link where in_force and subject_a = any($1)"

# By the place of the rows, which does not change while they are locked: a million subjects are in no cache.
CHANGE_SUBJECTS = """
update log.subject set journey_id = changed.journey_id, revision = revision + steps,
  rewritten_revision = case when is_rewritten then revision + steps else rewritten_revision end,
  is_joined = changed.is_joined
from unnest($1::tid[], $2::text[], $3::smallint[], $4::boolean[], $5::boolean[])
  changed (place, journey_id, steps, is_rewritten, is_joined)
where subject.ctid = changed.place
"""


def copy_of(arrival: Arrival) -> Copy:
    """The arrival as a row."""
    record = arrival.record
    return Copy(
        record.event_id,
        arrival.content_hash,
        record.subject_id,
        type(record).__name__,
        record.occurred_at,
        record.recorded_at,
        arrival.body,
        arrival.partition,
        arrival.offset,
        arrival.appended_at,
    )


def rank(copy: Copy) -> tuple[Micros, bytes]:
    """The copy with the smallest rank counts."""
    return (copy.recorded_at, copy.content_hash)


def distinct(copies: Iterable[Copy]) -> list[Copy]:
    """One copy per content, the earliest recorded, in the order of rank."""
    best: dict[bytes, Copy] = {}
    for copy in sorted(copies, key=rank):
        best.setdefault(copy.content_hash, copy)
    return list(best.values())


async def store(connection: Connection, arrivals: list[Arrival]) -> Stored:
    """Puts a batch into the log; says what is new and whose history changed.

    Raises asyncpg.UniqueViolationError when another transaction just took one of the ids: start again.
    """
    by_id: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        by_id[arrival.record.event_id].append(arrival)
    heads = {row["event_id"]: row for row in await connection.fetch(LOCK_EVENTS, sorted(by_id))}
    stored = Stored()
    await insert(connection, {id: by_id[id] for id in by_id if id not in heads}, stored)
    settled = await settle(connection, {id: by_id[id] for id in heads}, heads, stored)
    stored.counting += settled.counting
    stored.touched.update(
        each.record.subject_id for each in stored.counting if isinstance(each.record, CONTROLS)
    )
    await apply_names(connection, stored.counting, settled.ids, stored)
    await apply_links(connection, stored.counting, settled.ids, stored)
    stored.erased = await apply_erasures(connection, arrivals)
    return stored


async def insert(connection: Connection, new: dict[str, list[Arrival]], stored: Stored) -> None:
    """Inserts ids that have no row yet: the copy that counts, and the others beside it."""
    heads: list[Copy] = []
    losers: list[Copy] = []
    for arrivals in new.values():
        if len(arrivals) == 1:  # nearly always, and there is nothing to rank
            heads.append(copy_of(arrivals[0]))
            stored.counting += arrivals
            stored.fresh += arrivals
            continue
        arrival_of = {copy_of(arrival): arrival for arrival in arrivals}
        first, *others = distinct(arrival_of)
        heads.append(first)
        losers += others
        stored.counting.append(arrival_of[first])
        if others:
            stored.touched.update(copy.subject_id for copy in (first, *others) if is_about_lead(copy))
        else:
            stored.fresh.append(arrival_of[first])
    if heads:
        await copy_in(connection, "log", "event", Copy._fields, sorted(heads))
    if losers:
        await copy_in(connection, "log", "event_copy", Copy._fields, losers)


class Settled(NamedTuple):
    """What became of ids that were known before, or named before they came."""

    counting: list[Arrival]
    """Arrivals that now are the copy that counts."""
    ids: set[str]
    """Ids whose counting copy changed."""


async def settle(
    connection: Connection, known: dict[str, list[Arrival]], heads: Mapping[str, Row], stored: Stored
) -> Settled:
    """Ranks the copies of ids that have a row already: the first counts, the others are conflicts."""
    settled = Settled([], set())
    if not known:
        return settled
    copies: dict[str, list[Copy]] = defaultdict(list)
    for row in await connection.fetch(COPIES, sorted(known)):
        copies[row["event_id"]].append(Copy(*row))
    changed: list[list[Copy]] = []
    for id, arrivals in known.items():
        before = stored_copies(heads[id], copies[id])
        after = distinct([*before, *map(copy_of, arrivals)])
        if after == before:
            continue
        changed.append(after)
        stored.unlearned |= after[:1] != before[:1] and not all(map(is_about_lead, before))
        stored.touched.update(copy.subject_id for copy in after if is_about_lead(copy))
        if after[:1] != before[:1]:
            settled.ids.add(id)
            settled.counting.extend([each for each in arrivals if copy_of(each) == after[0]][:1])
    await write_copies(connection, changed)
    return settled


def is_about_lead(copy: Copy) -> bool:
    """Whether the subject of a record is a person: reference facts belong to no journey."""
    return TOPIC_OF[copy.record_name] != REFERENCE


def stored_copies(head: Row, losers: list[Copy]) -> list[Copy]:
    """The distinct contents known of an id, in the order of rank; empty when it was only named."""
    if head["content_hash"] is None:
        return []
    return distinct([Copy(*(head[name] for name in Copy._fields)), *losers])


async def write_copies(connection: Connection, changed: list[list[Copy]]) -> None:
    """Stores of each id the first copy as the one that counts and the others beside it."""
    if not changed:
        return
    await connection.executemany(UPDATE_EVENT, [copies[0] for copies in changed])
    await connection.execute(
        "delete from log.event_copy where event_id = any($1)", [copies[0].event_id for copies in changed]
    )
    losers = [copy for after in changed for copy in after[1:]]
    if losers:
        await copy_in(connection, "log", "event_copy", Copy._fields, losers)


async def apply_names(
    connection: Connection, counting: list[Arrival], settled: set[str], stored: Stored
) -> None:
    """Keeps who names whom, and gives every event of the touched chains its status."""
    names = [
        (each.record.event_id, target)
        for each in counting
        if isinstance(each.record, CONTROLS) and (target := naming(each.record).target) is not None
    ]
    dirty = set(settled) | {event_id for event_id, _ in names}
    if settled:
        old = await connection.fetch(
            "delete from log.naming where event_id = any($1) returning target_event_id", sorted(settled)
        )
        dirty.update(row["target_event_id"] for row in old)
    if names:
        await connection.execute(NAME_EVENTS, sorted({target for _, target in names}))
        await connection.executemany("insert into log.naming values ($1, $2)", names)
    if dirty:
        await resolve_names(connection, dirty, stored)


async def resolve_names(connection: Connection, dirty: set[str], stored: Stored) -> None:
    """Settles what is retracted, unlinked or on a cycle among the events connected with `dirty`."""
    locked: set[str] = set()
    reached = dirty
    while not reached <= locked:
        locked |= reached
        rows = await connection.fetch(NAMED_EVENTS, sorted(locked))
        reached = {row["id"] for row in await connection.fetch(NAMING_CLOSURE, sorted(locked))}
    statuses = statuses_of(rows)
    changed = {
        row["event_id"]: statuses.get(row["event_id"])
        for row in rows
        if row["status"] != statuses.get(row["event_id"])
    }
    if changed:
        await write_statuses(connection, changed, stored)


def statuses_of(rows: Iterable[Row]) -> dict[str, str]:
    """Event id to status, of those that have one, in a closed set of events that name each other."""
    resolution = resolve_retractions(
        {row["event_id"]: Naming(row["record_name"] or "", row["target_event_id"]) for row in rows}
    )
    return (
        dict.fromkeys(resolution.not_retractable, "not_retractable")
        | dict.fromkeys(resolution.cycles, "retraction_cycle")
        | dict.fromkeys(resolution.removed, "removed")
    )


async def write_statuses(connection: Connection, changed: dict[str, str | None], stored: Stored) -> None:
    """Stores new statuses; the subjects of every copy of those events are touched, of links both ends."""
    ids = list(changed)
    await connection.execute(
        "update log.event set status = new.status from unnest($1::text[], $2::text[]) new (event_id, status) "
        "where event.event_id = new.event_id",
        ids,
        list(changed.values()),
    )
    links = await connection.fetch(
        "update log.link set in_force = event.status is null from log.event "
        "where link.event_id = any($1) and event.event_id = link.event_id returning subject_a, subject_b",
        ids,
    )
    subjects = await connection.fetch(
        "select subject_id, record_name from log.event where event_id = any($1) and subject_id is not null "
        "union select subject_id, record_name from log.event_copy where event_id = any($1)",
        ids,
    )
    stored.relinked |= bool(links)
    stored.touched.update(subject for row in links for subject in row)
    stored.touched.update(row["subject_id"] for row in subjects if TOPIC_OF[row["record_name"]] != REFERENCE)


async def apply_links(
    connection: Connection, counting: list[Arrival], settled: set[str], stored: Stored
) -> None:
    """Keeps the links; both ends of a new one are linked, of one that was changed or replaced touched."""
    if settled:
        old = await connection.fetch(
            "delete from log.link where event_id = any($1) returning subject_a, subject_b", sorted(settled)
        )
        stored.touched.update(subject for row in old for subject in row)
        stored.relinked |= bool(old)
    links = [
        (each.event_id, each.subject_id, each.other_subject_id)
        for each in (arrival.record for arrival in counting)
        if isinstance(each, SubjectsLinked) and fault.of_itself(each) is None
    ]
    if links:
        await connection.executemany(
            "insert into log.link select $1, $2, $3, status is null from log.event where event_id = $1", links
        )
        fresh = {each.record.event_id for each in stored.fresh}
        for event_id, *subjects in links:
            (stored.linked if event_id in fresh else stored.touched).update(subjects)
        stored.relinked = True


async def apply_erasures(connection: Connection, arrivals: list[Arrival]) -> set[str]:
    """Marks erased subjects and returns them; their rows exist from here on.

    Every copy marks, also one that does not count: what was overwritten cannot come back when a better copy
    arrives later.
    """
    erased = [
        (each.subject_id, each.occurred_at)
        for each in (arrival.record for arrival in arrivals)
        if isinstance(each, SubjectErased) and fault.of_itself(each) is None
    ]
    subjects = {subject for subject, _ in erased}
    if erased:
        await connection.execute(INSERT_SUBJECTS, sorted(subjects))
        await connection.executemany(
            "update log.subject set erased_at = least(erased_at, $2) where subject_id = $1", sorted(erased)
        )
    return subjects


async def lock_rejects(connection: Connection) -> None:
    """Lets one transaction at a time add rejects or overwrite them, until it ends: numbers grow in the order
    of commit, and an erasure misses none."""
    await connection.execute("select pg_advisory_xact_lock($1)", REJECTS)


async def lock_journeys(connection: Connection, stored: Stored, seeds: set[str]) -> Journeys:
    """Locks every journey of the batch, lets links merge and part them, and counts their revisions up.

    Raises Grown when a journey got larger while its lock was waited for.
    """
    fresh = {each.record.subject_id for each in stored.fresh if each.topic != REFERENCE}
    changed = stored.touched | fresh
    rows = await lock_subjects(connection, changed | stored.linked | seeds)
    before = {each.subject_id: each.journey_id for each in rows}
    after = await relink(connection, before) if stored.relinked else before
    members: dict[str, list[str]] = defaultdict(list)
    for subject, journey in after.items():
        members[journey].append(subject)
    gone = set(before.values()) - members.keys()
    erased = {each.subject_id for each in rows if each.is_erased} & changed
    rewritten = {after[subject] for subject in stored.touched | erased}
    bumped = members.keys() | gone
    joined = {subject for subjects in members.values() if len(subjects) > 1 for subject in subjects}
    new = [
        (each.place, after[id], int(id in bumped), id in rewritten, id in joined)
        for each in rows
        if (id := each.subject_id) in bumped or after[id] != before[id] or (id in joined) != each.is_joined
    ]
    if new:
        await connection.execute(CHANGE_SUBJECTS, *map(list, zip(*new, strict=True)))
    return Journeys(
        members=members,
        journey_of=after,
        journey_before=before,
        revisions={each.subject_id: each.revision for each in rows},
        gone=gone,
        erased=erased,
        rewritten=rewritten,
    )


class Subject(NamedTuple):
    """A locked row of `log.subject`."""

    subject_id: str
    journey_id: str
    revision: int
    is_erased: bool
    is_joined: bool
    """There are others in its journey."""
    place: tuple[int, int]


async def lock_subjects(connection: Connection, touched: set[str]) -> list[Subject]:
    """Locks the subjects of every journey that has one of these; those never seen are journeys of their own.

    Raises Grown when another transaction changed who belongs to them meanwhile.
    """
    found = await read_members(connection, touched)
    places = {row["subject_id"]: row["place"] for row in await connection.fetch(LOCK_SUBJECTS, list(found))}
    if places != {each.subject_id: each.place for each in found.values()}:
        found = await read_members(connection, touched)
        if not found.keys() <= places.keys():
            raise Grown(found.keys() | touched)
    if unseen := touched - found.keys():
        inserted = await connection.fetch(INSERT_SUBJECTS, sorted(unseen))
        if len(inserted) < len(unseen):
            raise Grown(touched)
        found |= {row["subject_id"]: Subject(*row) for row in inserted}
    return list(found.values())


async def read_members(connection: Connection, subjects: set[str]) -> dict[str, Subject]:
    """The subjects of every journey that has one of these, by id."""
    return {row["subject_id"]: Subject(*row) for row in await connection.fetch(MEMBERS, list(subjects))}


async def relink(connection: Connection, before: dict[str, str]) -> dict[str, str]:
    """Joins and parts the locked subjects by the links in force; returns subject to journey."""
    links = [(row["subject_a"], row["subject_b"]) for row in await connection.fetch(LINKS, list(before))]
    return components(before, links)
