"""Event ids that need more than one bucket to judge: copies in several of them, namers and what they name.

Promises: what `projections.identity` says of copies, retractions and unlinks holds over all buckets, each of
which is told its part. Finding copies is bounded by the part of the ids; memory for retractions and unlinks
(about 500 bytes each) grows with their number. Leaves copies within one bucket to `histories`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from projections import definition, fault
from projections.identity import Naming, Resolution, naming, ranked, resolve_retractions
from schemas.content import content_hash
from schemas.records import CalendarChanged, DefinitionProposed, Envelope
from schemas.wire import Unreadable
from services.projector.decoding import Decoding
from services.replay.bodies import decoded, read_files
from services.replay.histories import copies_of
from services.replay.job import Done, Facts, Job, Settled, Stopwatch, Task
from services.replay.reading import write_whole
from services.replay.spill import OFFSET_BITS, Entries, Spilled

FACTS = "facts"


class Judged(Struct, array_like=True):
    """An id whose copies were looked at."""

    event_id: str
    record: str
    """Of the copy that counts."""
    target: str | None
    contents: list[bytes]
    """Hashes, the one that counts first."""
    buckets: list[int]


def settled_file(job: Job, bucket: int) -> Path:
    """What the bucket must know of the others."""
    return job.folder / f"settled-{bucket}"


async def find_ids(job: Job, task: Task) -> Done:
    """Judges the ids of one part that lie in several buckets or were marked."""
    stopwatch = Stopwatch()
    with ExitStack() as opened:
        files = [opened.enter_context(Spilled(path)) for path in read_files(job)]
        entries = [file.entries(task.number) for file in files]
        marks = {crc for file in files for crc in file.marks(task.number)}
        wanted = marks | _wandering(entries)
        async with job.decoding() as decoding:
            judged = await _judge(files, entries, wanted, decoding)
    write_whole(job.folder / f"ids-{task.number}", msgspec.msgpack.encode(judged))
    return stopwatch.done(sum(len(each.crcs) for each in entries))


def _wandering(entries: Iterable[Entries]) -> set[int]:
    """CRCs that occur in more than one bucket."""
    first: dict[int, int] = {}
    keep = first.setdefault
    return {
        crc
        for each in entries
        for crc, bucket in zip(each.crcs, each.buckets, strict=True)
        if keep(crc, bucket) != bucket
    }


async def _judge(
    files: Sequence[Spilled], entries: Sequence[Entries], wanted: set[int], decoding: Decoding
) -> list[Judged]:
    copies: dict[str, list[tuple[Envelope, int]]] = defaultdict(list)
    for crc, bucket, place, length in chain.from_iterable(zip(*each, strict=True) for each in entries):
        if crc in wanted:
            try:
                event = await decoding.event(files[place >> OFFSET_BITS].body(place, length))
            except Unreadable:
                continue
            copies[event.event_id].append((event, bucket))
    return [_judged(event_id, found) for event_id, found in copies.items()]


def _judged(event_id: str, copies: Sequence[tuple[Envelope, int]]) -> Judged:
    contents = ranked(event for event, _ in copies)
    named = naming(contents[0])
    buckets = sorted({bucket for _, bucket in copies})
    return Judged(event_id, named.record, named.target, list(map(content_hash, contents)), buckets)


async def settle(job: Job, task: Task) -> Done:
    """Settles all retractions and unlinks, and tells every bucket; reads the reference facts."""
    stopwatch = Stopwatch()
    parts = (
        msgspec.msgpack.decode((job.folder / f"ids-{number}").read_bytes(), type=list[Judged])
        for number in range(job.id_buckets)
    )
    judged = list(chain.from_iterable(parts))
    resolution = resolve_retractions({each.event_id: Naming(each.record, each.target) for each in judged})
    told = _told(judged, resolution)
    for bucket in range(job.buckets + 1):
        write_whole(settled_file(job, bucket), msgspec.msgpack.encode(told.get(bucket, Settled())))
    write_whole(job.folder / FACTS, msgspec.msgpack.encode(await _facts(job)))
    return stopwatch.done(len(judged))


def _told(judged: Iterable[Judged], resolution: Resolution) -> dict[int, Settled]:
    told: dict[int, Settled] = defaultdict(lambda: Settled({}, [], [], []))
    for each in judged:
        for bucket in each.buckets:
            if len(each.buckets) > 1:
                told[bucket].ranks[each.event_id] = each.contents  # type: ignore[index]
            for ids, listed in zip(resolution, msgspec.structs.astuple(told[bucket])[1:], strict=True):
                if each.event_id in ids:
                    listed.append(each.event_id)
    return told


async def _facts(job: Job) -> Facts:
    """The reference facts that count."""
    settled = msgspec.msgpack.decode(settled_file(job, job.buckets).read_bytes(), type=Settled)
    copies = await decoded(job, job.buckets)
    facts = [event for event in copies_of(copies, settled.ranks).counting if not fault.of_itself(event)]
    return Facts(
        [fact for fact in facts if isinstance(fact, CalendarChanged)],
        sorted(_personal(fact for fact in facts if isinstance(fact, DefinitionProposed))),
    )


def _personal(proposals: Iterable[DefinitionProposed]) -> Iterator[str]:
    for proposal in proposals:
        try:
            yield from definition.parse(proposal.body).personal
        except definition.DefinitionFaults:
            continue
