"""What is told of an alert: who, what, due, late by, next step, where to look. No personal data.

Promises: one message for every channel to put into its own form; `key` is the same for ever, `id` the same
whenever this state of the alert is told again.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from asyncpg import Record as Row
from msgspec import Struct

from schemas.instants import rfc3339
from schemas.records import Micros
from services.notifier.config import Config
from services.store.pool import Connection

SHOWN = 20
"""Obligations of a digest that are told one by one; the others are counted."""

ALERTS = """
select alert_id, alert_key, is_digest, policy_id, team_id, severity, severity_changed_at, revision, change,
  opened_at, changed_at, closed_at, outcome
from ops.alert where alert_id = any($1) order by alert_id
"""

OBLIGATIONS = """
select alert_id, policy_id, started_event_id, journey_id, started_at, due_at, owner_id, team_id, closed_at,
  outcome, reason
from ops.obligation where alert_id = any($1) and outcome is distinct from 'moved'
order by closed_at is not null, due_at, policy_id, started_event_id
"""

ENDS = {
    "met": "done in time",
    "stopped_late": "done, too late",
    "moved": "over, the lead moved on",
    "erased": "over, the lead was erased",
    "met_logged_late": "was done in time, logged late",
    "not_due": "not due yet after all",
    "gone": "not owed any more",
}
"""Why an obligation ended, for people."""


class Owed(Struct, frozen=True):
    """One obligation. Instants are RFC 3339 texts."""

    policy: str
    journey_id: str
    owner: str | None
    team: str | None
    started_at: str
    due_at: str | None
    late_seconds: int | None
    """Since it was due; null when it is not, or is over."""
    state: str
    """open, or how it ended: resolved, withdrawn."""
    reason: str | None
    next_step: str | None
    """What ends the clock; null when it is over."""
    lead: str


class Message(Struct, frozen=True):
    """The state of an alert."""

    key: str
    id: str
    revision: int
    change: str
    state: str
    """firing, resolved or withdrawn."""
    severity: str
    severity_changed_at: Micros | None
    """Null = it never had another one."""
    summary: str
    opened_at: Micros
    changed_at: Micros
    closed_at: Micros | None
    is_digest: bool
    policy: str | None
    """Of the obligation, as of the opening; null in a digest. The team too."""
    team: str | None
    count: int
    count_open: int
    count_by_policy: dict[str, int]
    obligations: list[Owed]
    runbook: str

    @property
    def is_firing(self) -> bool:
        """Whether it is not over."""
        return self.closed_at is None


async def messages(connection: Connection, config: Config, alerts: Sequence[int]) -> dict[int, Message]:
    """What is to be told of these alerts now."""
    now: Micros = await connection.fetchval("select now()")
    owed: dict[int, list[Row]] = defaultdict(list)
    for row in await connection.fetch(OBLIGATIONS, list(alerts)):
        owed[row["alert_id"]].append(row)
    return {
        alert["alert_id"]: _message(alert, owed[alert["alert_id"]], config, now)
        for alert in await connection.fetch(ALERTS, list(alerts))
    }


def _message(alert: Row, rows: Sequence[Row], config: Config, now: Micros) -> Message:
    owed = [_owed(row, config, now) for row in rows[:SHOWN]]
    by_policy = Counter(row["policy_id"] for row in rows)
    state = alert["outcome"] or "firing"
    runbook = "digest" if alert["is_digest"] else _runbook(alert["severity"])
    return Message(
        key=alert["alert_key"],
        id=f"{alert['alert_key']}:{alert['revision']}",
        revision=alert["revision"],
        change=alert["change"],
        state=state,
        severity=alert["severity"],
        severity_changed_at=alert["severity_changed_at"],
        summary=_digest(rows, now) if alert["is_digest"] else _summary(owed, state, alert["severity"]),
        opened_at=alert["opened_at"],
        changed_at=alert["changed_at"],
        closed_at=alert["closed_at"],
        is_digest=alert["is_digest"],
        policy=alert["policy_id"],
        team=alert["team_id"],
        count=len(rows),
        count_open=sum(row["closed_at"] is None for row in rows),
        count_by_policy=dict(by_policy),
        obligations=owed,
        runbook=config.runbook(runbook),
    )


def _runbook(severity: str) -> str:
    return "sla-breach" if severity == "critical" else "sla-warning"


def _owed(row: Row, config: Config, now: Micros) -> Owed:
    due_at = row["due_at"]
    is_late = due_at is not None and due_at <= now and row["closed_at"] is None
    step = config.next_steps.get(row["policy_id"], "Do what ends the clock, or pause it with a reason.")
    return Owed(
        policy=row["policy_id"],
        journey_id=row["journey_id"],
        owner=row["owner_id"],
        team=row["team_id"],
        started_at=rfc3339(row["started_at"]),
        due_at=None if due_at is None else rfc3339(due_at),
        late_seconds=(now - due_at) // 1_000_000 if is_late else None,
        state=row["outcome"] or "open",
        reason=row["reason"],
        next_step=step if row["closed_at"] is None else None,
        lead=config.lead(row["journey_id"]),
    )


def _summary(owed: Sequence[Owed], state: str, severity: str) -> str:
    """One line for people, although ids may have line breaks. What was owed may be another alert's now."""
    if not owed:
        return "over"
    first = owed[0]
    firing = "overdue" if severity == "critical" else "due soon"
    what = firing if state == "firing" else ENDS.get(first.reason or "", "over")
    said = f"{first.policy} of lead {first.journey_id} ({first.owner or first.team or 'nobody'}): {what}"
    return " ".join(said.splitlines())


def _digest(rows: Sequence[Row], now: Micros) -> str:
    """One line on many: how many of each policy are overdue, due soon and over."""
    counts = Counter((row["policy_id"], _stands(row, now)) for row in rows)
    return ", ".join(f"{number} x {policy} {what}" for (policy, what), number in sorted(counts.items()))


def _stands(row: Row, now: Micros) -> str:
    if row["closed_at"] is not None:
        return "over"
    return "overdue" if row["due_at"] is not None and row["due_at"] <= now else "due soon"


def as_json(message: Message) -> dict[str, Any]:
    """The message for programs, instants as RFC 3339."""
    told: dict[str, Any] = msgspec.to_builtins(message)
    for name in ("opened_at", "severity_changed_at", "changed_at", "closed_at"):
        told[name] = None if told[name] is None else rfc3339(told[name])
    return told
