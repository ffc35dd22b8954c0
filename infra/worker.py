"""The workers: `leadlog run projector` under the supervisor. What a worker does is `services.projector`'s."""

import sys
from collections.abc import Mapping
from pathlib import Path

from infra.supervision import Program
from services import settings

PREFIX = "projector-"


def program(state: Path, number: int, ports: Mapping[str, int]) -> Program:
    """How supervisord runs worker `number` (from 1). It is started when the log is ready for it."""
    command = [str(Path(sys.executable).with_name("leadlog")), "run", "projector"]
    command += ["--worker-id", f"worker-{number}", "--web-port", str(ports[f"worker_{number}"])]
    environment = settings.given() | {"LEADLOG_STATE": str(state)}
    seconds = settings.SHUTDOWN_SECONDS + 5
    return Program(f"{PREFIX}{number}", command, environment, None, "TERM", seconds, starts_alone=False)
