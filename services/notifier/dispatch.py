"""Hands changes of alerts to the channels that take them.

Promises: every change is handed over in one transaction with the note that it was; a channel that was told of
an alert is told of its end too, whatever it takes by then. Several notifiers may dispatch at once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from services.notifier.config import AnyChannel, Config, Takes
from services.store.obligations import columns
from services.store.pool import Connection

AT_ONCE = 500
"""Alerts handed over in one transaction."""

PENDING = """
select alert_id, revision, severity, is_digest, policy_id, team_id
from ops.alert where dispatched_revision < revision
order by alert_id limit $1 for update skip locked
"""

COVERED = """
select distinct alert_id, policy_id, team_id from ops.obligation where alert_id = any($1)
"""

HAND_OVER = """
insert into ops.delivery (alert_id, channel, wanted_revision, next_at)
select alert_id, channel, revision, now()
from unnest($1::bigint[], $2::text[], $3::integer[]) new (alert_id, channel, revision)
on conflict (alert_id, channel) do nothing
"""

# Who fails goes on at its own pace; who gave up gets another chance with what is new.
TELL_ON = """
update ops.delivery set wanted_revision = revision,
  next_at = case when failing_since is not null and gave_up_at is null then next_at
    when sent_revision < revision then now() else next_at end,
  failing_since = case when gave_up_at is null then failing_since end,
  gave_up_at = null
from unnest($1::bigint[], $2::integer[]) new (alert_id, revision)
where delivery.alert_id = new.alert_id and wanted_revision < revision
"""

DISPATCHED = "update ops.alert set dispatched_revision = revision where alert_id = any($1)"

# So that a channel that is new in the file hears of what is open,
AGAIN = "update ops.alert set dispatched_revision = 0 where closed_at is null"

# and one that was given up and is corrected now, too; and the end of what it has heard of.
ONCE_MORE = """
update ops.delivery set next_at = now(), gave_up_at = null, failing_since = null
from ops.alert
where alert.alert_id = delivery.alert_id and gave_up_at is not null
  and (closed_at is null or sent_at is not null)
"""


async def dispatch(connection: Connection, config: Config) -> int:
    """Hands over what is new; returns how many alerts that were."""
    async with connection.transaction():
        alerts = await connection.fetch(PENDING, AT_ONCE)
        if not alerts:
            return 0
        ids = [alert["alert_id"] for alert in alerts]
        digests = [alert["alert_id"] for alert in alerts if alert["is_digest"]]
        covered = await connection.fetch(COVERED, digests) if digests else []
        rows = [
            (alert["alert_id"], channel, alert["revision"])
            for alert in alerts
            for channel in takers(alert, covered, config.channels)
        ]
        await connection.execute(HAND_OVER, *columns(rows, 3))
        await connection.execute(TELL_ON, ids, [alert["revision"] for alert in alerts])
        await connection.execute(DISPATCHED, ids)
    return len(alerts)


def takers(
    alert: Mapping[str, Any], covered: Iterable[Mapping[str, Any]], channels: Mapping[str, AnyChannel]
) -> list[str]:
    """The channels that take an alert: one takes a digest if it takes any part of it."""
    parts = [part for part in covered if part["alert_id"] == alert["alert_id"]] or [alert]
    return [
        name
        for name, channel in channels.items()
        if not channel.is_fallback
        and any(takes(channel.takes, alert["severity"], part["policy_id"], part["team_id"]) for part in parts)
    ]


def takes(asked: Takes, severity: str, policy_id: str | None, team_id: str | None) -> bool:
    """Whether an obligation of this severity, policy and team is taken."""
    wanted = ((asked.severity, severity), (asked.policy, policy_id), (asked.team, team_id))
    return all(names is None or value in names for names, value in wanted)
