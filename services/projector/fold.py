"""Brings the rows of the fed versions up to the log, journey by journey.

Promises: what is stored for a journey is the fold of its events up to the revision beside it, never a mix. A
journey whose new events sort after everything folded continues from its stored state; any other is folded
from its first event. A fold that raises parks its journey in that version alone, and all that is stored of it
and of the journeys that became part of it stays. Leaves long journeys to `services.projector.refold`.
"""

import traceback
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import asyncpg
import structlog

from projections import journey
from projections.history import History
from projections.identity import CONTROLS
from projections.journey import JourneyState, Rows
from projections.table import Row
from schemas.records import Envelope, Record, order_key
from schemas.topics import REFERENCE
from services.projector import metrics
from services.projector.conclusions import draw
from services.projector.decoding import Decoding
from services.projector.histories import read_histories
from services.projector.log import Journeys, Stored
from services.projector.redaction import forget_in_journeys
from services.store.feeding import Version, read_rows, write_rows
from services.store.pool import DATA_ERRORS, Connection
from services.store.versions import MARK_STALE

LONG_JOURNEY_EVENTS = 2_000
"""Journeys of more events are folded again by the refold loop, so that they do not slow the others (about 40
ms of folding)."""
CONTINUED_EVENTS = 50_000
"""Journeys of more events are left to the refold loop altogether: reading and writing such a state, 3 MB,
takes a batch about 40 ms."""

UNWRITABLE = (*DATA_ERRORS, asyncpg.UniqueViolationError, OverflowError)
"""Errors of rows that Postgres refuses, and of states with sums beyond 64 bits: such a journey is parked."""

log = structlog.get_logger()

STATES = """
select journey_id, revision, reference_revision, events, ctid as place,
  case when events <= {longest} then state end as state
from {schema}.journey where journey_id = any($1)
"""

# By the place of the rows, as long as it is theirs: a million journeys are in no cache.
CHANGE_STATES = """
update {schema}.journey set revision = new.revision, reference_revision = reference, events = new.events,
  is_stale = false, state = new.state
from unnest($1::text[], $2::bigint[], $3::bigint[], $4::integer[], $5::bytea[], $6::tid[])
  new (journey_id, revision, reference, events, state, place)
where journey.ctid = place and journey.journey_id = new.journey_id
returning journey.journey_id
"""

SAVE_STATES = """
insert into {schema}.journey (journey_id, revision, reference_revision, events, is_stale, state)
select journey_id, revision, reference, events, false, state
from unnest($1::text[], $2::bigint[], $3::bigint[], $4::integer[], $5::bytea[])
  new (journey_id, revision, reference, events, state)
on conflict (journey_id) do update set
  revision = excluded.revision, reference_revision = excluded.reference_revision,
  events = excluded.events, is_stale = false, state = excluded.state
"""

NOT_STALE = "update {schema}.journey set is_stale = false where journey_id = any($1) and is_stale"

PARK = """
insert into ops.parked (version_no, journey_id, error, detail)
select $1, id, $3, $4 from unnest($2::text[]) id
on conflict (version_no, journey_id) do update
set error = excluded.error, detail = excluded.detail, attempts = parked.attempts + 1, tried_at = now()
"""

UNPARK = "delete from ops.parked where version_no = $1 and journey_id = any($2)"

NO_ROWS: list[Row] = []
"""Of a table that had none of a journey."""


class Change(NamedTuple):
    """One journey folded anew: its rows before, those of every table after, and the state to keep."""

    journey_id: str
    revision: int
    before: Rows
    after: Rows
    state: JourneyState
    place: tuple[int, int] | None = None
    """Where the stored state was last seen."""
    absorbed: Sequence[str] = ()
    """Ids under which parts of it were stored; their rows are among those before."""


class Work(NamedTuple):
    """What a batch asks of every version."""

    journeys: Journeys
    fresh: Mapping[str, Sequence[Record]]
    """Journey to its new events in order."""
    parts: Mapping[str, set[str]]
    """Journey that new links made, to the journeys that it was before."""


class Base(NamedTuple):
    """A state that new events continue, and the journey that it was stored for."""

    state: JourneyState
    journey_id: str


def plan(stored: Stored, journeys: Journeys) -> Work:
    """Sorts the journeys of a batch into those that may continue and those to be folded again."""
    fresh: dict[str, list[Record]] = defaultdict(list)
    for arrival in stored.fresh:
        if arrival.topic != REFERENCE and not isinstance(arrival.record, CONTROLS):
            fresh[journeys.journey_of[arrival.record.subject_id]].append(arrival.record)
    for events in fresh.values():
        events.sort(key=order_key)
    linked = {journeys.journey_of[subject] for subject in stored.linked}
    parts = {id: {journeys.journey_before[member] for member in journeys.members[id]} for id in linked}
    return Work(journeys, fresh, parts)


