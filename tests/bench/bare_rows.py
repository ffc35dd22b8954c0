"""The rival of the growth of an event's cost: the rows that a touch changes, written by plain statements.

No Kafka, nothing read back, nothing computed: an event by its id and subject, the subject, the state, the row
of the lead and that of the touch, each found by its key. What this costs more when there are more journeys,
no projector on the same server can save.
"""

from collections.abc import Sequence

from services.store.pool import Connection
from tests.bench.ground import STRIDE

TABLES = """
create schema bare;
create table bare.event (
  event_id text collate "C" primary key, subject_id text collate "C" not null, at bigint, body bytea
);
create index on bare.event (subject_id);
create table bare.subject (
  subject_id text collate "C" primary key, revision bigint not null
) with (fillfactor = 70);
create table bare.journey (
  journey_id text collate "C" primary key, revision bigint not null, state bytea
) with (fillfactor = 70);
create table bare.lead_state (
  journey_id text collate "C" primary key, revision bigint not null, first_at bigint, last_at bigint,
  last_id text
) with (fillfactor = 70);
create table bare.touch (
  journey_id text collate "C", event_id text collate "C", at bigint, channel text,
  primary key (journey_id, event_id)
);
"""
NEW = "unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[]) new (event_id, id, at, body)"
STATEMENTS = (
    f"insert into bare.event select event_id, id, at, body from {NEW}",
    f"""insert into bare.subject select id, 1 from {NEW}
        on conflict (subject_id) do update set revision = subject.revision + 1""",
    f"""insert into bare.journey select id, 1, body from {NEW}
        on conflict (journey_id) do update set revision = journey.revision + 1, state = excluded.state""",
    f"""insert into bare.lead_state select id, 1, at, at, event_id from {NEW}
        on conflict (journey_id) do update set revision = lead_state.revision + 1,
          last_at = excluded.last_at, last_id = excluded.last_id""",
    f"insert into bare.touch select id, event_id, at, 'email' from {NEW}",
)
BODY = bytes(250)
"""As long as the state of a short journey."""
BATCH = 500
"""Events of a transaction; no two of one journey."""


async def first_touches(connection: Connection, known: int, journeys: int) -> None:
    """One event of each journey from number `known` on."""
    await _write(connection, "first", range(known, journeys), range(known, journeys))


async def later_touches(connection: Connection, journeys: int, numbers: range) -> None:
    """Events of so many journeys in turn."""
    await _write(connection, f"later-{journeys}", numbers, [number * STRIDE % journeys for number in numbers])


async def _write(connection: Connection, name: str, numbers: range, journeys: Sequence[int]) -> None:
    for first in range(0, len(numbers), BATCH):
        batch = numbers[first : first + BATCH]
        rows = (
            [f"{name}-{number}" for number in batch],
            [f"web:{journey}" for journey in journeys[first : first + BATCH]],
            list(batch),
            [BODY] * len(batch),
        )
        async with connection.transaction():
            for statement in STATEMENTS:
                await connection.execute(statement, *rows)
