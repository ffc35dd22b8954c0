"""Which bucket a subject's records go to: all that may be one journey to the same.

Promises: subjects that any link ever named together share a bucket, in force or not, so that a journey lies
whole in one, and its links can be judged there. Subjects are told apart by CRC-32 alone: those that collide
merely share a bucket. Takes six bytes of memory for a linked subject. Leaves who is one person to
`projections.identity`.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from projections.identity import components


def crc_of(subject_id: str) -> int:
    """What stands for a subject here."""
    return crc32(subject_id.encode())


class Routing(NamedTuple):
    """The map of a build. `linked` is sorted; `homes` has the bucket of each."""

    buckets: int
    linked: "array[int]"
    homes: "array[int]"

    def bucket_of(self, key: bytes) -> int:
        """The bucket of a record by its key."""
        crc = crc32(key)
        place = bisect_left(self.linked, crc)
        if place < len(self.linked) and self.linked[place] == crc:
            return self.homes[place]
        return crc % self.buckets

    def packed(self) -> bytes:
        """As a file's content."""
        sizes = self.buckets.to_bytes(8) + len(self.linked).to_bytes(8)
        return sizes + self.linked.tobytes() + self.homes.tobytes()


def routing(links: Iterable[tuple[int, int]], buckets: int) -> Routing:
    """The map for links given by the CRCs of their ends."""
    roots = components((), links)
    linked = sorted(roots)
    homes = array("H", (roots[crc] % buckets for crc in linked))
    return Routing(buckets, array("I", linked), homes)


def unpacked(content: bytes) -> Routing:
    """The map in a file's content."""
    buckets, number = int.from_bytes(content[:8]), int.from_bytes(content[8:16])
    middle = 16 + 4 * number
    return Routing(buckets, array("I", content[16:middle]), array("H", content[middle:]))
