"""Every setting in one place: name, unit, default and reason. Nothing else reads the environment.

A setting `x` is given as the environment variable `LEADLOG_X`.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

GENERATE_MEMORY_BYTES = 64 * 1024 * 1024
"""Made-up lines that wait for their turn in memory before they wait on disk, bytes."""

PUBLISH_CHUNK_LINES = 1_000
"""Lines checked, encoded and sent as one step: the position moves by so many. Smaller gains nothing."""

PUBLISH_CHUNKS_IN_FLIGHT = 16
"""Chunks sent and not yet acknowledged: enough to keep the broker busy, few enough to hold in memory."""

PUBLISH_DEADLINE_SECONDS = 120.0
"""A broker or registry that is away is waited for this long before `publish` and `import` give up with exit 3."""

PUBLISH_RETRY_SECONDS = 1.0
"""Pause between two tries to reach a server that is away."""


class NotRunning(RuntimeError):
    """No server addresses are known: the stack is down and none were given."""


class Addresses(NamedTuple):
    """Where the servers are."""

    postgres_dsn: str
    kafka_bootstrap: str
    registry_url: str


def text(name: str, default: str) -> str:
    """The setting `LEADLOG_<name>` or its default."""
    return os.environ.get(f"LEADLOG_{name}", default)


def state_folder() -> Path:
    """Where this installation keeps its state: `LEADLOG_STATE`, else `.leadlog` in the working folder."""
    return Path(text("STATE", ".leadlog")).absolute()


def data_folder() -> Path:
    """Where the real data sets lie: `LEADLOG_DATA`, else `../shared/data`."""
    return Path(text("DATA", "../shared/data")).absolute()


def addresses() -> Addresses:
    """Addresses given by the environment, else those of the running local stack. Raises NotRunning."""
    file = state_folder() / "stack.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    found = {name: text(name.upper(), known.get(name, "")) for name in Addresses._fields}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise NotRunning(
            f"no {' and no '.join(missing)} known: start the local stack with `leadlog up`, or set "
            + " and ".join(f"LEADLOG_{name.upper()}" for name in missing)
        )
    return Addresses(**found)
