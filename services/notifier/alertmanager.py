"""Alerts for Prometheus Alertmanager, API v2: it groups, silences and routes them to people.

Promises: the labels that make an alert's identity never change while it is open but for the severity; the
alert that had the other one is ended in the same request, whatever changes went untold. An active alert
outlives an outage of ours and goes out by itself when nobody sends for longer; the watchdog goes out after a
few sendings. Leaves grouping to its configuration (infra/alerts/alertmanager.yml).
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp

from schemas.instants import rfc3339
from services.notifier.config import Alertmanager
from services.notifier.message import Message
from services.notifier.sending import judge, unanswered

AHEAD = 4
"""Sendings that may fail before the watchdog goes out."""
OUTLIVES_SECONDS = 3600
"""How long an active alert stays when nothing is sent. Shorter, an outage of Postgres would end it although
nobody did anything, and open it a second time afterwards."""
SECOND = 1_000_000


async def send(http: aiohttp.ClientSession, channel: Alertmanager, messages: Sequence[Message]) -> None:
    """Gives it the state of these alerts in one request. Raises Again, Refused."""
    end = time.time_ns() // 1000 + (OUTLIVES_SECONDS + round(channel.resend)) * SECOND
    await _post(http, channel, [alert for message in messages for alert in _alerts(message, end)])


async def watchdog(http: aiohttp.ClientSession, channel: Alertmanager) -> None:
    """Sends the alert that always fires. Raises Again, Refused."""
    now = datetime.now(UTC).timestamp()
    alert = {
        "labels": {"alertname": "LeadlogWatchdog", "severity": "none"},
        "annotations": {"summary": "Always fires while clock and notifier work. Its silence is the alarm."},
        "endsAt": rfc3339(round((now + channel.resend * AHEAD) * SECOND)),
    }
    await _post(http, channel, [alert])


async def _post(http: aiohttp.ClientSession, channel: Alertmanager, alerts: list[dict[str, Any]]) -> None:
    url = f"{channel.url.rstrip('/')}/api/v2/alerts"
    timeout = aiohttp.ClientTimeout(total=channel.timeout)
    try:
        async with http.post(url, json=alerts, timeout=timeout, allow_redirects=False) as answer:
            text = await answer.text(errors="replace")
            judge(answer.status, text, answer.headers.get("Retry-After"), time.time())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise unanswered(error, channel.timeout) from error


def _alerts(message: Message, end: int) -> Iterator[dict[str, Any]]:
    yield _alert(message, message.severity, message.closed_at or end)
    if message.severity_changed_at is not None:
        other = "warning" if message.severity == "critical" else "critical"
        yield _alert(message, other, message.severity_changed_at)


def _alert(message: Message, severity: str, ends_at: int) -> dict[str, Any]:
    labels = {
        "alertname": "LeadlogSlaDigest" if message.is_digest else "LeadlogSla",
        "alert_key": message.key,
        "severity": severity,
        "policy": message.policy,
        "team": message.team,
    }
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": _annotations(message),
        "startsAt": rfc3339(message.opened_at),
        "endsAt": rfc3339(ends_at),
        "generatorURL": message.runbook if message.runbook.startswith("http") else "",
    }


def _annotations(message: Message) -> dict[str, str]:
    told = {"summary": message.summary, "runbook_url": message.runbook, "state": message.state}
    if not message.is_digest and message.obligations:
        owed = message.obligations[0]
        told |= {
            "journey_id": owed.journey_id,
            "owner": owed.owner or "",
            "due_at": owed.due_at or "",
            "late_seconds": "" if owed.late_seconds is None else str(owed.late_seconds),
            "next_step": owed.next_step or "",
            "lead": owed.lead,
        }
    return {name: value for name, value in told.items() if value}
