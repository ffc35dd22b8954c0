"""`leadlog summary`: all leads on one page."""

import json
from datetime import date
from typing import Any

import click
from rich.console import Console

from services.cli.exits import ask
from services.cli.layout import console, section, table
from services.cli.times import DayType
from services.store.pool import Connection
from services.store.reading import Rows
from services.summary import MODELS, known_models, read_summary
from services.wording import duration, instant, money

ANCHORS = (
    "leads by their first event, hand-offs by decision (open ones by opening), clocks by due time, visits by "
    "entry, deals by close (open ones by opening), credit by win, faults by when they happened"
)


@click.command("summary")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help=f"Attribution model to show; several allowed. [default: {', '.join(MODELS)}]",
)
@click.option(
    "--since",
    type=DayType(),
    metavar="DATE",
    help="Count from the beginning of this date on, in the time zone of the definition's calendar.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(models: tuple[str, ...], since: date | None, as_json: bool) -> None:
    """The numbers of all leads, as BI reads them.

    Funnel, hand-offs, SLA, time in stage, deals, credit by channel, faults and freshness.
    """
    summary = ask(lambda connection: read(connection, models, since))
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        show(console(), summary)


async def read(connection: Connection, models: tuple[str, ...], since: date | None) -> dict[str, Any]:
    """The page. A model that no definition has is wrong usage."""
    known = await known_models(connection) if models else MODELS
    if unknown := [name for name in models if name not in known]:
        raise click.BadParameter(
            f"there is no model {unknown[0]!r}: expected one of {', '.join(known)}", param_hint="--model"
        )
    return await read_summary(connection, models or MODELS, since)


def show(out: Console, summary: dict[str, Any]) -> None:
    """Prints the page for people."""
    since = f" since {summary['since']}" if summary["since"] else ""
    out.print(f"All leads{since}, by definition {summary['definition_version']}", style="bold", markup=False)
    _show_freshness(out, summary["freshness"])
    if since:
        out.print(f"Counted{since}: {ANCHORS}", markup=False)
    _show_funnel(out, summary["funnel"])
    _show_handoffs(out, summary["handoffs"], summary["acceptance"])
    _show_sla(out, summary["sla"])
    _show_time_in_stage(out, summary["time_in_stage"])
    _show_deals(out, summary["opportunities"])
    _show_credit(out, summary["credit"])
    if summary["faults"]:
        section(out, "Events without effect (faults)")
        rows = [(row["code"], _number(row["events"])) for row in summary["faults"]]
        table(out, ("code", "events"), rows, right=("events",))


def _number(count: float) -> str:
    return f"{count:,}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


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
    section(out, "Funnel (leads; reached = ever in the stage, skipped stages included)")
    rows = [
        (
            row["stage"],
            row["stage_role"],
            _number(row["reached"]),
            _share(row["of_previous"]),
            _number(row["now"]),
        )
        for row in funnel
    ]
    numbers = ("reached", "of previous", "now")
    table(out, ("stage", "role", *numbers), rows, right=numbers)


def _show_handoffs(out: Console, handoffs: Rows, acceptance: float | None) -> None:
    section(out, "Hand-offs to sales")
    table(
        out,
        ("outcome", "hand-offs"),
        [(row["outcome"], _number(row["handoffs"])) for row in handoffs],
        right=("hand-offs",),
    )
    share = _share(acceptance) or "not known yet"
    out.print(f"Acceptance {share} (accepted of accepted and rejected)", markup=False)


def _show_sla(out: Console, sla: Rows) -> None:
    section(out, "SLA clocks (met of all that ended or are overdue; logged late is part of met)")
    counts = ("met", "met_logged_late", "breached", "overdue", "running", "paused", "cancelled")
    rows = [
        (row["policy_id"], _share(row["sla_met"]), *(_number(row[name]) for name in counts)) for row in sla
    ]
    headings = ("share met", "met", "logged late", "breached", "overdue", "running", "paused", "cancelled")
    table(out, ("policy", *headings), rows, right=headings)


def _show_time_in_stage(out: Console, stages: Rows) -> None:
    """The median that counts open visits first: the other one is too short while many are open."""
    section(out, "Time in stage (median = Kaplan-Meier: visits that still last count, as lasting longer)")
    rows = [
        (
            row["stage"],
            _number(row["closed_visits"]),
            _number(row["open_visits"]),
            _median(row["median_seconds"]),
            _median(row["median_business_seconds"]),
            duration(row["closed_median_seconds"]),
            "fewer than 20 visits" if row["is_small"] else "",
        )
        for row in stages
    ]
    numbers = ("ended", "open", "median", "in business time", "median of ended")
    table(out, ("stage", *numbers, ""), rows, right=numbers)


def _median(seconds: float | None) -> str:
    return "most still there" if seconds is None else duration(seconds)


def _show_deals(out: Console, deals: Rows) -> None:
    section(out, "Opportunities (a deal shared by several leads counts once)")
    rows = [
        (
            row["status"],
            _number(row["opportunities"]),
            money(row["amount_minor"], row["currency"]),
            money(row["adjusted_minor"], row["currency"]),
        )
        for row in deals
    ]
    table(
        out,
        ("status", "deals", "amount", "adjusted since"),
        rows,
        right=("deals", "amount", "adjusted since"),
    )


def _show_credit(out: Console, credit: Rows) -> None:
    """Channels and currencies down, models across."""
    section(out, "Credit by channel, adjustments and reversals included (a convention, not causal lift)")
    models = list(dict.fromkeys(row["model"] for row in credit))
    amounts = {
        (row["currency"], row["channel"], row["model"]): money(row["amount_minor"], row["currency"])
        for row in credit
    }
    lines = sorted({(row["currency"], row["channel"]) for row in credit})
    rows = [
        (channel, *(amounts.get((currency, channel, model), "") for model in models))
        for currency, channel in lines
    ]
    table(out, ("channel", *models), rows, right=models)
