"""Histories of journeys, read from the log.

The tables of `log` say already which copy counts, what was retracted and who was erased;
`projections.identity` makes the history of it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from projections.history import History
from projections.identity import Copies, Resolution, history_of
from schemas.records import TOPIC_OF, Envelope
from schemas.topics import REFERENCE
from services.projector.decoding import Decoding
from services.store.pool import Connection

# A reference fact belongs to no journey, though a retraction of it makes its subject look like a lead.
EVENTS = """
select subject_id, event_id, status, body
from log.event
where subject_id = any($1) and body is not null and status is distinct from 'removed'
  and record_name <> all($2)
"""

COPIES = """
select copy.subject_id, copy.copy_no, copy.body
from (
  select subject_id, event_id, record_name, body,
    1 + row_number() over (partition by event_id order by recorded_at, content_hash) as copy_no
  from log.event_copy
  where event_id in (select event_id from log.event_copy where subject_id = any($1))
) copy
join log.event using (event_id)
where copy.subject_id = any($1) and event.status is distinct from 'removed' and copy.record_name <> all($2)
"""


REFERENCE_FACTS = [name for name, topic in TOPIC_OF.items() if topic == REFERENCE]
ROWS_AT_ONCE = 100
"""Events read before other tasks get a turn: about 2 ms."""


async def members_of(connection: Connection, journeys: Sequence[str]) -> dict[str, list[str]]:
    """The subjects of journeys."""
    members: dict[str, list[str]] = {id: [] for id in journeys}
    for row in await connection.fetch(
        "select journey_id, subject_id from log.subject where journey_id = any($1) order by 2", journeys
    ):
        members[row["journey_id"]].append(row["subject_id"])
    return members


async def read_histories(
    connection: Connection,
    members: Mapping[str, Sequence[str]],
    decoding: Decoding,
    at_hand: Mapping[str, Envelope] = MappingProxyType({}),
) -> list[History]:
    """The histories of journeys given with their subjects, in that order. Inside a transaction.

    `at_hand` are events by id that need not be decoded: counting copies, as they are in the log.
    """
    journey_of = {subject: id for id, subjects in members.items() for subject in subjects}
    copies: dict[str, Copies] = defaultdict(lambda: Copies([], []))
    statuses: dict[str, set[str]] = defaultdict(set)
    async for row in connection.cursor(EVENTS, list(journey_of), REFERENCE_FACTS, prefetch=ROWS_AT_ONCE):
        event = at_hand.get(row["event_id"]) or await decoding.event(row["body"])
        copies[journey_of[row["subject_id"]]].counting.append(event)
        if row["status"]:
            statuses[row["status"]].add(row["event_id"])
    for row in await connection.fetch(COPIES, list(journey_of), REFERENCE_FACTS):
        loser = (row["copy_no"], await decoding.event(row["body"]))
        copies[journey_of[row["subject_id"]]].losing.append(loser)
    resolution = Resolution(
        removed=frozenset(),
        cycles=frozenset(statuses["retraction_cycle"]),
        not_retractable=frozenset(statuses["not_retractable"]),
    )
    return [history_of(id, copies[id], resolution) for id in members]
