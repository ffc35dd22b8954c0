"""The records of a bucket, decoded.

Promises: every readable record that reading put into the bucket; unreadable ones are left out, they are in
`log.reject`.
"""

from collections.abc import Iterable
from pathlib import Path

from schemas.records import Record
from schemas.wire import Decoder, UnknownSchema, Unreadable
from services.replay.job import Job
from services.replay.spill import Spilled


def read_files(job: Job) -> list[Path]:
    """The files that reading left, in the order of their numbers."""
    return sorted(job.folder.glob("read-*"), key=lambda path: int(path.name.removeprefix("read-")))


async def decoded(job: Job, bucket: int) -> list[Record]:
    """The readable records of a bucket, copies and all; the registry is asked for schemas not known here."""
    decode = Decoder().decode
    found: list[Record] = []
    unknown: list[bytes] = []
    for path in read_files(job):
        with Spilled(path) as file:
            for body in file.bodies(bucket):
                try:
                    found.append(decode(body))
                except UnknownSchema:
                    unknown.append(body)
                except Unreadable:
                    continue
    return found + await _learned(job, unknown)


async def _learned(job: Job, bodies: Iterable[bytes]) -> list[Record]:
    found: list[Record] = []
    async with job.decoding() as decoding:
        for body in bodies:
            try:
                found.append(await decoding.event(body))
            except Unreadable:
                continue
    return found
