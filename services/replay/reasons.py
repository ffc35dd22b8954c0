"""Why rows of two versions differ: what one line of the definition decides otherwise, late facts, or code.

Promises: a line is a reason for a row if the journey, folded under the earlier definition with this line
alone changed, has that row otherwise. A row that needs several lines together says so. Leaves what the rows
are to `diff`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from projections import journey
from projections.history import History
from projections.rules import Rules
from services.projector.decoding import Decoding
from services.projector.histories import read_histories
from services.replay.changes import Change, single_changes
from services.replay.compare import Difference, Key, Keyed, differences, keyed
from services.replay.versions import Found, timeline_of
from services.store.pool import Connection
from services.store.versions import TimelineEntry, calendar_facts, rules_of

CODE = "code"
LATE_FACTS = "facts recorded later"
NOT_THE_LOG = "stored rows are not what the log says, see `leadlog replay verify`"
TOGETHER = "several changes together"
SCHEDULE = "another timeline"

Why = dict[tuple[str, str, Key], list[str]]
"""Journey, table and key to the reasons."""
Places = set[tuple[str, Key]]


class Tried(NamedTuple):
    """The earlier definition with one change."""

    reason: str
    rules: Rules


class Reasons:
    """What may be the reason for a difference between two versions."""

    def __init__(self, base: Rules, tried: Sequence[Tried], causes: Sequence[str], otherwise: str) -> None:
        """If there is but one cause nothing needs to be folded; `otherwise` is the reason for rows for which
        none is found."""
        self._base, self._tried, self._otherwise = base, tried, otherwise
        self._only = causes[0] if len(causes) == 1 else None
        self._stored = CODE if CODE in causes else NOT_THE_LOG

    @classmethod
    async def between(cls, connection: Connection, before: Found, after: Found) -> Self:
        """The reasons why the later version may differ."""
        old, new = await timeline_of(connection, before), await timeline_of(connection, after)
        calendars = await calendar_facts(connection)
        changes = _changes(old, new)
        tried = [
            Tried(change.reason, rules_of([TimelineEntry(None, change.body)], calendars))
            for change in changes
            if change.body is not None
        ]
        causes = [change.reason for change in changes]
        causes += [LATE_FACTS] if after.as_known_at is not None else []
        causes += [CODE] if before.code_version != after.code_version else []
        otherwise = TOGETHER if after.as_known_at is None else LATE_FACTS
        return cls(rules_of(old, calendars), tried, causes, otherwise)

    async def of(
        self,
        connection: Connection,
        decoding: Decoding,
        found: Mapping[str, Sequence[Difference]],
        stored: Mapping[str, Keyed],
    ) -> Why:
        """The reasons for differences, by journey, given with the rows as the earlier version has them."""
        if self._only is not None:
            return {(id, each.table, each.key): [self._only] for id, some in found.items() for each in some}
        why: Why = {}
        members = await members_of(connection, list(found))
        for history in await read_histories(connection, members, decoding):
            id = history.journey_id
            moved = self._moved(history, stored[id])
            for each in found[id]:
                place = (each.table, each.key)
                why[id, *place] = [name for name, places in moved.items() if place in places] or [
                    self._otherwise
                ]
        return why

    def _moved(self, history: History, stored: Keyed) -> dict[str, Places]:
        """Reason to the rows that are otherwise because of it."""
        known = keyed(journey.project(history, self._base))
        moved = {
            each.reason: _places(differences(known, keyed(journey.project(history, each.rules))))
            for each in self._tried
        }
        return moved | {self._stored: _places(differences(stored, known))}


def _changes(old: Sequence[TimelineEntry], new: Sequence[TimelineEntry]) -> list[Change]:
    if old[1:] == new[1:]:
        return single_changes(old[0].body, new[0].body)
    return [Change(SCHEDULE, SCHEDULE, None)]


def _places(found: Sequence[Difference]) -> Places:
    return {(each.table, each.key) for each in found}


async def members_of(connection: Connection, journeys: Sequence[str]) -> dict[str, list[str]]:
    """The subjects of journeys."""
    members: dict[str, list[str]] = {id: [] for id in journeys}
    for row in await connection.fetch(
        "select journey_id, subject_id from log.subject where journey_id = any($1) order by 2", journeys
    ):
        members[row["journey_id"]].append(row["subject_id"])
    return members
