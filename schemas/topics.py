"""The five topics: partitions and settings. Created by `services.broker`, never by the broker itself.

Nothing here is compacted and nothing is written in Kafka transactions, since the projector takes a hole in
the offsets for lost records.
"""

from typing import NamedTuple

from schemas.records import TOPIC_OF

EVENTS, IDENTITY, REFERENCE = "lead.events", "lead.identity", "lead.reference"
DERIVED, REJECTED = "lead.derived", "lead.rejected"

FOR_EVER = "-1"
NINETY_DAYS = str(90 * 24 * 3600 * 1000)
"""`retention.ms` of what can be made again, in milliseconds."""
MAX_MESSAGE_BYTES = str(1024 * 1024)
"""`max.message.bytes`: a producer's batch of records of at most 32 KB each, with room."""


class Topic(NamedTuple):
    """One topic and what the broker must know of it."""

    name: str
    partitions: int
    retention_ms: str

    @property
    def settings(self) -> dict[str, str]:
        """Topic configuration by Kafka's names."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": self.retention_ms,
            "retention.bytes": "-1",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": MAX_MESSAGE_BYTES,
        }


TOPICS = (
    Topic(EVENTS, 12, FOR_EVER),
    Topic(IDENTITY, 12, FOR_EVER),
    Topic(REFERENCE, 1, FOR_EVER),
    Topic(DERIVED, 12, NINETY_DAYS),
    Topic(REJECTED, 3, NINETY_DAYS),
)
DERIVED_RECORDS = ("StageEntered", "ClockWarned", "ClockBreached", "ClockMet", "ClockWithdrawn")
"""The records of `lead.derived`, as `schemas.derived` has them."""
TOPIC_OF_ANY = TOPIC_OF | dict.fromkeys(DERIVED_RECORDS, DERIVED)
"""Record name to topic, of what is read and of what is concluded."""
INPUT_TOPICS = tuple(dict.fromkeys(TOPIC_OF.values()))
"""The topics that projections are computed from."""

Partition = tuple[str, int]
"""Topic and partition number."""
Offsets = dict[Partition, int]
"""Per partition the offset of the next record."""
