"""Obligations and alerts in `ops`: what both the clock and the projector read and write of them.

Promises: an obligation is (policy, starting event) and nothing else; an alert is closed when the last of its
obligations is, and every change of an alert counts up its revision, which is how the notifier learns of it.
Leaves when something opens to `services.clock`, and when it is over to `services.projector`.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from schemas import derived
from schemas.records import Micros
from services.store.pool import Connection

Key = tuple[str, str]
"""Policy and starting event."""
DUE = "due"
"""The threshold of a breach; that of a warning is its share of the target."""


class Clock(NamedTuple):
    """A row of `sla_clock`, with its columns in their order."""

    journey_id: str
    policy_id: str
    clock_no: int
    started_at: Micros
    started_event_id: str
    warn_at: Micros | None
    due_at: Micros | None
    stopped_at: Micros | None
    stopped_event_id: str | None
    stopped_recorded_at: Micros | None
    business_seconds_used: float | None
    paused_seconds: float
    paused_from: Micros | None
    paused_until: Micros | None
    owner_id: str | None
    team_id: str | None
    cancelled_reason: str | None
    calendar_id: str | None
    definition_version: str

    @property
    def key(self) -> Key:
        """The obligation that the clock measures."""
        return (self.policy_id, self.started_event_id)

    @property
    def is_met(self) -> bool:
        """Whether it was stopped in time."""
        return (
            self.stopped_at is not None
            and self.cancelled_reason is None
            and (self.due_at is None or self.stopped_at <= self.due_at)
        )

    @property
    def is_late(self) -> bool:
        """Whether it was stopped, and not cancelled, after it was due."""
        return self.stopped_at is not None and self.cancelled_reason is None and not self.is_met

    @property
    def is_logged_late(self) -> bool:
        """Whether it was met, but recorded only after it was due."""
        return bool(
            self.is_met
            and self.due_at is not None
            and self.stopped_recorded_at is not None
            and self.stopped_recorded_at > self.due_at
        )


CLOCK_COLUMNS = ", ".join(f"clock.{name}" for name in Clock._fields)
"""Of `sla_clock clock`, in the order of `Clock`."""

TELL_CLOCK = "insert into ops.changed_clock (journey_id) select unnest($1::text[])"
"""Lets the clock process look at these journeys, whatever instants it has passed."""


class Obligation(NamedTuple):
    """What `ops` knows of an obligation."""

    policy_id: str
    started_event_id: str
    journey_id: str
    alert_id: int | None
    severity: str | None
    """Of the alert, which in a digest others share."""
    is_breach_told: bool
    """Whether on-call was told that this one is overdue."""
    started_at: Micros
    due_at: Micros | None
    definition_version: str
    closed_at: Micros | None
    outcome: str | None
    reason: str | None

    @property
    def key(self) -> Key:
        """Policy and starting event."""
        return (self.policy_id, self.started_event_id)


class Closing(NamedTuple):
    """How an obligation ends."""

    key: Key
    outcome: str
    """`resolved`, `withdrawn` or `moved`."""
    reason: str
    event_id: str | None
    """The event that ended it."""


KNOWN = """
select obligation.policy_id, obligation.started_event_id, obligation.journey_id, obligation.alert_id,
  alert.severity,
  case when alert.is_digest then exists (
    select from ops.fired
    where fired.policy_id = obligation.policy_id and threshold = 'due'
      and fired.started_event_id = obligation.started_event_id
  ) else coalesce(alert.severity = 'critical', false) end as is_breach_told,
  obligation.started_at, obligation.due_at, obligation.definition_version,
  obligation.closed_at, obligation.outcome, obligation.reason
from ops.obligation left join ops.alert using (alert_id)
where (obligation.policy_id, obligation.started_event_id) in (
  select * from unnest($1::text[], $2::text[])
  union
  select policy_id, started_event_id from ops.obligation where closed_at is null and journey_id = any($3)
)
order by obligation.policy_id, obligation.started_event_id
for update of obligation
"""

# With an alert or without: who had one keeps it, so that whatever is told again is the same incident.
KEEP = """
insert into ops.obligation (policy_id, started_event_id, alert_id, journey_id, clock_no, started_at, due_at,
  owner_id, team_id, definition_version)
select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::timestamptz[],
  $7::timestamptz[], $8::text[], $9::text[], $10::text[])
on conflict (policy_id, started_event_id) do update set
  alert_id = coalesce(excluded.alert_id, obligation.alert_id), journey_id = excluded.journey_id,
  clock_no = excluded.clock_no, started_at = excluded.started_at, due_at = excluded.due_at,
  owner_id = excluded.owner_id, team_id = excluded.team_id,
  definition_version = excluded.definition_version,
  closed_at = null, outcome = null, reason = null, ended_by_event_id = null, is_closed_by_switch = false
