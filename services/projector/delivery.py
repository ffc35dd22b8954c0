"""What the projector is handed: raw Kafka records in whole batches, and the promise of whoever takes them.

Promises: plain types only, so that neither side of the border knows the other's libraries. Leaves fetching,
rebalancing and acknowledging to `engine`, and decoding, folding and writing to the handler.
"""

from typing import NamedTuple, Protocol

from schemas.topics import Offsets, Partition


class Record(NamedTuple):
    """One Kafka record as it lies on the topic; nothing is decoded."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """When the broker took it, in milliseconds; named as in the records of the client library."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class OffsetGap(RuntimeError):
    """Records between two offsets are missing: the reader skipped some, or the topic has a hole there."""

    def __init__(self, partition: Partition, expected: int, got: int) -> None:
        super().__init__(partition, expected, got)  # as given: it comes out of worker processes too

    def __str__(self) -> str:
        (topic, partition), expected, got = self.args
        return (
            f"{topic}-{partition}: offset {expected} is expected, {got} came. A record is missing, or a"
            " transactional producer left a hole: infra/runbooks/topics-wrong.md"
        )


class LogWentBack(RuntimeError):
    """The topic lost records that are stored: what comes after must not pass for what was read before."""

    def __init__(self, partition: Partition, stored: int, got: int) -> None:
        super().__init__(
            f"{partition[0]}-{partition[1]}: everything before offset {stored} is stored, and Kafka gives"
            f" {got}: the topic was made anew or an older copy of it came back;"
            " see infra/runbooks/topics-wrong.md"
        )


class Handler(Protocol):
    """Takes batches and stores them together with the offsets reached, in one transaction each."""

    async def start(self) -> None:
        """Open what is needed. Runs in the loop that the handler lives in; may wait until it can work."""

    async def stop(self) -> None:
        """Close everything. No batch is in hand any more."""

    async def watch(self) -> None:
        """Return or raise only when a background loop of the handler has ended: the process then stops."""

    def away(self) -> dict[str, str]:
        """Servers that a batch waits for, with what they said last."""

    async def positions(self, partitions: set[Partition]) -> Offsets:
        """Where to read on, from the store; 0 where nothing was read yet."""

    async def apply(self, batch: list[Record]) -> Offsets:
        """Store one batch in one transaction and return the next offsets now stored.

        Records of one partition come in order; a batch may cross topics. Records below the stored offset are
        skipped: they are delivered again after every rebalance. Trouble with the server is retried in here
        until the call is cancelled, which must roll back. Raises OffsetGap; what it raises ends the worker.
        """
