"""The product's own processes under the supervisor: workers, the door, the page, clock, notifier, verifier.

Promises how supervisord runs each, as `leadlog run …`; they are started when the log is ready for them. What
they do is `services`'.
"""

import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from infra import ports
from infra.supervision import Program
from services import settings
from services.store.versions import hash_of

CODE = "LEADLOG_CODE"
"""Environment variable of each process: the code it is of. By other code the supervisor starts it anew."""


def programs(state: Path, workers: int, chosen: Mapping[str, int]) -> list[Program]:
    """Those of a stack with so many workers, at the chosen ports."""
    leadlog = str(Path(sys.executable).with_name("leadlog"))
    # Absolute: the supervisor works in the folder of the first `up`.
    environment = settings.given() | {"LEADLOG_STATE": str(state), "LEADLOG_ALERTS": settings.ALERTS}
    environment |= {CODE: installed_code()}
    seconds = settings.SHUTDOWN_SECONDS + 5
    return [
        Program(name, [leadlog, "run", *command], environment, None, "TERM", seconds, starts_alone=False)
        for name, command in _commands(workers, chosen).items()
    ]


@cache
def installed_code() -> str:
    """Names what is installed: a hash over all that the processes read of it."""
    folders = [Path(str(resources.files(package))) for package in ("projections", "schemas", "services")]
    files = [file for folder in folders for file in sorted(folder.rglob("*"))]
    return hash_of(file for file in files if file.is_file() and file.suffix != ".pyc")


def listener(process: str) -> str:
    """The name of the port at which a process serves its pages."""
    return process.replace("projector-", "worker_")


def _commands(workers: int, chosen: Mapping[str, int]) -> dict[str, list[str]]:
    """Name of each process and its `leadlog run` command."""
    found = {
        f"projector-{number}": [
            *("projector", "--worker-id", f"worker-{number}"),
            *("--web-port", str(chosen[f"worker_{number}"])),
        ]
        for number in range(1, workers + 1)
    }
    found |= {name: [name, "--host", ports.HOST, "--port", str(chosen[name])] for name in ports.SERVED}
    return found | {name: [name, "--web-port", str(chosen[name])] for name in ports.BACKGROUND}
