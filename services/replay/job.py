"""What every worker of a build knows, and what it reports.

Promises: both can be sent to another process. Leaves who does what to `build`.
"""

import resource
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from projections.rules import Rules
from schemas.records import CalendarChanged, Micros
from services.projector.decoding import Decoding
from services.registry import Registry
from services.replay.topics import Range
from services.settings import Addresses
from services.store.timeline import TimelineEntry, is_calendar, rules_of

KILOBYTE = 1024


class Job(NamedTuple):
    """One build."""

    addresses: Addresses
    folder: Path
    """Of the files between the phases."""
    version_no: int
    schema: str
    timeline: Sequence[TimelineEntry]
    reference_revision: int
    buckets: int
    id_buckets: int
    as_known_at: Micros | None
    """Records taken into the log later are left out; None = none is."""

    @asynccontextmanager
    async def decoding(self) -> AsyncIterator[Decoding]:
        """A decoder that asks the registry for what it does not know."""
        async with Registry(self.addresses.registry_url) as registry:
            yield Decoding(registry)


class Task(NamedTuple):
    """One work unit of one phase."""

    phase: str
    number: int
    ranges: tuple[Range, ...] = ()


class Done(NamedTuple):
    """What a unit took."""

    records: int
    seconds: float
    peak_bytes: int
    """Resident memory at most of the process, up to now."""


class Stopwatch:
    """Measures a unit."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def done(self, records: int) -> Done:
        """The unit has ended."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE
        return Done(records, time.monotonic() - self._began, peak)


class Progress(NamedTuple):
    """How far a phase is."""

    phase: str
    finished: int
    """Units, of `units`."""
    units: int
    records: int
    records_per_second: float
    seconds_left: float | None
    """None = not known yet."""


Report = Callable[[Progress], None]


class Settled(Struct):
    """What one bucket must know of the other buckets."""

    ranks: Mapping[str, list[bytes]] = {}
    """Id whose copies lie in several buckets, to the hashes of its contents, the one that counts first."""
    removed: list[str] = []
    cycles: list[str] = []
    not_retractable: list[str] = []


class Facts(Struct):
    """What the reference facts say to every bucket."""

    calendars: list[CalendarChanged] = []
    personal: list[str] = []
    """Names of attributes that a definition ever proposed calls personal."""

    def rules(self, timeline: Sequence[TimelineEntry]) -> Rules:
        """The rules of a timeline with these calendars."""
        return rules_of(timeline, [fact for fact in self.calendars if is_calendar(fact)])
