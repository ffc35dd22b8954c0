"""`leadlog summary`: all leads on one page."""

import json
from typing import Any

import click
from rich.console import Console

from schemas.currencies import display
from services import settings
from services.cli.exits import run
from services.cli.layout import console, duration, instant, section, table
from services.store.pool import connect
from services.summary import Rows, read_summary

MODELS = ("first", "linear", "last_non_direct")
"""Attribution models shown unless others are asked for: both ends, and all alike."""


@click.command("summary")
@click.option(
    "--model", "models", multiple=True, default=MODELS, help="Attribution model to show; several allowed."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(models: tuple[str, ...], as_json: bool) -> None:
    """Funnel, hand-offs, SLA, deals, credit by channel, faults and freshness, as BI reads them."""
    summary = run(read(models))
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        show(console(), summary)


async def read(models: tuple[str, ...]) -> dict[str, Any]:
    """Asks Postgres."""
    connection = await connect(settings.addresses().postgres_dsn)
    try:
        return await read_summary(connection, models)
    finally:
        await connection.close()


def show(out: Console, summary: dict[str, Any]) -> None:
    """Prints the page for people."""
    out.print(f"All leads, by definition {summary['definition_version']}", style="bold", markup=False)
    _show_freshness(out, summary["freshness"])
    _show_funnel(out, summary["funnel"])
    _show_handoffs(out, summary["handoffs"], summary["acceptance"])
    _show_sla(out, summary["sla"])
    _show_deals(out, summary["opportunities"])
    _show_credit(out, summary["credit"])
    if summary["faults"]:
        section(out, "Events without effect (faults)")
        rows = [(row["code"], _number(row["events"])) for row in summary["faults"]]
        table(out, ("code", "events"), rows, right=("events",))


def _number(count: float) -> str:
    return f"{count:,}"


def _show_freshness(out: Console, freshness: dict[str, Any]) -> None:
    behind, lag = freshness["events_behind"], freshness["lag_seconds"]
    reading = "reading position not known, is the projector running?"
    if behind is not None:
        reading = f"{behind:,} events behind" if behind else "nothing behind"
    parts = [f"Last event {instant(freshness['last_event_at']) or 'none'} UTC", reading]
    parts += [f"complete but for the last {duration(lag)}"] if lag is not None else []
    parts += [
        f"{freshness[name]:,} {name.split('_')[0]}"
        for name in ("stale_journeys", "parked_journeys")
        if freshness[name]
    ]
    parts += ["another version is being built"] if freshness["rebuild_running"] else []
    out.print("; ".join(parts), markup=False)


def _show_funnel(out: Console, funnel: Rows) -> None:
    section(out, "Funnel (journeys; reached = ever in the stage, skipped stages included)")
    rows = [(row["stage"], row["stage_role"], _number(row["reached"]), _number(row["now"])) for row in funnel]
    table(out, ("stage", "role", "reached", "now"), rows, right=("reached", "now"))


def _show_handoffs(out: Console, handoffs: Rows, acceptance: float | None) -> None:
    section(out, "Hand-offs to sales")
    table(
        out,
        ("outcome", "hand-offs"),
        [(row["outcome"], _number(row["handoffs"])) for row in handoffs],
        right=("hand-offs",),
    )
    share = "not known yet" if acceptance is None else f"{acceptance:.1%}"
    out.print(f"Acceptance {share} (accepted of accepted and rejected)", markup=False)


def _show_sla(out: Console, sla: Rows) -> None:
    section(out, "SLA clocks")
    rows = [(row["policy_id"], row["state"], _number(row["clocks"])) for row in sla]
    table(out, ("policy", "state", "clocks"), rows, right=("clocks",))


def _show_deals(out: Console, deals: Rows) -> None:
    section(out, "Opportunities (a deal shared by several leads counts once)")
    rows = [
        (
            row["status"],
            _number(row["opportunities"]),
            _money(row, "amount_minor"),
            _money(row, "adjusted_minor"),
        )
        for row in deals
    ]
    table(
        out,
        ("status", "deals", "amount", "adjusted since"),
        rows,
        right=("deals", "amount", "adjusted since"),
    )


def _money(row: dict[str, Any], name: str) -> str:
    return "" if row[name] is None or row["currency"] is None else display(row[name], row["currency"])


def _show_credit(out: Console, credit: Rows) -> None:
    """Channels and currencies down, models across."""
    section(out, "Credit by channel, adjustments and reversals included (a convention, not causal lift)")
    models = list(dict.fromkeys(row["model"] for row in credit))
    amounts = {(row["currency"], row["channel"], row["model"]): _money(row, "amount_minor") for row in credit}
    lines = sorted({(row["currency"], row["channel"]) for row in credit})
    rows = [
        (channel, *(amounts.get((currency, channel, model), "") for model in models))
        for currency, channel in lines
    ]
    table(out, ("channel", *models), rows, right=models)
