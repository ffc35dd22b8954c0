"""The rivals of `import` and `publish`: read, encode with fastavro, send with aiokafka, and nothing else.

Run as `python -m tests.bench.bare_sending csv|lines FILE` with the addresses in the environment. They check
nothing, map nothing, know no duplicate columns or bad rows, send no headers, and forget what was sent when
they end.
"""

import asyncio
import csv
import io
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import fastavro

from schemas.ids import SCHEMA_ID, schema_text
from schemas.records import RECORDS, TOPIC_OF
from schemas.wire import MAGIC, PREFIX
from services import settings
from services.broker import create_producer

SCHEMAS: dict[str, Any] = {name: fastavro.parse_schema(json.loads(schema_text(name))) for name in RECORDS}
"""With logical types: times are given as datetimes."""
Event = tuple[str, dict[str, Any]]


def _written_as(kind: str) -> dict[str, list[str]]:
    """Record to its fields of a logical type."""
    return {
        name: [field["name"] for field in schema["fields"] if kind in str(field["type"])]
        for name, schema in SCHEMAS.items()
    }


INSTANTS, DATES = _written_as("timestamp-micros"), _written_as("'date'")
DEFAULTS: dict[str, Any] = {"actor": {"kind": "system"}}


def from_csv(file: Path) -> Iterator[Event]:
    """Attributes of a property history, by hand."""
    with file.open(newline="") as rows:
        for row in csv.DictReader(rows):
            at = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
            yield (
                "AttributeChanged",
                {
                    "event_id": f"hubspot:property:{row['contact_id']}:{row['name']}:{row['timestamp']}",
                    "subject_id": f"hubspot:{row['contact_id']}",
                    "occurred_at": at,
                    "recorded_at": at,
                    "source": "hubspot",
                    "actor": {"kind": "system", "id": row["source_id"]},
                    "name": row["name"],
                    "value": row["value"],
                },
            )


def from_lines(file: Path) -> Iterator[Event]:
    """Events as they stand in the lines, their times read."""
    with file.open("rb") as lines:
        for line in lines:
            event = DEFAULTS | json.loads(line)
            record = event.pop("record")
            for name in INSTANTS[record]:
                if event.get(name):
                    event[name] = datetime.fromisoformat(event[name])
            for name in DATES[record]:
                if event.get(name):
                    event[name] = date.fromisoformat(event[name])
            yield record, event


async def send(events: Iterator[Event]) -> int:
    """All events; how many they were."""
    producer = create_producer(settings.addresses().kafka_bootstrap)
    await producer.start()
    number = 0
    for name, event in events:
        number += 1
        out = io.BytesIO()
        out.write(PREFIX.pack(MAGIC, SCHEMA_ID[name]))
        fastavro.schemaless_writer(out, SCHEMAS[name], event)
        await producer.send(TOPIC_OF[name], out.getvalue(), key=event["subject_id"].encode())
    await producer.stop()
    return number


if __name__ == "__main__":
    made = {"csv": from_csv, "lines": from_lines}[sys.argv[1]](Path(sys.argv[2]))
    began = time.monotonic()
    sent = asyncio.run(send(made))
    print(json.dumps({"events": sent, "rows": sent, "seconds": time.monotonic() - began}))
