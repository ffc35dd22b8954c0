"""What is to be built next: a file as a trial, the newest definition that both teams have approved, or what
BI reads as it was known then."""

from projections.agreement.standing import agreements
from projections.definition import Definition
from schemas.records import Micros
from services.replay.runs import Candidate
from services.replay.versions import Refused
from services.store.definition_facts import definition_facts
from services.store.pool import Connection
from services.store.timeline import TimelineEntry
from services.store.versions import promoted_version


def trial(tried: Definition, as_known_at: Micros | None) -> Candidate:
    """A file's definition."""
    return Candidate([TimelineEntry(None, tried.text)], True, as_known_at)


async def as_known(connection: Connection, at: Micros) -> Candidate:
    """The promoted version's definitions, so that what differs are facts. Raises NothingPromoted."""
    return Candidate((await promoted_version(connection)).timeline, as_known_at=at)


async def newest_approved(connection: Connection) -> Candidate:
    """The definition whose last missing approval came last. Raises Refused."""
    agreed = [each for each in agreements(await definition_facts(connection)).values() if not each.missing]
    if not agreed:
        raise Refused("no definition is approved by both teams: give a file with --definition for a trial")
    newest = max(agreed, key=lambda each: max(fact.recorded_at for fact in each.approvals.values()))
    return Candidate([TimelineEntry(None, newest.proposals[0].body)])
