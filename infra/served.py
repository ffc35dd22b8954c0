"""What the services of a stack serve over HTTP: where it is, and whether they get on.

What they do is `services`'.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from asyncio import to_thread
from collections.abc import Mapping

from infra.ports import HOST
from services.plain_words import plainly

URLS = {"ingest": "ingest_url", "web": "page_url"}
"""Process to the name of its address in `leadlog status --json`."""
LAST_LOOK = {
    "clock": "leadlog_clock_last_look_timestamp_seconds",
    "notifier": "leadlog_notifier_last_look_timestamp_seconds",
}
"""The metric of a process that looks again and again: when it did so last, 0 while it stands by."""
LOOKS_EVERY_SECONDS = 30.0
"""One that has not looked for so long stands; the rules of infra/prometheus say the same."""
WITHOUT_READINESS = ("clock", "notifier", "verifier")
CHECK_TIMEOUT_SECONDS = 2.0


def urls(ports: Mapping[str, int]) -> dict[str, str]:
    """The base of the paths of each, by the name of its address."""
    return {url: f"http://{HOST}:{ports[name]}" for name, url in URLS.items()}


async def is_ready(base: str) -> bool:
    """Whether the door is ready to take events."""
    return not await to_thread(_trouble, f"{base}/readyz")


def not_ready(process: str, base: str) -> str:
    """Why a service that gets on is not to be relied on yet; nothing when it is."""
    return "" if process in WITHOUT_READINESS else _trouble(f"{base}/readyz")


def stuck(process: str, base: str) -> str:
    """Why a service does not get on; nothing when it does."""
    return _trouble(f"{base}/livez") or (_stale(base, LAST_LOOK[process]) if process in LAST_LOOK else "")


def _stale(base: str, metric: str) -> str:
    try:
        page = _read(f"{base}/metrics")
    except (OSError, http.client.HTTPException) as error:
        return _why(error)
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line and line[0] != "#")
    looked_at = float(values.get(metric, 0))
    age = time.time() - looked_at
    return f"it last looked {age:.0f} s ago" if looked_at and age > LOOKS_EVERY_SECONDS else ""


def _trouble(url: str) -> str:
    try:
        answer = json.loads(_read(url))
        return "" if answer["ok"] else ", ".join(answer["reasons"])
    except urllib.error.HTTPError as error:
        return _reasons(error)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return _why(error)


def _reasons(refused: urllib.error.HTTPError) -> str:
    try:
        return ", ".join(json.load(refused)["reasons"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return str(refused)


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=CHECK_TIMEOUT_SECONDS) as response:
        return str(response.read().decode())


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    cause = reason if isinstance(reason, Exception) else error
    is_late = isinstance(cause, TimeoutError)
    return f"no answer within {CHECK_TIMEOUT_SECONDS:.0f} s" if is_late else plainly(cause)
