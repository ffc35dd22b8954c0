"""Which schemas were released, under which id. `ids.lock.json` is the memory, `released/` keeps the texts.

Promises: every schema that a record on a topic may name can be had here, offline and for ever. Leaves the
registry to `services.registry`, which compares the ids it gives with these.

Run `python -m schemas.ids` after an `.avsc` file was changed: the new text is added as the next version.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from schemas.topics import TOPIC_OF_ANY

FOLDER = Path(__file__).parent
LOCK = FOLDER / "ids.lock.json"


class Released(NamedTuple):
    """One released schema."""

    schema_id: int
    record: str
    version: int
    fingerprint: str
    text: str

    @property
    def subject(self) -> str:
        """The name in the registry: topic and record name (Confluent's TopicRecordNameStrategy)."""
        return f"{TOPIC_OF_ANY[self.record]}-leadlog.{self.record}"


def fingerprint(text: str) -> str:
    """SHA-256, as hex, of a schema without its docs, with sorted keys and no white space."""
    bare = json.dumps(without(json.loads(text), "doc"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(bare.encode()).hexdigest()


def without(schema: Any, *keys: str) -> Any:
    """A schema without these attributes, at any depth. A default value is left as it is."""
    if isinstance(schema, list):
        return [without(part, *keys) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: v if k == "default" else without(v, *keys) for k, v in schema.items() if k not in keys}


def schema_text(record: str) -> str:
    """Today's `.avsc` of a record."""
    return (FOLDER / "avro" / TOPIC_OF_ANY[record] / f"{record}.avsc").read_text()


def released_file(record: str, version: int) -> Path:
    """Where the text of a released version is kept."""
    return FOLDER / "released" / f"{record}.v{version}.avsc"


def read_lock() -> dict[int, Released]:
    """Every released schema by id, in the order of the ids."""
    lock = json.loads(LOCK.read_text()) if LOCK.exists() else {}
    return {
        int(key): Released(
            int(key),
            line["record"],
            line["version"],
            line["fingerprint"],
            released_file(line["record"], line["version"]).read_text(),
        )
        for key, line in sorted(lock.items(), key=lambda item: int(item[0]))
    }


def write_lock(releases: dict[int, Released]) -> None:
    """Write the lock file, one line per id, with the subject beside the record for people who read it."""
    lines = (
        f'  "{schema_id}": '
        + json.dumps(
            {
                "record": release.record,
                "subject": release.subject,
                "version": release.version,
                "fingerprint": release.fingerprint,
            }
        )
        for schema_id, release in releases.items()
    )
    LOCK.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def latest(releases: dict[int, Released]) -> dict[str, Released]:
    """Record name to its newest released schema."""
    return {release.record: release for release in sorted(releases.values(), key=lambda r: r.version)}


def unreleased(releases: dict[int, Released]) -> list[str]:
    """The records whose `.avsc` differs from its newest release in more than docs."""
    known = latest(releases)
    return [
        name
        for name in TOPIC_OF_ANY
        if name not in known or known[name].fingerprint != fingerprint(schema_text(name))
    ]


def release() -> list[Released]:
    """Add every changed `.avsc` as the next version, under the next id. Returns what was added."""
    releases = read_lock()
    known = latest(releases)
    added = []
    for name in unreleased(releases):
        text = schema_text(name)
        version = known[name].version + 1 if name in known else 1
        new = Released(max(releases, default=0) + 1, name, version, fingerprint(text), text)
        released_file(name, version).write_text(text)
        releases[new.schema_id] = new
        added.append(new)
    write_lock(releases)
    return added


RELEASED = read_lock()
SCHEMA_ID = {record: release.schema_id for record, release in latest(RELEASED).items()}
"""Record name to the id of its newest released schema: what a producer writes with."""


if __name__ == "__main__":
    for new in release():
        print(f"released {new.subject} version {new.version} as id {new.schema_id}")
