"""Why rows of two versions differ: what one line of the definition decides otherwise, late facts, or code.

Promises: a line is a reason for a row if the journey, folded under the earlier definition with this line
alone changed, has that row otherwise. A row that needs several lines together says so, and one that is not
what the log says too. Leaves what the rows are to `diff`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from projections import journey
from projections.history import History
from projections.rules import Entry, Rules
from schemas.records import CalendarChanged
from services.projector.decoding import Decoding
from services.projector.histories import members_of, read_histories
from services.replay.changes import Change, single_changes
from services.replay.compare import Difference, Key, Keyed, differences, keyed
from services.replay.versions import Found, timeline_of
from services.store.pool import Connection
from services.store.timeline import calendar_facts, entries_of

CODE = "code"
LATE_FACTS = "facts recorded later"
NOT_THE_LOG = "stored rows are not what the log says, see `leadlog replay verify`"
TOGETHER = "several changes together"
SCHEDULE = "another timeline"

Why = dict[tuple[str, str, Key], list[str]]
"""Journey, table and key to the reasons."""
Place = tuple[str, Key]
"""Table and key."""
Places = set[Place]


class Tried(NamedTuple):
    """The earlier definition with one change."""

    reason: str
    rules: Rules


class Reasons:
    """What may be the reason for a difference between two versions."""

    def __init__(
        self,
        old: Sequence[Entry],
        new: Sequence[Entry],
        calendars: Sequence[CalendarChanged] = (),
        others: Sequence[str] = (),
    ) -> None:
        """Of the definitions of two versions, earliest first; `others` are causes beside these, LATE_FACTS
        and CODE."""
        changes = _changes(old, new)
        after = Rules(new, calendars)
        self.lines = [change.reason for change in changes]
        self._base = Rules(old, calendars)
        self._tried = (
            [Tried(self.lines[0], after)]
            if len(changes) == 1
            else [
                Tried(
                    change.reason, Rules([Entry(old[0].valid_from, change.definition), *old[1:]], calendars)
                )
                for change in changes
                if change.definition is not None
            ]
        )
        self._together = after if len(changes) > 1 else None
        self._stored = CODE if CODE in others else NOT_THE_LOG
        self._otherwise = LATE_FACTS if LATE_FACTS in others else self._stored

    @classmethod
    async def between(cls, connection: Connection, before: Found, after: Found) -> Self:
        """The reasons why the later version may differ."""
        others = [LATE_FACTS] if after.as_known_at is not None else []
        others += [CODE] if before.code_version != after.code_version else []
        old, new = [entries_of(await timeline_of(connection, each)) for each in (before, after)]
        return cls(old, new, await calendar_facts(connection), others)

    async def of(
        self,
        connection: Connection,
        decoding: Decoding,
        found: Mapping[str, Sequence[Difference]],
        stored: Mapping[str, Keyed],
    ) -> Why:
        """The reasons for differences, by journey, given with the rows as the earlier version has them."""
        why = {(id, each.table, each.key): [self._otherwise] for id, some in found.items() for each in some}
        members = await members_of(connection, list(found))
        for history in await read_histories(connection, members, decoding):
            id = history.journey_id
            places = _places(found[id])
            why |= {(id, *place): names for place, names in self.by(history, places, stored[id]).items()}
        return why

    def by(self, history: History, places: Places, stored: Keyed) -> dict[Place, list[str]]:
        """The reasons why rows of a journey differ, found by folding it under each change alone."""
        known = keyed(journey.project(history, self._base))

        def moved(rules: Rules) -> Places:
            return _places(differences(known, keyed(journey.project(history, rules))))

        alone = {each.reason: moved(each.rules) for each in self._tried}
        alone[self._stored] = _places(differences(stored, known))
        why = {place: [name for name, rows in alone.items() if place in rows] for place in places}
        if self._together is not None and not all(why.values()):
            together = moved(self._together)
            why |= {place: [TOGETHER] for place in together if why.get(place) == []}
        return {place: names or [self._otherwise] for place, names in why.items()}


def _changes(old: Sequence[Entry], new: Sequence[Entry]) -> list[Change]:
    if _schedule(old) == _schedule(new):
        return single_changes(old[0].definition, new[0].definition)
    return [Change(SCHEDULE, SCHEDULE, None)]


def _schedule(entries: Sequence[Entry]) -> list[object]:
    """All but what the first definition says."""
    return [entries[0].valid_from, *((valid_from, each.text) for valid_from, each in entries[1:])]


def _places(found: Sequence[Difference]) -> Places:
    return {(each.table, each.key) for each in found}
