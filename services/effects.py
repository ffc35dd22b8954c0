"""What an event did to a lead, in words: one short text for each change of a row that people care about."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from services.wording import money

Key = tuple[object, ...]
"""Values of a row's key columns."""
Values = Mapping[str, Any]


class Change(NamedTuple):
    """A row that an event made or changed; `old` is None for a new one, `columns` holds what differs."""

    table: str
    key: Key
    old: Values | None
    new: Values
    columns: Values


def effects_of(changes: Sequence[Change]) -> list[str]:
    """The changes in words; those that merely follow from others are left out."""
    return [text for change in changes if (say := SENTENCES.get(change.table)) for text in say(change)]


def credited(kind: str, opportunity_id: str, touches: Sequence[str]) -> str:
    """That an amount was shared, and over how many touches; the id '' is none."""
    over = (
        "unattributed"
        if list(touches) == [""]
        else f"{len(touches)} touch{'' if len(touches) == 1 else 'es'}"
    )
    return f"credit of the {kind} of {opportunity_id}: {over}"


def _lead(change: Change) -> Iterable[str]:
    old, new, changed = change.old, change.new, change.columns
    if "stage" in changed:
        yield f"stage {old['stage']} -> {new['stage']}" if old else f"enters {new['stage']}"
    if old and "score" in changed:
        yield f"score {old['score']} -> {new['score']}"
    elif new["score"] and "score" in changed:
        yield f"score {new['score']}"
    if new["owner_id"] and ("owner_id" in changed or "team_id" in changed):
        yield f"owner {new['owner_id']}" + (f" ({new['team_id']})" if new["team_id"] else "")
    if new["flags"] and "flags" in changed:
        yield f"flag {new['flags']}"
    if old is not None and old["handoff_status"] != new["handoff_status"] == "accepted":
        yield "accepted by sales"


def _visit(change: Change) -> Iterable[str]:
    if change.old is None and change.new["is_inferred"]:
        yield f"skipped {change.new['stage']}"


def _handoff(change: Change) -> Iterable[str]:
    name = f"hand-off {change.new['handoff_no']}"
    if change.old is None:
        yield f"{name} opened"
    if change.columns.get("outcome"):
        reason = change.new["reason_code"]
        yield f"{name} {change.new['outcome']}" + (f" ({reason})" if reason else "")


def _clock(change: Change) -> Iterable[str]:
    new = change.new
    name = f"clock {new['policy_id']} {new['clock_no']}"
    if change.old is None:
        yield f"{name} started"
    if new["stopped_at"] is not None and "stopped_at" in change.columns:
        yield f"{name} {_end(new)}"
    elif change.old is not None and "paused_from" in change.columns:
        yield f"{name} {'paused' if new['paused_from'] is not None else 'resumed'}"


def _end(clock: Values) -> str:
    if clock["cancelled_reason"]:
        return f"cancelled ({clock['cancelled_reason']})"
    is_late = clock["due_at"] is not None and clock["stopped_at"] > clock["due_at"]
    return "stopped late" if is_late else "stopped in time"


def _deal(change: Change) -> Iterable[str]:
    new, changed = change.new, change.columns
    name = f"opportunity {new['opportunity_id']}"
    amount = money(new["amount_minor"], new["currency"])
    if "status" in changed:
        yield f"{name} {new['status']}" + (f", {amount}" if amount else "")
    elif amount and ("amount_minor" in changed or "currency" in changed):
        yield f"{name} now {amount}"
    if change.old is not None and "adjusted_minor" in changed:
        yield f"{name} adjusted to {money(new['adjusted_minor'], new['currency'])}"


def _fault(change: Change) -> Iterable[str]:
    yield f"no effect: {change.new['code']}, {change.new['message']}"


SENTENCES: dict[str, Callable[[Change], Iterable[str]]] = {
    "lead_state": _lead,
    "stage_visit": _visit,
    "handoff": _handoff,
    "sla_clock": _clock,
    "opportunity": _deal,
    "fault": _fault,
}
"""Table to what is said about a change of its rows."""
