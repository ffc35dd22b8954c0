"""How `leadlog lead` shows a lead from two sides: the rows that differ, and why, event by event."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from schemas.contract import to_json
from schemas.currencies import display
from services.cli.layout import console, plain, section, table
from services.lead_difference import Difference, Differing, Values
from services.wording import instant

MOST_LINES = 60
"""Lines of what differs that are shown: a change of attribution touches hundreds. --json has all."""
NAMES = {
    "lead_state": "lead",
    "lead_money": "money won in",
    "stage_visit": "stage",
    "handoff": "hand-off by",
    "sla_clock": "clock",
    "opportunity": "opportunity",
    "fault": "fault of",
}
"""Table to what people call one of its rows."""
FOLLOWING = {
    *("stage_role", "stage_entered_event_id", "furthest_role", "is_inferred", "left_event_id", "next_stage"),
    *("calendar_seconds", "business_seconds", "business_seconds_used", "last_event_id", "event_count"),
}
"""Columns that follow from others: left out for people, --json has them."""
GISTS: dict[str, tuple[str, ...]] = {
    "stage_visit": ("stage", "entered_at", "left_at"),
    "handoff": ("opened_at", "outcome", "reason_code"),
    "sla_clock": ("started_at", "due_at", "stopped_at", "cancelled_reason"),
    "opportunity": ("status", "closed_at"),
    "fault": ("code",),
    "lead_state": ("stage", "handoff_status", "score"),
    "lead_money": ("won_minor",),
}
"""Table to the columns that tell enough of a row that the other side does not have."""


def as_object(found: Difference) -> dict[str, Any]:
    """The difference as plain values."""
    return {
        "subject_id": found.subject_id,
        "before": {"label": found.labels[0], "journey_id": found.journey_ids[0]},
        "after": {"label": found.labels[1], "journey_id": found.journey_ids[1]},
        "rows": [
            {
                **row._asdict(),
                "before": None if row.before is None else _plain(row.before),
                "after": None if row.after is None else _plain(row.after),
            }
            for row in found.rows
        ],
        "events": [
            {"event": to_json(each.event), "before": each.before, "after": each.after}
            for each in found.events
        ],
    }


def _plain(values: Values) -> dict[str, Any]:
    return {name: plain(name, value) for name, value in values.items()}


def show(found: Difference) -> None:
    """Prints the difference for people."""
    out = console()
    before, after = found.labels
    out.print(f"Lead {found.subject_id}: {before}, and {after}", style="bold", markup=False)
    if found.journey_ids[0] != found.journey_ids[1]:
        was, now = (each or "not known at all" for each in found.journey_ids)
        out.print(f"Its journey: {was}, and {now}", markup=False)
    if not found.rows and not found.events:
        out.print("Nothing differs.")
        return
    _show_rows(out, found)
    _show_events(out, found)


def _show_rows(out: Console, found: Difference) -> None:
    lines = [line for row in found.rows if row.table != "credit" for line in _lines(row)]
    lines += _credit_lines([row for row in found.rows if row.table == "credit"])
    if not lines:
        return
    section(out, "What differs")
    table(out, ("", "", *found.labels, "by event"), lines[:MOST_LINES], wrapped=found.labels)
    if len(lines) > MOST_LINES:
        out.print(f"and {len(lines) - MOST_LINES:,} more lines: --json has all", markup=False)


def _lines(row: Differing) -> Iterator[tuple[str, ...]]:
    """A line for each value that differs, or one for a row that only one side has."""
    name = " ".join([NAMES[row.table], *(part for part in row.key if part)])
    if row.before is None or row.after is None:
        sides = ("" if side is None else _gist(row.table, side) for side in (row.before, row.after))
        source = next(iter(row.sources.values()), "")
        yield (name, "", *sides, source)
        return
    for column, value in row.after.items():
        if column not in FOLLOWING and value != row.before[column]:
            sides = (_cell(column, side) for side in (row.before, row.after))
            yield (name, column, *sides, row.sources.get(column, ""))
            name = ""


def _credit_lines(rows: Sequence[Differing]) -> Iterator[tuple[str, ...]]:
    """Credit that only one side gives for a deal is one line; else a line for each touch and model."""
    causes: dict[tuple[str, ...], list[Differing]] = {}
    for row in rows:
        causes.setdefault(row.key[:3], []).append(row)
    for (deal, kind, event_id), shares in causes.items():
        count = len({row.key[3] for row in shares})
        touches = f"{count} touch{'es' if count != 1 else ''}"
        if all(row.before is None for row in shares):
            yield (f"credit of {deal}", kind, "", touches, event_id)
        elif all(row.after is None for row in shares):
            yield (f"credit of {deal}", kind, touches, "", event_id)
        else:
            yield from (line for row in shares for line in _share(row))


def _share(row: Differing) -> Iterator[tuple[str, ...]]:
    deal, kind, event_id, touch, model = row.key
    sides: list[Values] = [side or {"amount_minor": 0} for side in (row.before, row.after)]
    if sides[0]["amount_minor"] != sides[1]["amount_minor"]:
        amounts = (_cell("amount_minor", side) for side in sides)
        yield (f"credit of {deal} {touch or 'unattributed'}", f"{kind}, {model}", *amounts, event_id)


def _gist(name: str, values: Values) -> str:
    told = ((column, _cell(column, values)) for column in GISTS[name])
    return ", ".join(f"{_label(column)}{value}" for column, value in told if value)


def _label(column: str) -> str:
    return f"{column.removesuffix('_at')} " if column.endswith("_at") else ""


def _cell(column: str, values: Values) -> str:
    value = values.get(column)
    if value is None:
        return ""
    if column.endswith("_minor") and values.get("currency"):
        return display(int(str(value)), str(values["currency"]))
    shown = plain(column, value)
    return instant(shown) if shown is not value else str(value)


def _show_events(out: Console, found: Difference) -> None:
    if not found.events:
        return
    section(out, "Why, event by event (UTC)")
    rows = [
        (
            instant(each.event.occurred_at),
            type(each.event).__name__,
            each.event.event_id,
            each.before,
            each.after,
        )
        for each in found.events
    ]
    table(out, ("occurred", "record", "event", *found.labels), rows, wrapped=found.labels)
