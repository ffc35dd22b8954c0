"""What a fired threshold comes to: an alert opened, raised, opened again, or nothing that on-call hears.

Promises: an obligation has one alert for ever, so that whatever is told of it again is the same incident;
many that open at once share one (a digest). Long overdue when it came means silent.
"""

from collections.abc import Mapping, Sequence

from schemas.records import Micros
from services import settings
from services.clock.metrics import OPENED, SILENT
from services.store.obligations import Clock, Key, Obligation, change_alerts, columns, keep
from services.store.pool import Connection

MAX_AGE = settings.ALERT_MAX_AGE_SECONDS * 1_000_000
"""Microseconds."""

APPENDED = """
select event_id, coalesce(appended_at, recorded_at) as appended_at from log.event where event_id = any($1)
"""

OPEN_ALERTS = """
insert into ops.alert (alert_key, is_digest, severity, policy_id, team_id)
select key, false, severity, policy_id, team_id
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) new (key, severity, policy_id, team_id)
on conflict (alert_key) do update set severity = excluded.severity, revision = alert.revision + 1,
  change = 'reopened', changed_at = now(), closed_at = null, outcome = null
returning alert_key, alert_id
"""

REOPEN_ALERTS = """
update ops.alert set severity = new.severity, revision = revision + 1, change = 'reopened',
  changed_at = now(), closed_at = null, outcome = null
from unnest($1::bigint[], $2::text[]) new (alert_id, severity)
where alert.alert_id = new.alert_id and alert.closed_at is not null
"""

OPEN_DIGEST = """
select alert_id from ops.alert
where is_digest and closed_at is null and opened_at > now() - make_interval(secs => $1)
order by opened_at desc limit 1 for update
"""

NEW_DIGEST = """
insert into ops.alert (alert_key, is_digest, severity)
select 'digest:' || nextval('ops.digest_no'), true, $1 returning alert_id
"""


async def tell(
    connection: Connection,
    clocks: Mapping[Key, Clock],
    is_due: Mapping[Key, bool],
    known: Mapping[Key, Obligation],
    silent_until: Micros,
) -> None:
    """Opens, raises and opens again what these obligations ask for."""
    told = {key: known[key] for key in clocks if key in known and known[key].alert_id is not None}
    others = {key: clock for key, clock in clocks.items() if key not in told}
    silent = await silent_of(connection, others, silent_until)
    fresh = [clock for key, clock in others.items() if key not in silent]
    alerts = await _open(connection, fresh, is_due)
    await keep(connection, [(clock, alerts.get(key)) for key, clock in clocks.items()])
    await _go_on(connection, told, is_due)
    SILENT.inc(len(silent))


async def silent_of(connection: Connection, clocks: Mapping[Key, Clock], silent_until: Micros) -> set[Key]:
    """Which were long due when the broker took their starting event, or when their version was promoted."""
    rows = await connection.fetch(APPENDED, sorted({event_id for _, event_id in clocks}))
    appended = {row["event_id"]: row["appended_at"] for row in rows}
    return {
        key
        for key, clock in clocks.items()
        if clock.due_at is not None
        and (clock.due_at + MAX_AGE < appended.get(key[1], 0) or clock.due_at <= silent_until)
    }


async def _open(connection: Connection, fresh: Sequence[Clock], is_due: Mapping[Key, bool]) -> dict[Key, int]:
    """Alerts for obligations that have none, by key."""
    if len(fresh) > settings.ALERT_DIGEST_OVER:
        severity = _severity(any(is_due[each.key] for each in fresh))
        return dict.fromkeys((each.key for each in fresh), await _digest(connection, severity))
    OPENED.labels("single").inc(len(fresh))
    keys = {":".join(each.key): each.key for each in fresh}
    rows = [(":".join(each.key), _severity(is_due[each.key]), each.policy_id, each.team_id) for each in fresh]
    opened = await connection.fetch(OPEN_ALERTS, *columns(rows, 4))
    return {keys[row["alert_key"]]: row["alert_id"] for row in opened}


def _severity(is_due: bool) -> str:
    return "critical" if is_due else "warning"


async def _digest(connection: Connection, severity: str) -> int:
    """The digest of this storm: the one that is open, or a new one."""
    row = await connection.fetchrow(OPEN_DIGEST, settings.ALERT_DIGEST_SECONDS)
    if row is None:
        OPENED.labels("digest").inc()
        new: int = await connection.fetchval(NEW_DIGEST, severity)
        return new
    alert_id: int = row["alert_id"]
    await change_alerts(connection, [alert_id], "changed", "critical" if severity == "critical" else None)
    return alert_id


async def _go_on(connection: Connection, told: Mapping[Key, Obligation], is_due: Mapping[Key, bool]) -> None:
    """Obligations that have an alert: opened again if it was closed, raised if now due."""
    ordered: Sequence[Obligation] = sorted(told.values(), key=lambda each: each.alert_id or 0)
    closed = [each for each in ordered if each.closed_at is not None]
    rows = [(each.alert_id, _severity(is_due[each.key])) for each in closed]
    await connection.execute(REOPEN_ALERTS, *columns(rows, 2))
    raised = [
        each.alert_id
        for each in ordered
        if each.closed_at is None and is_due[each.key] and each.severity == "warning"
    ]
    await change_alerts(connection, raised, "raised", "critical")
