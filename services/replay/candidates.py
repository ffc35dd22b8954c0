"""What is to be built next: a file as a trial, or the newest definition that both teams have approved."""

from pathlib import Path

import msgspec

from projections import definition
from schemas.records import DefinitionApproved, DefinitionProposed, Micros
from services.replay.runs import Candidate
from services.replay.versions import Refused
from services.store.pool import Connection
from services.store.versions import TimelineEntry

PROPOSALS = """
select fact from log.reference where record_name = 'DefinitionProposed' order by recorded_at, event_id
"""
APPROVALS = """
select fact from log.reference where record_name = 'DefinitionApproved' order by recorded_at, event_id
"""


def trial(file: Path, as_known_at: Micros | None) -> Candidate:
    """A file's definition. Raises DefinitionFaults."""
    text = file.read_text()
    definition.parse(text)
    return Candidate([TimelineEntry(None, text)], True, as_known_at)


async def newest_approved(connection: Connection, as_known_at: Micros | None) -> Candidate:
    """The definition whose last missing approval came last. Raises Refused."""
    bodies: dict[tuple[str, int], str] = {}
    for row in await connection.fetch(PROPOSALS):
        proposed = msgspec.json.decode(row["fact"], type=DefinitionProposed)
        bodies.setdefault((proposed.definition_id, proposed.version), proposed.body)
    teams: dict[tuple[str, int], set[str]] = {}
    agreed: list[tuple[str, int]] = []
    for row in await connection.fetch(APPROVALS):
        approved = msgspec.json.decode(row["fact"], type=DefinitionApproved)
        key = (approved.definition_id, approved.version)
        known = teams.setdefault(key, set())
        if approved.team not in known and len(known) == 1 and key in bodies:
            agreed.append(key)
        known.add(approved.team)
    if not agreed:
        raise Refused("no definition is approved by both teams: give a file with --definition for a trial")
    return Candidate([TimelineEntry(None, bodies[agreed[-1]])], False, as_known_at)
