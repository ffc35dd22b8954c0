"""`leadlog alerts`: what on-call was told, over which channel, and a test of a channel."""

import json
import time
from collections.abc import Mapping

import aiohttp
import click

from schemas.instants import rfc3339
from services import settings
from services.cli.exits import REFUSED, ask, end, run
from services.cli.layout import console, table
from services.cli.numbers import POSITIVE
from services.notifier.config import Config, read
from services.notifier.deliver import send
from services.notifier.message import Message, Owed
from services.notifier.sending import Again, Refused
from services.store.reading import Rows, read_shown
from services.wording import instant, legible

ALERTS = """
select alert_key as key, coalesce(alert.outcome, severity) as state, severity, change, alert.outcome,
  alert.opened_at, alert.closed_at,
  count(obligation.policy_id) filter (where obligation.closed_at is null) as open,
  count(obligation.policy_id) as obligations,
  min(obligation.journey_id) as journey_id, min(obligation.owner_id) as owner_id,
  min(obligation.due_at) as due_at
from ops.alert left join ops.obligation using (alert_id)
where $1 or alert.closed_at is null
group by alert_id order by alert_id desc limit $2
"""

OBLIGATIONS = """
select obligation.policy_id, started_event_id, journey_id, clock_no, obligation.started_at, due_at, owner_id,
  obligation.team_id, definition_version, obligation.opened_at, obligation.closed_at, obligation.outcome,
  reason, ended_by_event_id
from ops.obligation join ops.alert using (alert_id) where alert_key = $1
order by obligation.opened_at, obligation.policy_id, started_event_id
"""

DELIVERIES = """
select channel, alert_key as key, change, wanted_revision, sent_revision, attempts, sent_at, next_at,
  gave_up_at, fell_back_at, error,
  case when gave_up_at is not null then 'given up' when sent_revision < wanted_revision then 'waiting'
    else 'told' end as state
from ops.delivery join ops.alert using (alert_id)
where ($1::text is null or alert_key = $1) and (not $2 or sent_revision < wanted_revision)
order by alert_id desc, channel limit $3
"""

LISTED = {
    "alert": "key",
    "state": "state",
    "due": "due_at",
    "lead": "journey_id",
    "owner": "owner_id",
    "open": "open",
    "of": "obligations",
}
"""Heading to column of an alert; a digest shows one of its leads."""
TOLD = {
    "channel": "channel",
    "alert": "key",
    "state": "state",
    "told": "sent_at",
    "next try": "next_at",
    "error": "error",
}
NARROW = ("alert", "lead", "owner", "error")
"""Columns that give way on a narrow terminal."""
SECOND = 1_000_000
CHANNELS = 1_000
"""Deliveries of one alert that are shown."""


@click.group("alerts")
def command() -> None:
    """What on-call was told: hand-offs that wait for too long."""


JSON = click.option("--json", "as_json", is_flag=True, help="One JSON array.")
NO_ALERT = (
    "no such alert: what was long overdue when it was read, as imported history is, tells nobody; the page "
    "and `leadlog summary` count it"
)
LIMIT = click.option(
    "--limit", type=POSITIVE, default=100, show_default=True, help="Rows at most, the latest first."
)


@command.command("list")
@click.option("--all", "with_closed", is_flag=True, help="Closed ones too.")
@LIMIT
@JSON
def list_alerts(with_closed: bool, limit: int, as_json: bool) -> None:
    """List open alerts, the latest first. Instants are UTC."""
    _print(fetch(ALERTS, with_closed, limit), LISTED, as_json, NO_ALERT)


@command.command("show")
@click.argument("key")
@JSON
def show(key: str, as_json: bool) -> None:
    """Show what an alert covers and whom it was told, by its KEY."""
    owed = fetch(OBLIGATIONS, key)
    if not owed:
        end(REFUSED, f"there is no alert {key}: `leadlog alerts list --all` has the keys")
    told = fetch(DELIVERIES, key, False, CHANNELS)
    if as_json:
        click.echo(json.dumps({"obligations": owed, "deliveries": told}))
        return
    for row in owed:
        told_of = {name: value for name, value in row.items() if value is not None}
        click.echo("\n".join(f"{name}: {legible(str(value))}" for name, value in told_of.items()) + "\n")
    _table(told, TOLD)


@command.command("deliveries")
@click.option("--waiting", is_flag=True, help="Only what a channel was not told yet, or never will be.")
@LIMIT
@JSON
def deliveries(waiting: bool, limit: int, as_json: bool) -> None:
    """List what each channel was told, and what failed."""
    _print(fetch(DELIVERIES, None, waiting, limit), TOLD, as_json, "nothing was delivered")


@command.command("test")
@click.argument("channel")
def test(channel: str) -> None:
    """Send a made-up alert, and its end, over CHANNEL of the file LEADLOG_ALERTS."""
    config = read(settings.ALERTS)
    if channel not in config.channels:
        known = ", ".join(config.channels) or "none: LEADLOG_ALERTS names no file with channels"
        raise click.UsageError(f"there is no channel {channel}. There are: {known}")
    try:
        run(_send_test(config, channel))
    except (Again, Refused) as error:
        end(REFUSED, f"{channel} did not take it: {error}")
    click.echo(f"{channel} took a test alert and its end")


async def _send_test(config: Config, channel: str) -> None:
    now = time.time_ns() // 1000
    async with aiohttp.ClientSession() as http:
        for closed_at in (None, now):
            await send(http, config.channels[channel], [_example(config, now, closed_at)])


def _example(config: Config, now: int, closed_at: int | None) -> Message:
    today = rfc3339(now // SECOND * SECOND)
    owed = Owed(
        policy="test",
        journey_id="test:lead",
        owner="nobody",
        team=None,
        started_at=today,
        due_at=today,
        late_seconds=None,
        state="open" if closed_at is None else "resolved",
        reason=None,
        next_step="Nothing: this is a test.",
        lead=config.lead("test:lead"),
    )
    return Message(
        key=f"test:{now}",
        id=f"test:{now}:{'opened' if closed_at is None else 'resolved'}",
        revision=1 if closed_at is None else 2,
        change="opened" if closed_at is None else "resolved",
        state="firing" if closed_at is None else "resolved",
        severity="warning",
        severity_changed_at=None,
        summary="Test of a channel, nothing is wrong",
        opened_at=now,
        changed_at=now,
        closed_at=closed_at,
        is_digest=False,
        policy="test",
        team=None,
        count=1,
        count_open=1 if closed_at is None else 0,
        count_by_policy={"test": 1},
        obligations=[owed],
        runbook=config.runbook_url.format(runbook="sla-warning"),
    )


def fetch(query: str, *arguments: object) -> Rows:
    """Rows of a query, instants as RFC 3339."""
    return ask(lambda connection: read_shown(connection, query, *arguments))


def _print(rows: Rows, columns: Mapping[str, str], as_json: bool, nothing: str) -> None:
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        _table(rows, columns)
    else:
        click.echo(nothing)


def _table(rows: Rows, columns: Mapping[str, str]) -> None:
    shown = [
        [instant(row[name]) if name.endswith("_at") else row[name] for name in columns.values()]
        for row in rows
    ]
    table(console(), list(columns), shown, wrapped=NARROW)