class BatchFold:
    """Folds the journeys of one batch for one version, inside the batch's transaction."""

    def __init__(self, connection: Connection, version: Version, work: Work, decoding: Decoding) -> None:
        self._connection = connection
        self._version = version
        self._work = work
        self._decoding = decoding
        self._states: dict[str, asyncpg.Record] = {}
        self._absorbed: dict[str, list[str]] = {}
        self._moving: dict[str, Rows] = {}
        self._changes: list[Change] = []
        self._late: dict[str, list[str]] = {}
        self._rewritten: list[str] = []
        self._stale: list[str] = []

    async def run(self) -> None:
        """Reads the stored states, folds, writes what differs."""
        journeys = self._work.journeys
        query = STATES.format(schema=self._version.schema, longest=CONTINUED_EVENTS)
        rows = await self._connection.fetch(query, [*journeys.members, *journeys.gone])
        self._states = {row["journey_id"]: row for row in rows}
        await self._absorb({id: journeys.journey_of[id] for id in journeys.gone & self._states.keys()})
        if (
            unknown := journeys.gone - self._states.keys()
        ):  # a first fold that raised leaves no more than that
            await unpark(self._connection, self._version, sorted(unknown))
        for journey_id in journeys.members:
            await self._sort(journey_id)
        await self._fold_again()
        written = await write_changes(self._connection, self._version, self._changes)
        await draw(self._connection, self._version, [(change.before, change.after) for change in written])
        if self._stale:
            parts = [part for id in self._stale for part in self._absorbed.get(id, ())]
            await self._connection.execute(
                MARK_STALE.format(schema=self._version.schema), [*self._stale, *parts]
            )

    async def _absorb(self, heirs: Mapping[str, str]) -> None:
        """Reads what is stored under ids that name no journey any more, given with the journeys that took
        them over."""
        if not heirs:
            return
        rows = by_journey(await read_rows(self._connection, self._version, sorted(heirs), journey.TABLES))
        for id, heir in heirs.items():
            self._moving[id] = rows[id]
            self._absorbed.setdefault(heir, []).append(id)

    async def _sort(self, journey_id: str) -> None:
        """Continues the journey when that is right, else puts it on a list of those to fold again."""
        fresh = self._work.fresh.get(journey_id, ())
        if (parts := self._folded(journey_id)) is None:
            self._rewritten.append(journey_id)
        elif (base := self._base(journey_id, parts, fresh)) is None:
            self._late[journey_id] = parts
        else:
            await self._continue(journey_id, base, fresh)

    def _folded(self, journey_id: str) -> list[str] | None:
        """The parts of the journey that are stored.

        None when new events and links are not all that came since what is stored of them.
        """
        if journey_id in self._work.journeys.rewritten:
            return None
        parts = self._work.parts.get(journey_id, {journey_id})
        folded = [part for part in parts if part in self._states]
        revisions = self._work.journeys.revisions
        if any(revisions[part] for part in parts.difference(folded)):
            return None
        is_known = all(
            self._is_current(part) and self._states[part]["revision"] == revisions[part] for part in folded
        )
        return folded if is_known else None

    def _base(self, journey_id: str, parts: Sequence[str], fresh: Sequence[Record]) -> Base | None:
        """What the new events continue: the state of the one part of the journey that had events.

        None when the journey must be folded again.
        """
        if len(parts) > 1 or len(fresh) > LONG_JOURNEY_EVENTS:
            return None
        if not parts:
            return Base(journey.begin(journey_id), journey_id)
        [part] = parts
        state = journey.unpack(self._states[part]["state"])
        return Base(state, part) if follows(state, fresh) else None

    async def _continue(self, journey_id: str, base: Base, fresh: Sequence[Record]) -> None:
        rules, state = self._version.rules, base.state
        try:
            before = journey.rows(state, rules) if base.journey_id == journey_id else {}
            state.journey_id = journey_id
            for event in fresh:
                journey.step(state, event, rules)
            after = journey.rows(state, rules) | self._event_rows(journey_id, [base.journey_id], fresh)
        except Exception as error:  # whatever a defect of the fold raises, other journeys go on
            await self._park(journey_id, error)
            return
        self._changes.append(self._change(journey_id, before, after, state))

    def _event_rows(self, journey_id: str, parts: Iterable[str], fresh: Sequence[Record]) -> Rows:
        """Rows of single events that a journey gets: of its new events, and those that its parts had."""
        found = journey.event_rows(journey_id, fresh, self._version.rules)
        for part in parts:
            moving = self._moving.get(part, {})
            for name, rows in found.items():
                rows += [(journey_id, *row[1:]) for row in moving.get(name, ())]
        return found

    def _change(self, journey_id: str, before: Rows, after: Rows, state: JourneyState) -> Change:
        revision = self._work.journeys.revisions[journey_id] + 1
        row, absorbed = self._states.get(journey_id), self._absorbed.get(journey_id, ())
        if absorbed:
            before = together([before, *(self._moving[id] for id in absorbed)])
        return Change(journey_id, revision, before, after, state, row["place"] if row else None, absorbed)

    async def _park(self, journey_id: str, error: Exception) -> None:
        await park(self._connection, self._version, [journey_id, *self._absorbed.get(journey_id, ())], error)

    async def _fold_again(self) -> None:
        """Folds from the first event; what is long is left to the refold loop."""
        if not self._late and not self._rewritten:
            return
        lengths = await self._lengths()
        self._stale += [id for id, events in lengths.items() if events > LONG_JOURNEY_EVENTS]
        short = {
            id: self._work.journeys.members[id]
            for id, events in lengths.items()
            if events <= LONG_JOURNEY_EVENTS
        }
        histories = await read_histories(self._connection, short, self._decoding, self._at_hand(short))
        rewritten = [id for id in self._rewritten if id in short]
        stored = await self._stored(rewritten)
        left = await left_over(self._connection, self._version, {id: short[id] for id in rewritten})
        await self._absorb({id: heir for id, heir in left.items() if id not in self._moving})
        for history in histories:
            await self._refold(history, stored)
        await unpark(self._connection, self._version, [change.journey_id for change in self._changes])
        metrics.REFOLDS.labels(self._version.schema).inc(len(histories))

    async def _lengths(self) -> dict[str, int]:
        """Journeys to be folded again, to the number of their events."""
        members = {id: self._work.journeys.members[id] for id in self._rewritten}
        lengths = await count_events(self._connection, members)
        for id, parts in self._late.items():
            known = sum(self._states[part]["events"] for part in parts)
            lengths[id] = known + len(self._work.fresh.get(id, ()))
        return lengths

    def _at_hand(self, journeys: Iterable[str]) -> dict[str, Record]:
        """The new events of some journeys, as far as they are in the log as they came: not of the erased."""
        erased = self._work.journeys.erased
        return {
            event.event_id: event
            for id in journeys
            for event in self._work.fresh.get(id, ())
            if event.subject_id not in erased
        }

    async def _stored(self, journeys: list[str]) -> dict[str, Rows]:
        """What is stored of each journey, as far as its stored state does not say it."""
        if not journeys:
            return {}
        rows = await read_rows(self._connection, self._version, journeys, journey.EVENT_TABLES)
        unknown = [id for id in journeys if not self._is_current(id)]
        if unknown:
            rows |= await read_rows(self._connection, self._version, unknown, journey.STATE_TABLES)
        return by_journey(rows)

    def _is_current(self, journey_id: str) -> bool:
        """Whether the stored rows are what the stored state shows by today's rules."""
        row = self._states.get(journey_id)
        return row is None or (
            row["state"] is not None and row["reference_revision"] == self._version.reference_revision
        )

    def _rows_before(self, journey_id: str, stored: Mapping[str, Rows]) -> Rows:
        rows = stored.get(journey_id, {})
        row = self._states.get(journey_id)
        if row is None or not self._is_current(journey_id):
            return rows
        return rows | journey.rows(journey.unpack(row["state"]), self._version.rules)

    async def _refold(self, history: History, stored: Mapping[str, Rows]) -> None:
        id, rules = history.journey_id, self._version.rules
        try:
            before = self._rows_before(id, stored)
            state = journey.fold(history, rules)
            after = journey.rows(state, rules)
            if id in self._late:
                after |= self._event_rows(id, self._late[id], self._work.fresh.get(id, ()))
            else:
                after |= journey.event_rows(id, history.events, rules)
        except Exception as error:  # whatever a defect of the fold raises, other journeys go on
            await self._park(id, error)
            return
        self._changes.append(self._change(id, before, after, state))


