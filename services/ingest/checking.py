"""Each event of a request: a record for its topic, or all that is wrong with it.

Promises: what the contract says is judged by `schemas.contract`, as at every door; added is only what the key
may not send. A large request lets others have their turn. Leaves sending to `sender`.
"""

import shlex
import time
from collections.abc import Iterator, Sequence
from typing import Any

from schemas.contract import id_of, parse_line, peek
from schemas.faults import Fault, Refused, shown
from schemas.records import TOPIC_OF, Micros, Record
from services.ingest.answers import Result, Status
from services.ingest.turn import Turn
from services.store.keys import Key

Checked = Record | Result
"""An event that may be taken, or the result of one that is refused."""


async def check(events: Sequence[bytes], key: Key) -> list[Checked]:
    """Judges every event of a request that came just now."""
    now, turn = time.time_ns() // 1000, Turn()
    checked: list[Checked] = []
    for index, event in enumerate(events):
        try:
            checked.append(_judged(event, key, now))
        except Refused as refused:
            checked.append(Result(index, id_of(event), "refused", refused.faults))
        await turn.over()
    return checked


def results(checked: Sequence[Checked], statuses: Iterator[Status]) -> list[Result]:
    """One result per event; the statuses are those of the events that were not refused."""
    return [
        each if isinstance(each, Result) else Result(index, each.event_id, next(statuses))
        for index, each in enumerate(checked)
    ]


def _judged(event: bytes, key: Key, now: Micros) -> Record:
    """The record. Raises Refused."""
    try:
        record = parse_line(event, now=now, may_import=key.may_import)
    except Refused as refused:
        told = {fault.path for fault in refused.faults}
        fields = peek(event)
        added = [fault for fault in _not_allowed(fields, key) if fault.path not in told]
        raise Refused([*refused.faults, *added]) from None
    if type(record).__name__ in key.records and key.source in (None, record.source):
        return record
    raise Refused(list(_not_allowed({"record": type(record).__name__, "source": record.source}, key)))


def _not_allowed(fields: dict[str, Any], key: Key) -> Iterator[Fault]:
    """What this key may not send."""
    record, source = fields.get("record"), fields.get("source")
    if isinstance(record, str) and record in TOPIC_OF and record not in key.records:
        names = ", ".join(name for name in TOPIC_OF if name in key.records)
        expected = f"one of those that key {key.key_id} may send: {names}"
        source_of = "--any-source" if key.source is None else f"--source {shlex.quote(key.source)}"
        hint = f"`leadlog key create {source_of} --record {record}` makes a key for it"
        yield Fault("record_not_allowed", "/record", record, expected, hint)
    if isinstance(source, str) and key.source not in (None, source):
        expected = f"{key.source!r}, the source of key {key.key_id}"
        hint = "each source has a key of its own: `leadlog key create --source NAME` makes one"
        yield Fault("source_not_allowed", "/source", shown(source), expected, hint)
