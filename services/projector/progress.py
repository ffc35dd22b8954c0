"""What a worker has got done, and the rules that tell a stuck worker from one that waits or has nothing to
do.

Promises: no clock, network or library in here; every rule is a function of what was noted and of the moment
asked about (seconds of any monotonic clock). Leaves noting to `engine` and `health`, and asking to
`health`.
"""

from dataclasses import dataclass, field
from typing import Literal

from schemas.topics import Offsets, Partition

Phase = Literal["starting", "joining", "reading", "stopping"]


@dataclass(slots=True)
class Reading:
    """One partition being read."""

    stored: int
    """Next offset in Postgres."""
    moved_at: float
    """When `stored` last moved, or everything was last seen stored."""
    end: int | None = None
    """Next offset Kafka will give, as last asked; None before the first answer."""
    least_end: int = 0
    """What was stored when Kafka was asked for `end`: the topic ends there or later."""
    asked: int = 0
    """What was stored when Kafka was asked last; it need not have answered."""

    @property
    def lag(self) -> int:
        """Records on the topic that are not stored; 0 while the end is unknown."""
        return 0 if self.end is None else max(0, self.end - self.stored)

    @property
    def missing(self) -> int:
        """Records stored that are on the topic no more; 0 while the end is unknown."""
        return 0 if self.end is None else max(0, self.least_end - self.end)


@dataclass(slots=True)
class Progress:
    """Notes of one worker. Every method takes the moment as `now`."""

    phase: Phase = "starting"
    phase_since: float = 0.0
    turned_at: float = 0.0
    """When the fetch loop last came round."""
    batch_since: float | None = None
    """When the batch in hand was handed over; None when there is none."""
    readings: dict[Partition, Reading] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    """Servers that do not answer, with what they said last."""
    away_until: float = 0.0
    """When a server was last seen away: patience starts anew from there."""

    def enter(self, phase: Phase, now: float) -> None:
        """The worker is now joining its group, reading, or stopping."""
        self.phase, self.phase_since, self.turned_at = phase, now, now

    def turned(self, now: float) -> None:
        """The fetch loop came round, with or without records."""
        self.turned_at = now

    def assigned(self, positions: Offsets, now: float) -> None:
        """The worker reads these partitions from these stored offsets, and no others."""
        self.readings = {
            partition: Reading(offset, now, self._known_end(partition))
            for partition, offset in positions.items()
        }

    def _known_end(self, partition: Partition) -> int | None:
        known = self.readings.get(partition)
        return known.end if known else None

    def keep(self, partitions: set[Partition]) -> None:
        """The worker reads no others than these any more."""
        self.readings = {key: reading for key, reading in self.readings.items() if key in partitions}

    def stored(self, offsets: Offsets, now: float) -> None:
        """These next offsets are in Postgres now."""
        for partition, offset in offsets.items():
            reading = self.readings.get(partition)
            if reading and offset > reading.stored:
                reading.stored, reading.moved_at = offset, now

    def asking(self) -> set[Partition]:
        """The partitions whose ends are about to be asked for."""
        for reading in self.readings.values():
            reading.asked = reading.stored
        return set(self.readings)

    def ends(self, offsets: Offsets, now: float) -> None:
        """Kafka's next offsets, asked over a connection that the consumer does not share."""
        for partition, end in offsets.items():
            reading = self.readings.get(partition)
            if reading:
                reading.end, reading.least_end = end, reading.asked
                if not reading.lag:
                    reading.moved_at = now

    def server_away(self, server: str, error: str, now: float) -> None:
        """The server did not answer."""
        self.away[server], self.away_until = error, now

    def server_back(self, server: str) -> None:
        """The server answered."""
        self.away.pop(server, None)

    def stands(self, now: float, seconds: float) -> bool:
        """Whether there is work and none of it got done for this long, for whatever cause."""
        if self.phase == "joining":
            return now - self.phase_since >= seconds
        return bool(self._offsets_stand(now, seconds))

    def stuck(self, now: float, patience: float) -> list[str]:
        """Why the process should be started again; empty when it is well or not to blame.

        A server that is away excuses everything, and so does having come back for less than `patience`
        seconds: a new process could do no better.
        """
        if self.away or now - self.away_until < patience:
            return []
        if self.phase == "joining" and now - self.phase_since >= patience:
            return [f"no partitions given for {now - self.phase_since:.0f} s"]
        if self.phase != "reading":
            return []
        return self._loop_stands(now, patience) + self._offsets_stand(now, patience)

    def _loop_stands(self, now: float, patience: float) -> list[str]:
        if not self.readings or self.batch_since is not None or now - self.turned_at < patience:
            return []
        return [f"the fetch loop has not come round for {now - self.turned_at:.0f} s"]

    def _offsets_stand(self, now: float, patience: float) -> list[str]:
        return [
            f"{topic}-{number}: next offset {reading.stored} stored, {reading.end} on the topic,"
            f" no move for {now - reading.moved_at:.0f} s"
            for (topic, number), reading in sorted(self.readings.items())
            if reading.lag and now - reading.moved_at >= patience
        ]

    def not_ready(self, max_lag: int) -> list[str]:
        """Why the worker's rows are not to be relied on now; empty when they are."""
        reasons = [f"{server} does not answer: {error}" for server, error in sorted(self.away.items())]
        if self.phase != "reading":
            reasons.append(f"the worker is {self.phase}")
        if any(reading.end is None for reading in self.readings.values()):
            reasons.append("the ends of the topics are not known yet")
        reasons += [
            f"{topic}-{number} ends at {reading.end}, but its records up to {reading.least_end} were stored:"
            " it was made anew or an older copy of it came back, see infra/runbooks/topics-wrong.md"
            for (topic, number), reading in sorted(self.readings.items())
            if reading.missing
        ]
        if self.lag > max_lag:
            reasons.append(f"{self.lag} records are not stored yet, more than {max_lag}")
        return reasons

    @property
    def lag(self) -> int:
        """Records not stored yet, over all partitions of this worker."""
        return sum(reading.lag for reading in self.readings.values())
