"""`leadlog lead ID`: everything about one lead, and the event behind every value."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from projections.definition import Definition
from schemas.contract import to_json
from schemas.currencies import display
from services import definitions, settings
from services.cli import lead_difference
from services.cli.definition_file import read_file
from services.cli.exits import REFUSED, end, run
from services.cli.files import TEXT_FILE
from services.cli.layout import console, section, table
from services.lead import Entry, Lead, Shown, Unknown, read_lead
from services.lead_difference import Difference, as_known, under
from services.projector.decoding import Decoding
from services.registry import Registry
from services.store.pool import Connection, session
from services.store.versions import promoted_version
from services.wording import duration, gist, instant, money

MODELS_ACROSS = 4
"""Attribution models side by side, so that a table fits a terminal of 120 columns."""
KEYS = ("journey_id", "definition_version")
"""Columns said once, at the top."""


@click.command("lead")
@click.argument("some_id", metavar="ID")
@click.option("--definition", "file", type=TEXT_FILE, help="What differs under the definition in this file.")
@click.option("--as-known", "when", metavar="TIME", help="What was known then, and what differs today.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, everything in it.")
def command(some_id: str, file: Path | None, when: str | None, as_json: bool) -> None:
    """All about one lead: what happened, and what it led to.

    State, timeline, visits, hand-offs, clocks, money and credit.

    ID is any of the lead's subject ids, its journey id, or the id of one of its events. Every value shows the
    event that it comes from.

    With --definition or --as-known: only what differs from today, explained event by event. TIME is a date,
    or a date and a time, in the zone of the definition's calendar unless it has an offset.
    """
    if file and when:
        raise click.UsageError("--definition and --as-known exclude each other: one difference at a time")
    try:
        if file or when:
            _tell(run(_compare(some_id, read_file(file) if file else None, when or "")), as_json)
            return
        lead = run(read(some_id))
    except Unknown:
        end(REFUSED, f"no subject, journey or event has the id {some_id!r}. `leadlog wait`, if it is new.")
    if as_json:
        click.echo(json.dumps(as_object(lead), indent=2))
    else:
        show(console(), lead)


def _tell(found: Difference, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(lead_difference.as_object(found), indent=2))
    else:
        lead_difference.show(found)


async def _compare(some_id: str, candidate: Definition | None, when: str) -> Difference:
    """The difference that a definition makes, or that time has made."""
    async with _asking() as (connection, decoding):
        if candidate is not None:
            return await under(connection, some_id, candidate, decoding)
        in_force = (await promoted_version(connection)).in_force(definitions.now())
        return await as_known(connection, some_id, definitions.start_of(when, in_force), decoding)


async def read(some_id: str) -> Lead:
    """Asks Postgres."""
    async with _asking() as (connection, decoding):
        return await read_lead(connection, some_id, decoding)


@asynccontextmanager
async def _asking() -> AsyncIterator[tuple[Connection, Decoding]]:
    """Postgres; and the registry only if a lead has events of schemas that this release does not know."""
    addresses = settings.addresses()
    async with session(addresses.postgres_dsn) as connection, Registry(addresses.registry_url) as registry:
        yield connection, Decoding(registry)


def as_object(lead: Lead) -> dict[str, Any]:
    """The lead as plain values. In `state` and the lists, `sources` names the event of each value."""
    views = {
        view: [row.values | {"sources": row.sources} for row in rows] for view, rows in lead.rows.items()
    }
    return {
        "journey_id": lead.journey_id,
        "subjects": lead.subjects,
        "definition_version": lead.definition_version,
        "is_stale": lead.is_stale,
        "parked": lead.error,
        "state": next(iter(views["lead_current"]), None),
        "timeline": [_event(entry) for entry in lead.timeline],
        "stage_visits": views["stage_visit"],
        "handoffs": views["handoff"],
        "sla_clocks": views["sla_clock"],
        "opportunities": views["opportunity"],
        "money": views["lead_money"],
        "credit": lead.credit,
        "faults": lead.faults,
    }


def _event(entry: Entry) -> dict[str, Any]:
    return {
        "event": to_json(entry.event),
        "copy_no": entry.copy_no,
        "status": entry.status,
        "effects": entry.effects,
    }


def show(out: Console, lead: Lead) -> None:
    """Prints the lead for people."""
    out.print(f"Lead {lead.journey_id}, by definition {lead.definition_version}", style="bold", markup=False)
    out.print(f"Known as {', '.join(lead.subjects)}", markup=False)
    if lead.error:
        out.print(f"PARKED by a defect, rows are as before: {lead.error}", style="red", markup=False)
    elif lead.is_stale:
        out.print("Its rows are about to be brought up to date: look again soon.", style="yellow")
    _show_state(out, lead.rows["lead_current"])
    _show_timeline(out, lead.timeline)
    _show_visits(out, lead.rows["stage_visit"])
    _show_handoffs(out, lead.rows["handoff"])
    _show_clocks(out, lead.rows["sla_clock"])
    _show_deals(out, lead.rows["opportunity"], lead.rows["lead_money"])
    _show_credit(out, lead.credit)


def _show_state(out: Console, rows: Sequence[Shown]) -> None:
    section(out, "State")
    if not rows:
        out.print("none: no event of this lead counts")
    for row in rows:
        values = [
            (name, _plain(name, value), row.sources.get(name))
            for name, value in row.values.items()
            if name not in KEYS and value not in (None, "", 0, False)
        ]
        table(out, ("", "value", "from event"), values, wrapped=["value"])


def _plain(name: str, value: Any) -> str:
    return instant(value) if name.endswith(("_at", "_until")) else str(value)


def _show_timeline(out: Console, timeline: Sequence[Entry]) -> None:
    section(out, "Timeline (UTC; late = recorded so long after it happened)")
    rows = [
        (
            instant(entry.event.occurred_at),
            type(entry.event).__name__,
            gist(entry.event),
            entry.name,
            entry.told,
            duration(entry.late_seconds),
        )
        for entry in timeline
    ]
    headings = ("occurred", "record", "what", "event", "effect", "late")
    table(out, headings, rows, wrapped=["what", "effect"])


def _show_visits(out: Console, rows: Sequence[Shown]) -> None:
    """A visit is left when, and by what, the next one that was not skipped is entered."""
    if not rows:
        return
    section(out, "Stage visits")
    headings = ("no", "stage", "entered", "time", "business time", "left for", "reason", "entered by event")
    cells = [
        (
            row["visit_no"],
            row["stage"] + (" (skipped)" if row["is_inferred"] else ""),
            instant(row["entered_at"]),
            duration(row["calendar_seconds"]),
            duration(row["business_seconds"]),
            row["next_stage"],
            row["reason_code"],
            row["entered_event_id"],
        )
        for row, _ in rows
    ]
    table(out, headings, cells, right=("no", "time", "business time"), wrapped=["reason"])


def _show_handoffs(out: Console, rows: Sequence[Shown]) -> None:
    if not rows:
        return
    section(out, "Hand-offs")
    cells = [
        (
            row["handoff_no"],
            row["outcome"] or "open",
            row["reason_code"],
            instant(row["opened_at"]),
            instant(row["ended_at"]),
            row["owner_id"],
            row["opened_event_id"],
            row["ended_event_id"],
        )
        for row, _ in rows
    ]
    table(
        out,
        ("no", "outcome", "reason", "opened", "ended", "owner", "opened by", "ended by"),
        cells,
        right=("no",),
    )


def _show_clocks(out: Console, rows: Sequence[Shown]) -> None:
    """Three lines each: what started it, what made the due instant, what stopped it."""
    if not rows:
        return
    section(out, "SLA clocks")
    headings = ("policy", "no", "state", "", "at", "by event", "used", "late")
    table(out, headings, [line for row in rows for line in _clock(row)], right=("no", "used", "late"))


def _clock(shown: Shown) -> Iterator[tuple[Any, ...]]:
    row, sources = shown
    state = row["state"] + (f" ({row['cancelled_reason']})" if row["cancelled_reason"] else "")
    used, late = duration(row["business_seconds_used"]), duration(row["late_seconds"])
    yield (
        row["policy_id"],
        row["clock_no"],
        state,
        "started",
        instant(row["started_at"]),
        row["started_event_id"],
        used,
        late,
    )
    yield "", "", "", "due", instant(row["due_at"]) or "not known", sources.get("due_at"), "", ""
    if row["stopped_at"]:
        yield "", "", "", "stopped", instant(row["stopped_at"]), row["stopped_event_id"], "", ""


def _show_deals(out: Console, deals: Sequence[Shown], totals: Sequence[Shown]) -> None:
    if not deals:
        return
    section(out, "Opportunities")
    cells = [
        (
            row["opportunity_id"],
            row["status"] + (" (shared)" if row["is_shared"] else ""),
            instant(row["opened_at"]),
            instant(row["closed_at"]),
            money(row["amount_minor"], row["currency"]),
            money(row["adjusted_minor"], row["currency"]) if row["adjusted_minor"] else "",
            row["loss_reason"],
            sources.get("status"),
            sources.get("amount_minor"),
        )
        for row, sources in deals
    ]
    headings = (
        "opportunity",
        "status",
        "opened",
        "closed",
        "amount",
        "adjusted",
        "lost for",
        "status by",
        "amount by",
    )
    table(out, headings, cells, right=("amount", "adjusted"))
    for row, sources in totals:
        won = money(row["won_minor"], row["currency"])
        adjusted = money(row["adjusted_minor"], row["currency"])
        out.print(
            f"Won in force {won}, adjusted by {adjusted} (event {sources.get('won_minor')})", markup=False
        )


def _show_credit(out: Console, credit: Sequence[dict[str, Any]]) -> None:
    """A table per win, adjustment or reversal: its touches down, a few models across, money and weight."""
    causes = dict.fromkeys((row["opportunity_id"], row["kind"], row["event_id"]) for row in credit)
    for deal, kind, event_id in causes:
        rows = [
            row
            for row in credit
            if (row["opportunity_id"], row["event_id"], row["kind"]) == (deal, event_id, kind)
        ]
        section(out, f"Credit of {deal}: {kind} by event {event_id} (a convention, not causal lift)")
        models = list(dict.fromkeys(row["model"] for row in rows))
        for start in range(0, len(models), MODELS_ACROSS):
            across = models[start : start + MODELS_ACROSS]
            table(out, ("touch", "channel", "positions", *across), _pivot(rows, across), right=across)


def _pivot(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    touches = {row["touch_event_id"]: row for row in rows}
    shares = {(row["touch_event_id"], row["model"]): row for row in rows}
    for touch, row in sorted(touches.items(), key=lambda each: (each[1]["touched_at"] or "", each[0] or "")):
        cells = [_share(shares.get((touch, model))) for model in models]
        if any(cells):
            yield (touch, row["channel"], row["positions"], *cells)


def _share(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{display(row['amount_minor'], row['currency'])} {row['weight']:.0%}"
