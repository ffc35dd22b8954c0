"""The HTTP door: `leadlog run ingest` under the supervisor. What it does is `services.ingest`'s."""

import asyncio
import http.client
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from infra.ports import HOST
from infra.supervision import Program
from services import settings

NAME = "ingest"
CHECK_TIMEOUT_SECONDS = 2.0


def url(ports: Mapping[str, int]) -> str:
    """Base of the door's paths."""
    return f"http://{HOST}:{ports[NAME]}"


def program(state: Path, ports: Mapping[str, int]) -> Program:
    """How supervisord runs the door. It is started when the log is ready for it."""
    command = [str(Path(sys.executable).with_name("leadlog")), "run", "ingest"]
    command += ["--host", HOST, "--port", str(ports[NAME])]
    environment = settings.given() | {"LEADLOG_STATE": str(state)}
    return Program(
        NAME, command, environment, None, "TERM", settings.SHUTDOWN_SECONDS + 5, starts_alone=False
    )


async def answers(base: str) -> bool:
    """Whether the door takes events."""
    return await asyncio.to_thread(_answers, base)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/readyz", timeout=CHECK_TIMEOUT_SECONDS) as response:
            return bool(json.load(response)["ok"])
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False
