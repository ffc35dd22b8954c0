"""The HTTP door of a stack: where it is, and whether it answers. What it does is `services.ingest`'s."""

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from infra.ports import HOST

NAME = "ingest"
CHECK_TIMEOUT_SECONDS = 2.0


def url(ports: Mapping[str, int]) -> str:
    """Base of the door's paths."""
    return f"http://{HOST}:{ports[NAME]}"


async def answers(base: str) -> bool:
    """Whether the door takes events."""
    return await asyncio.to_thread(_answers, base)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/readyz", timeout=CHECK_TIMEOUT_SECONDS) as response:
            return bool(json.load(response)["ok"])
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False
