"""Identity: which events are one journey's, out of everything the topics say.

Promises: the contract's section on input, for any set of records in any order: which copy of an id counts,
what was retracted or unlinked, who is the same person, what is faulty because of other events. Pure, so
replay, tests and questions about one lead use `journeys`; the live path asks the smaller functions about what
it has locked. Leaves faults that depend on the journey to `fault`, and whether a definition fact was built
(`not_built`) to the versions: reference facts belong to no journey.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from projections import fault
from projections.fault import Fault
from projections.history import FaultFact, History, redact
from schemas.content import content_hash
from schemas.records import (
    TOPIC_OF,
    Envelope,
    EventRetracted,
    SubjectErased,
    SubjectsLinked,
    SubjectsUnlinked,
    order_key,
)

CONTROLS = (EventRetracted, SubjectsUnlinked, SubjectErased)
"""Records that are read before the fold and are no part of it."""
PERMANENT = frozenset(
    {SubjectErased.__name__, *(name for name, topic in TOPIC_OF.items() if topic == "lead.reference")}
)
"""Record names that no retraction takes back."""
CONFLICT = Fault("conflict", "another copy of this event_id with other content counts")
RETRACTION_CYCLE = Fault("retraction_cycle", "this event takes itself back by way of what it names")
NOT_RETRACTABLE = Fault("not_retractable", "reference facts and erasures cannot be taken back")


Name = TypeVar("Name", str, int)
"""A subject id, or a number that stands for one."""


class Naming(NamedTuple):
    """What an id is (record name of the copy that counts), and the id that it takes back, if it does."""

    record: str
    target: str | None = None


class Resolution(NamedTuple):
    """What retractions and unlinks come to: ids taken back, on a cycle, naming what is permanent."""

    removed: frozenset[str]
    cycles: frozenset[str]
    not_retractable: frozenset[str]


def ranked(copies: Iterable[Envelope]) -> list[Envelope]:
    """The distinct contents of one id, the copy that counts first.

    Of equal copies the earliest recorded counts; contents are ranked by (recorded_at, content hash).
    """
    earliest: dict[bytes, Envelope] = {}
    for copy in copies:
        known = earliest.setdefault(content_hash(copy), copy)
        if copy.recorded_at < known.recorded_at:
            earliest[content_hash(copy)] = copy
    order = sorted(earliest, key=lambda content: (earliest[content].recorded_at, content))
    return [earliest[content] for content in order]


def naming(event: Envelope) -> Naming:
    """What a counting copy names. An event from the future has no effect, so it names nothing."""
    record = type(event).__name__
    if fault.of_itself(event):
        return Naming(record)
    if isinstance(event, EventRetracted):
        return Naming(record, event.target_event_id)
    return Naming(record, event.link_event_id if isinstance(event, SubjectsUnlinked) else None)


def resolve_retractions(named: Mapping[str, Naming]) -> Resolution:
    """Decides a set of ids that is closed: what names a known id of it, or is named by one, is in it if
    known.

    An id is taken back if anything in force takes it back, and then what it names itself is not. What is left
    when nothing more can be decided stands on a cycle, and has no effect.
    """
    undecided_namers = Counter(naming.target for naming in named.values())
    decided = [event_id for event_id in named if not undecided_namers[event_id]]
    removed: set[str] = set()
    for event_id in decided:  # grows on the way
        target = named[event_id].target
        if target is None or target not in named or target in removed:
            continue
        undecided_namers[target] -= 1
        if event_id not in removed and _takes_back(named[event_id], named[target]):
            removed.add(target)
        if target in removed or not undecided_namers[target]:
            decided.append(target)
    refused = (event_id for event_id in decided if _is_refused(event_id, named))
    return Resolution(frozenset(removed), frozenset(named) - frozenset(decided), frozenset(refused))


def _takes_back(naming: Naming, target: Naming) -> bool:
    if naming.record == SubjectsUnlinked.__name__:
        return target.record == SubjectsLinked.__name__
    return target.record not in PERMANENT


def _is_refused(event_id: str, named: Mapping[str, Naming]) -> bool:
    record, target = named[event_id]
    if record != EventRetracted.__name__ or target is None or target not in named:
        return False
    return named[target].record in PERMANENT


def components(subjects: Iterable[Name], links: Iterable[tuple[Name, Name]]) -> dict[Name, Name]:
    """Subject to journey: the smallest subject id of those that the links connect, with or without detours.

    Subjects named by links alone are part of the answer. Text compares by code point, which is by bytes of
    UTF-8.
    """
    parents: dict[Name, Name] = {subject: subject for subject in subjects}

    def root(subject: Name) -> Name:
        parent = parents.setdefault(subject, subject)
        while parent != parents[parent]:
            parents[subject] = parents[parent]
            subject, parent = parent, parents[parent]
        return parent

    for one, other in links:
        smaller, larger = sorted((root(one), root(other)))
        parents[larger] = smaller
    return {subject: root(subject) for subject in list(parents)}


def is_link_in_force(event: Envelope, resolution: Resolution) -> bool:
    """Whether a counting copy is a link that connects."""
    is_link = isinstance(event, SubjectsLinked) and event.event_id not in resolution.removed
    return is_link and fault.of_itself(event) is None


class Copies(NamedTuple):
    """Every content of every id: the copies that count, and the others with their numbers (from 2 on, by
    rank)."""

    counting: list[Envelope]
    losing: list[tuple[int, Envelope]]


def history_of(
    journey_id: str, copies: Copies, resolution: Resolution, personal: Collection[str] = ()
) -> History:
    """The history of a journey from all copies of its subjects, retracted ones and controls too.

    `personal` are the attribute names to redact for erased subjects. Every copy of an erasure redacts, also
    one that does not count: what was overwritten cannot come back when a better copy arrives later.
    """
    counting, losing = copies
    hidden = {copy.subject_id for copy in (*counting, *(copy for _, copy in losing)) if _erases(copy)}
    kept = [event for event in counting if event.event_id not in resolution.removed]
    events = [event for event in kept if not isinstance(event, CONTROLS)]
    controls = [event for event in kept if isinstance(event, CONTROLS)]
    faults = [
        FaultFact(copy, copy_no, CONFLICT)
        for copy_no, copy in losing
        if copy.event_id not in resolution.removed
    ]
    faults += [
        FaultFact(event, 1, found) for event in controls if (found := _fault_of_control(event, resolution))
    ]
    erased = [event for event in controls if isinstance(event, SubjectErased) and _erases(event)]
    shown = [redact(event, personal) if event.subject_id in hidden else event for event in events]
    faults.sort(key=lambda each: (each.event.event_id, each.copy_no))
    return History(journey_id, sorted(shown, key=order_key), faults, erased)


def _erases(event: Envelope) -> bool:
    return isinstance(event, SubjectErased) and fault.of_itself(event) is None


def journeys(copies: Iterable[Envelope], personal: Collection[str] = ()) -> dict[str, History]:
    """Journey id to history, for every record as read from the topics, in any order."""
    contents = _by_id(copies)
    resolution = resolve_retractions({event_id: naming(copies[0]) for event_id, copies in contents.items()})
    of_leads = [
        (copy_no, copy)
        for copies in contents.values()
        for copy_no, copy in enumerate(copies, 1)
        if TOPIC_OF[type(copy).__name__] != "lead.reference"
    ]
    links = [
        (event.subject_id, event.other_subject_id)
        for copy_no, event in of_leads
        if copy_no == 1 and isinstance(event, SubjectsLinked) and is_link_in_force(event, resolution)
    ]
    homes = components((copy.subject_id for _, copy in of_leads), links)
    parts: dict[str, Copies] = defaultdict(lambda: Copies([], []))
    for copy_no, copy in of_leads:
        counting, losing = parts[homes[copy.subject_id]]
        if copy_no == 1:
            counting.append(copy)
        else:
            losing.append((copy_no, copy))
    return {home: history_of(home, part, resolution, personal) for home, part in parts.items()}


def _by_id(copies: Iterable[Envelope]) -> dict[str, list[Envelope]]:
    found: dict[str, list[Envelope]] = defaultdict(list)
    for copy in copies:
        found[copy.event_id].append(copy)
    return {event_id: ranked(same_id) for event_id, same_id in found.items()}


def _fault_of_control(event: Envelope, resolution: Resolution) -> Fault | None:
    if found := fault.of_itself(event):
        return found
    if event.event_id in resolution.cycles:
        return RETRACTION_CYCLE
    return NOT_RETRACTABLE if event.event_id in resolution.not_retractable else None
