"""The histories of a bucket: its journeys whole, from every copy that the topics hold of their events.

Promises: what `projections.identity.journeys` gives for all records, given what other buckets know. Pure.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from projections.history import History
from projections.identity import Copies, Resolution, components, history_of, is_link_in_force, ranked
from schemas.content import content_hash
from schemas.records import Envelope, SubjectsLinked
from services.replay.job import Settled


def copies_of(events: Iterable[Envelope], ranks: Mapping[str, list[bytes]]) -> Copies:
    """Tells the copies that count from the others; `ranks` has the ids that other buckets hold copies of."""
    first: dict[str, Envelope] = {}
    repeated: dict[str, list[Envelope]] = {}
    for event in events:
        known = first.setdefault(event.event_id, event)
        if known is not event:
            repeated.setdefault(event.event_id, [known]).append(event)
    elsewhere = {event_id: [first[event_id]] for event_id in ranks.keys() & first.keys() - repeated.keys()}
    copies = Copies([], [])
    for event_id, same_id in (repeated | elsewhere).items():
        del first[event_id]
        _rank(same_id, ranks.get(event_id), copies)
    copies.counting.extend(first.values())
    return copies


def _rank(same_id: list[Envelope], order: list[bytes] | None, copies: Copies) -> None:
    contents = ranked(same_id)
    for place, event in enumerate(contents):
        copy_no = 1 + (place if order is None else order.index(content_hash(event)))
        if copy_no == 1:
            copies.counting.append(event)
        else:
            copies.losing.append((copy_no, event))


def histories(events: Sequence[Envelope], settled: Settled, personal: Collection[str]) -> list[History]:
    """The history of every journey of a bucket, from all readable records in it."""
    resolution = Resolution(
        frozenset(settled.removed), frozenset(settled.cycles), frozenset(settled.not_retractable)
    )
    copies = copies_of(events, settled.ranks)
    homes = components(
        {event.subject_id for event in events},
        [
            (event.subject_id, event.other_subject_id)
            for event in copies.counting
            if isinstance(event, SubjectsLinked) and is_link_in_force(event, resolution)
        ],
    )
    journeys: dict[str, Copies] = defaultdict(lambda: Copies([], []))
    for event in copies.counting:
        journeys[homes[event.subject_id]].counting.append(event)
    for copy_no, event in copies.losing:
        journeys[homes[event.subject_id]].losing.append((copy_no, event))
    for home in set(homes.values()) - journeys.keys():
        journeys[home]  # a subject that only links name has a journey without events
    return [history_of(home, each, resolution, personal) for home, each in journeys.items()]
