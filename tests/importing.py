"""Imports files without a broker, and tells what became of their rows."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from schemas.records import Record
from services.importer.mapping import Mapping
from services.importer.rows import BadRow, Import, assign


def imported(mapping: Mapping, files: Sequence[Path]) -> tuple[list[Record], list[BadRow]]:
    """The events of files under a mapping, and the bad rows."""
    found, _ = assign(mapping, sorted(files))
    return asyncio.run(_all_of(Import(mapping, found)))


async def _all_of(job: Import) -> tuple[list[Record], list[BadRow]]:
    records: list[Record] = []
    bad: list[BadRow] = []
    async for chunk in job.chunks():
        records += chunk.records
        bad += chunk.note.bad
    return records, bad


def told(bad: Sequence[BadRow]) -> list[tuple[int, tuple[str, ...], str]]:
    """Line, columns and code of every fault."""
    return [(row.line, fault.columns, fault.code) for row in bad for fault in row.faults]
