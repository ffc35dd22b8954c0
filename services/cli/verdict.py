"""How `leadlog replay verify` and `status` show what a verification found."""

from collections.abc import Iterator
from typing import Any

import click

from schemas.instants import rfc3339
from services.cli.layout import plain
from services.replay.verify import Outcome, Verdict, Wrong
from services.wording import instant, legible

NEXT = (
    "`leadlog lead ID` shows a lead, also by the id of one of its events; "
    "infra/runbooks/verification-differs.md says what to do"
)


def show(found: Verdict) -> None:
    """Prints every difference that is known, and the outcome."""
    rows, states = found.differences
    for row in rows:
        click.echo(legible(f"{row.table} {' '.join(map(str, row.key))}: {_said(row)}"))
    for journey_id in states:
        told = f"{journey_id}: its folded state differs: later events would go on from a wrong one"
        click.echo(legible(told))
    more = found.rows_differing - len(rows) + found.states_differing - len(states)
    if more:
        click.echo(f"and {more:,} more: `leadlog replay verify` shows all")
    click.echo(_outcome(found))
    if not found.is_equal:
        click.echo(NEXT)


def line(last: Outcome | None) -> str:
    """The verification that finished last, in one line."""
    if last is None:
        return "never verified"
    at = instant(last.finished_at)
    hint = "" if last.verdict.is_equal else "; `leadlog replay verify --show` shows them"
    return f"version {last.version_no} verified {at}: {_outcome(last.verdict)}{hint}"


def as_object(last: Outcome | None) -> dict[str, Any] | None:
    """The same as plain values."""
    if last is None:
        return None
    *counts, _ = last.verdict
    return {
        "version": last.version_no,
        "finished_at": rfc3339(last.finished_at),
        "seconds": last.seconds,
        "is_equal": last.verdict.is_equal,
        **dict(zip(Verdict._fields, counts, strict=False)),
    }


def _outcome(found: Verdict) -> str:
    left_out = f"; {found.left_out:,} moved meanwhile, or were behind or parked" if found.left_out else ""
    if found.is_equal:
        return f"equal: {found.journeys:,} leads{left_out}"
    return (
        f"{found.rows_differing:,} rows and {found.states_differing:,} folded states differ: "
        f"{found.journeys:,} leads{left_out}"
    )


def _said(row: Wrong) -> str:
    """What is wrong with a row, and since when."""
    if row.after is None:
        named = f"see event {row.event_id}" if row.event_id else "no event of the log makes it"
        return f"BI reads it, the topics do not say it ({named})"
    if row.before is None:
        return f"BI lacks it ({_since(row)})"
    return f"{'; '.join(_columns(row))} ({_since(row)})"


def _since(row: Wrong) -> str:
    return f"since event {row.event_id}" if row.event_id else "no event of the log says so"


def _columns(row: Wrong) -> Iterator[str]:
    assert row.before is not None
    assert row.after is not None
    for name in row.columns:
        was, should = (_value(name, values[name]) for values in (row.before, row.after))
        yield f"{name} is {was}, the topics say {should}"


def _value(name: str, value: object) -> object:
    return "nothing" if value is None else plain(name, value)
