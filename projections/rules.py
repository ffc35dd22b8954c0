"""The rules in force: a definition timeline and the calendar facts that win over it.

Promises: which definition an event is folded with, and which calendar measures an interval, are functions of
instants alone. Leaves parsing to `definition`, and which facts count (copies, activations) to whoever builds
the object.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from projections.business_time import ROUND_THE_CLOCK, Calendar, WorkingTime
from projections.definition import Definition
from projections.sla_policy import Policy
from schemas.records import CalendarChanged, CampaignExposed, Micros, TouchRecorded, order_key

BEGINNING = -(2**63)
"""Earlier than any instant: when a definition without `valid_from` takes effect."""


class Entry(NamedTuple):
    """One definition of a timeline; it counts from `valid_from` on (None = from the beginning)."""

    valid_from: Micros | None
    definition: Definition


class Rules:
    """A definition timeline with the calendar facts known.

    A definition is named by its number in the timeline, so that a state stays small. Raises ValueError for an
    empty timeline and for a calendar fact that `Calendar` refuses.
    """

    def __init__(self, timeline: Iterable[Entry], calendars: Iterable[CalendarChanged] = ()) -> None:
        entries = sorted(timeline, key=_valid_from)
        if not entries:
            raise ValueError("a timeline needs at least one definition")
        self.definitions = tuple(entry.definition for entry in entries)
        self.label = "+".join(definition.label for definition in self.definitions)
        self.predicate_attributes = frozenset().union(*(d.predicate_attributes for d in self.definitions))
        self.personal = frozenset[str]().union(*(d.personal for d in self.definitions))
        self.longest_lookback = max(d.attribution.lookback for d in self.definitions)
        self.starts = [_valid_from(entry) for entry in entries]
        self._policies = [{policy.policy_id: policy for policy in d.policies} for d in self.definitions]
        self._counting = [d.attribution.counts for d in self.definitions]
        self._started_by = [_by_record(d.policies) for d in self.definitions]
        self._changes = _by_calendar(calendars)

    def number_at(self, at: Micros) -> int:
        """The number of the definition in force at an instant; before the first one starts, the first."""
        return max(bisect_right(self.starts, at) - 1, 0)

    def at(self, at: Micros) -> Definition:
        """The definition in force at an instant."""
        return self.definitions[self.number_at(at)]

    def switches_after(self, number: int) -> bool:
        """Whether another definition follows the one of this number."""
        return number + 1 < len(self.definitions)

    def policy(self, number: int, policy_id: str) -> Policy:
        """A policy as the definition of this number states it. Raises KeyError if it does not."""
        return self._policies[number][policy_id]

    def started_by(self, number: int, record: str) -> tuple[Policy, ...]:
        """The policies of a definition that an event of the record may start by itself."""
        return self._started_by[number].get(record, ())

    def changes_of(self, calendar_id: str | None) -> int:
        """How many facts about the calendar are known: measurements made with as many are still right."""
        changes = self._changes.get(calendar_id) if calendar_id else None
        return len(changes) if changes else 0

    def calendar(self, calendar_id: str | None, number: int, at: Micros | None) -> WorkingTime:
        """The calendar as of an instant (None = the latest known), else that of the definition of this
        number.

        A fact counts before events at its own instant. `calendar_id` None is calendar time.
        """
        if calendar_id is None:
            return ROUND_THE_CLOCK
        for change in reversed(self._changes.get(calendar_id, ())):
            if at is None or change.occurred_at <= at:
                return change.calendar
        return self.definitions[number].calendars[calendar_id]

    def may_credit(self, event: TouchRecorded | CampaignExposed) -> bool:
        """Whether some definition of the timeline may give the event credit."""
        return any(counts(event) for counts in self._counting)


class _Change(NamedTuple):
    occurred_at: Micros
    calendar: Calendar


def _valid_from(entry: Entry) -> Micros:
    return BEGINNING if entry.valid_from is None else entry.valid_from


def _by_record(policies: Iterable[Policy]) -> dict[str, tuple[Policy, ...]]:
    found: dict[str, tuple[Policy, ...]] = {}
    for policy in policies:
        for record in {match.record for match in policy.start.records}:
            found[record] = (*found.get(record, ()), policy)
    return found


def _by_calendar(facts: Iterable[CalendarChanged]) -> dict[str, list[_Change]]:
    changes: dict[str, list[_Change]] = {}
    for fact in sorted(facts, key=order_key):
        calendar = Calendar(fact.calendar_id, fact.zone, fact.weekly, fact.holidays)
        changes.setdefault(fact.calendar_id, []).append(_Change(fact.occurred_at, calendar))
    return changes