def follows(state: JourneyState, fresh: Sequence[Envelope]) -> bool:
    """Whether the new events, in order, all sort after everything folded."""
    return not fresh or state.last_key is None or order_key(fresh[0]) > state.last_key


def by_journey(rows: Rows) -> dict[str, Rows]:
    """Rows of several journeys, journey by journey: the journey id is a column of every table."""
    found: dict[str, Rows] = defaultdict(lambda: defaultdict(list))
    for table in journey.TABLES:
        place = table.columns.index("journey_id")
        for row in rows.get(table.name, ()):
            found[str(row[place])][table.name].append(row)
    return found


def together(parts: Iterable[Rows]) -> Rows:
    """Rows of several parts of a journey as one."""
    found: Rows = defaultdict(list)
    for rows in parts:
        for name, some in rows.items():
            found[name] += some
    return found


async def write_changes(connection: Connection, version: Version, changes: list[Change]) -> list[Change]:
    """Writes rows and states; returns what was written. Data that Postgres refuses parks the one journey it
    belongs to."""
    if not changes:
        return []
    try:
        async with connection.transaction():
            await write_all(connection, version, changes)
    except UNWRITABLE as error:
        if len(changes) == 1:
            await park(connection, version, [changes[0].journey_id, *changes[0].absorbed], error)
            return []
        middle = len(changes) // 2
        first = await write_changes(connection, version, changes[:middle])
        return first + await write_changes(connection, version, changes[middle:])
    return changes


