"""What a stack serves over HTTP, the door and the page: where it is, and whether it answers.

What they do is `services.ingest`'s and `services.web`'s.
"""

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from infra.ports import HOST

URLS = {"ingest": "ingest_url", "web": "page_url"}
"""Process to the name of its address in `leadlog status --json`."""
CHECK_TIMEOUT_SECONDS = 2.0


def urls(ports: Mapping[str, int]) -> dict[str, str]:
    """The base of the paths of each, by the name of its address."""
    return {url: f"http://{HOST}:{ports[name]}" for name, url in URLS.items()}


async def answers(base: str) -> bool:
    """Whether it is ready: the door to take events, the page to show them."""
    return await asyncio.to_thread(_answers, base)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/readyz", timeout=CHECK_TIMEOUT_SECONDS) as response:
            return bool(json.load(response)["ok"])
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False