"""

CLOSE = """
update ops.obligation set closed_at = now(), outcome = ended.outcome, reason = ended.reason,
  ended_by_event_id = ended.event_id
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
  ended (policy_id, started_event_id, outcome, reason, event_id)
where obligation.policy_id = ended.policy_id and obligation.started_event_id = ended.started_event_id
  and obligation.closed_at is null
returning obligation.alert_id
"""

# Withdrawn only if nothing that it told was true.
CLOSE_ALERTS = """
update ops.alert set closed_at = now(), changed_at = now(), revision = revision + 1,
  change = ended.outcome, outcome = ended.outcome
from (
  select alert_id, case when bool_or(outcome = 'resolved') then 'resolved' else 'withdrawn' end as outcome
  from ops.obligation where alert_id = any($1) group by alert_id having bool_and(closed_at is not null)
) ended
where alert.alert_id = ended.alert_id and alert.closed_at is null
"""

CHANGE_ALERTS = """
update ops.alert set changed_at = now(), revision = revision + 1, change = $2,
  severity = coalesce($3, severity)
where alert_id = any($1) and closed_at is null
"""

LOWER_ALERTS = """
update ops.alert set changed_at = now(), revision = revision + 1, change = 'lowered', severity = 'warning'
where alert_id = any($1) and closed_at is null and severity = 'critical' and not exists (
  select from ops.obligation
  where obligation.alert_id = alert.alert_id and obligation.closed_at is null and due_at <= now()
)
returning alert_id
"""

Row = TypeVar("Row", bound=tuple[Any, ...])


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as lists of values, column by column, for `unnest`; `width` columns even without rows."""
    return list(map(list, zip(*rows, strict=True))) or [[] for _ in range(width)]


async def known(
    connection: Connection, keys: Collection[Key], journeys: Collection[str] = ()
) -> dict[Key, Obligation]:
    """Locks and reads the obligations of these keys, and the open ones of these journeys."""
    rows = await connection.fetch(KNOWN, *columns(sorted(keys), 2), sorted(journeys))
    return {each.key: each for each in (Obligation(*row) for row in rows)}


async def keep(connection: Connection, clocks: Sequence[tuple[Clock, int | None]]) -> None:
    """Opens obligations, each with its alert if it has one, or brings what they show up to date."""
    rows = [
        (
            *(clock.policy_id, clock.started_event_id, alert_id, clock.journey_id, clock.clock_no),
            *(clock.started_at, clock.due_at, clock.owner_id, clock.team_id, clock.definition_version),
        )
        for clock, alert_id in clocks
    ]
    if rows:
        await connection.execute(KEEP, *columns(rows, 10))


async def close(connection: Connection, closings: Sequence[Closing]) -> None:
    """Closes obligations, and the alerts of which none is open any more."""
    if not closings:
        return
    rows = [(*each.key, each.outcome, each.reason, each.event_id) for each in closings]
    closed = await connection.fetch(CLOSE, *columns(rows, 5))
    alerts = sorted({row["alert_id"] for row in closed if row["alert_id"] is not None})
    await connection.execute(CLOSE_ALERTS, alerts)


async def change_alerts(
    connection: Connection, alerts: Iterable[int | None], change: str, severity: str | None = None
) -> None:
    """Notes a change of open alerts, which the channels are told."""
    found = sorted({alert_id for alert_id in alerts if alert_id is not None})
    if found:
        await connection.execute(CHANGE_ALERTS, found, change, severity)


async def lower_alerts(connection: Connection, alerts: Iterable[int | None]) -> set[int]:
    """Makes a warning of open alerts of which nothing is overdue any more; returns those."""
    found = sorted({alert_id for alert_id in alerts if alert_id is not None})
    return {row["alert_id"] for row in await connection.fetch(LOWER_ALERTS, found)} if found else set()


def told_as(threshold: str) -> str:
    """What is concluded when a threshold fires, as `derived.clock_id` takes it."""
    return "breached" if threshold == DUE else f"warned@{threshold}"


def concluded(clock: Clock | Obligation, what: str, occurred_at: Micros, now: Micros) -> dict[str, Any]:
    """The fields that every conclusion about a clock has; `what` as `derived.clock_id` takes it."""
    return {
        "event_id": derived.clock_id(what, *clock.key),
        "journey_id": clock.journey_id,
        "occurred_at": occurred_at,
        "concluded_at": now,
        "definition_version": clock.definition_version,
        "policy_id": clock.policy_id,
        "started_event_id": clock.started_event_id,
        "started_at": clock.started_at,
        "due_at": clock.due_at,
    }