async def write_all(connection: Connection, version: Version, changes: Sequence[Change]) -> None:
    """Writes rows and states of all changes, in one go per table."""
    before: Rows = defaultdict(list)
    after: Rows = defaultdict(list)
    for change in changes:
        known = change.before
        for name, new in change.after.items():  # every table, also those without a row
            old = known.get(name, NO_ROWS)
            if old != new:
                before[name] += old
                after[name] += new
    await write_rows(connection, version, before, after)
    await forget_states(connection, version, [id for change in changes for id in change.absorbed])
    await save_states(connection, version, changes)


async def save_states(connection: Connection, version: Version, changes: Iterable[Change]) -> None:
    """Stores the states."""
    states = {
        each.journey_id: (
            *(each.journey_id, each.revision, version.reference_revision, each.state.event_count),
            *(journey.pack(each.state), each.place),
        )
        for each in changes
    }
    if placed := [row for row in states.values() if row[-1]]:
        query = CHANGE_STATES.format(schema=version.schema)
        for row in await connection.fetch(query, *map(list, zip(*placed, strict=True))):
            del states[row["journey_id"]]
    if states:
        columns = list(zip(*states.values(), strict=True))[:-1]
        await connection.execute(SAVE_STATES.format(schema=version.schema), *map(list, columns))


async def forget_states(connection: Connection, version: Version, gone: Sequence[str]) -> None:
    """Removes the states of ids that no longer name a journey, parked or not."""
    if gone:
        await connection.execute(f"delete from {version.schema}.journey where journey_id = any($1)", gone)
        await unpark(connection, version, gone)


async def left_over(
    connection: Connection, version: Version, members: Mapping[str, Iterable[str]]
) -> dict[str, str]:
    """Ids under which something is stored though they name no journey any more, to the journeys that they
    are part of: a fold that raised left it."""
    heirs = {subject: id for id, subjects in members.items() for subject in subjects if subject != id}
    if not heirs:
        return {}
    query = f"select journey_id from {version.schema}.journey where journey_id = any($1)"
    return {id: heirs[id] for (id,) in await connection.fetch(query, list(heirs))}


async def count_events(connection: Connection, members: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Journey to the number of its events in the log, faulted ones included."""
    journey_of = {subject: id for id, subjects in members.items() for subject in subjects}
    lengths = dict.fromkeys(members, 0)
    for row in await connection.fetch(
        "select subject_id, count(*) from log.event where subject_id = any($1) group by subject_id",
        list(journey_of),
    ):
        lengths[journey_of[row["subject_id"]]] += row["count"]
    return lengths


async def park(connection: Connection, version: Version, journeys: Sequence[str], error: Exception) -> None:
    """Keeps the rows of a journey, and of those that became part of it, as they are, but for what is personal
    of the erased, and says why; its next event tries again."""
    detail = "".join(traceback.format_exception(error))
    await connection.execute(PARK, version.number, journeys, repr(error), detail)
    await connection.execute(NOT_STALE.format(schema=version.schema), journeys)
    await forget_in_journeys(connection, version.schema, journeys)
    log.error("journey_parked", version=version.number, journey_id=journeys[0], error=repr(error))


async def unpark(connection: Connection, version: Version, journeys: Sequence[str]) -> None:
    """Forgets that journeys were parked: they have been folded, or are gone."""
    await connection.execute(UNPARK, version.number, journeys)
