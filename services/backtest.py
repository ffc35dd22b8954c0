"""What a definition would have made of all history, beside the one in force: counted.

Promises: pure counting of folded journeys, one by one; the counts of any cut of the history add up. Leads
that a candidate hands to sales and the present definition does not were never worked: their outcome is
unknown and not counted as lost; what it may come to is shown as bounds. Leaves reading the history to
`services.backtest_run`, printing to the command.

A lead is a journey; it is handed to sales by a hand-off, a real entry into the MQL stage. A deal counts for a
definition if the lead was handed over by it before the deal was closed.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from projections import journey
from projections.business_time import DAY, EARLIEST, LATEST
from projections.history import History
from projections.journey import JourneyState
from projections.rules import Rules
from projections.state import Deals
from schemas.instants import EPOCH
from schemas.records import Envelope, Micros, SubjectsLinked

PRESENT, CANDIDATE = "present", "candidate"
LATE = DAY
"""A fact recorded longer after it happened was not known when it would have been decided on, microseconds."""
UNCOMPARED = {"definition_version", "message"}
"""Columns that name a definition and decide nothing."""
KEPT = {
    table.name: [place for place, name in enumerate(table.columns) if name not in UNCOMPARED]
    for table in journey.TABLES
}

ADDED, REMOVED, MOVED, OTHERWISE = "new MQL", "no longer MQL", "MQL at another time", "otherwise"
"""How a journey changes."""

Key = tuple[str | int, ...]
"""What is counted: a definition or how it differs, and then what."""


@dataclass
class Tally:
    """Counts so far, and per definition the time from MQL to won of each deal, microseconds."""

    counts: Counter[Key] = field(default_factory=Counter)
    times: dict[str, list[Micros]] = field(default_factory=lambda: {PRESENT: [], CANDIDATE: []})

    def add(self, other: "Tally") -> None:
        """The counts of another part of history too."""
        self.counts.update(other.counts)
        for side, times in other.times.items():
            self.times[side] += times


class Changed(NamedTuple):
    """A journey that is not the same under the candidate; instants of the first MQL in microseconds.

    `tables` are those of the projections in which it has other rows.
    """

    journey_id: str
    change: str
    tables: str
    present_mql_at: Micros | None
    candidate_mql_at: Micros | None
    present_stage: str
    candidate_stage: str
    present_handoff: str
    candidate_handoff: str
    owner_id: str | None
    team_id: str | None
    is_customer: bool


@dataclass(frozen=True)
class Trial:
    """A candidate beside the present rules. `zone` says when a day begins; `uncounted` are (journey, deal) of
    deals that another journey counts."""

    rules: Mapping[str, Rules]
    zone: ZoneInfo
    uncounted: Collection[tuple[str, str]] = ()

    def count(self, history: History, tally: Tally) -> Changed | None:
        """Counts one journey; returns how it changes, if it does."""
        states = {side: journey.fold(history, rules) for side, rules in self.rules.items()}
        timely = [event for event in history.events if not _is_late(event)]
        tally.counts["journeys",] += bool(history.events)
        tally.counts["events",] += len(history.events)
        for side, state in states.items():
            self._count_handoffs(tally, side, state)
            self._count_deals(tally, side, state)
            self._count_clocks(tally, side, state)
            if state.handoffs.all and len(timely) < len(history.events):
                known = journey.fold(msgspec.structs.replace(history, events=timely), self.rules[side])
                tally.counts[side, "late"] += len(_openings(state) - _openings(known))
        _count_leads(tally, states)
        changed = self._changed(history, states)
        if changed:
            tally.counts["changed", changed.change] += 1
            tally.counts.update(("differing", table) for table in changed.tables.split(", "))
        return changed

    def _count_handoffs(self, tally: Tally, side: str, state: JourneyState) -> None:
        for handoff in state.handoffs.all:
            tally.counts[side, "handoffs", handoff.outcome or "open"] += 1
            tally.counts[side, "mqls", f"{self._local(handoff.opened_at):%Y-%m}"] += 1

    def _count_deals(self, tally: Tally, side: str, state: JourneyState) -> None:
        for deal in state.deals.by_id.values():
            closed, is_elsewhere = deal.closed_at, (state.journey_id, deal.opportunity_id) in self.uncounted
            if closed is None or deal.status == "open" or is_elsewhere:
                continue
            before = [each.opened_at for each in state.handoffs.all if each.opened_at <= closed]
            if before:
                tally.counts[side, "deals", deal.status] += 1
            if before and deal.status == "won":
                tally.times[side].append(closed - before[-1])

    def _count_clocks(self, tally: Tally, side: str, state: JourneyState) -> None:
        for clock in (*state.clocks.ended, *state.clocks.running):
            hour = self._local(clock.started_at).hour
            tally.counts[side, "load", clock.team_id or "", clock.policy_id, hour] += 1

    def _local(self, at: Micros) -> datetime:
        inside = min(max(at, EARLIEST + DAY), LATEST - DAY)
        return (EPOCH + timedelta(microseconds=inside)).astimezone(self.zone)

    def _changed(self, history: History, states: Mapping[str, JourneyState]) -> Changed | None:
        present, candidate = (states[side] for side in (PRESENT, CANDIDATE))
        was, now = (_shown(history, states[side], self.rules[side]) for side in (PRESENT, CANDIDATE))
        if was == now:
            return None
        before, after = _first_mql(present), _first_mql(candidate)
        return Changed(
            journey_id=present.journey_id,
            change=_kind(before, after),
            tables=", ".join(table for table in was if was[table] != now[table]),
            present_mql_at=before,
            candidate_mql_at=after,
            present_stage=_stage(present),
            candidate_stage=_stage(candidate),
            present_handoff=present.handoffs.status,
            candidate_handoff=candidate.handoffs.status,
            owner_id=present.lead.owner_id,
            team_id=present.lead.team_id,
            is_customer=_is_won(present.deals),
        )


def _count_leads(tally: Tally, states: Mapping[str, JourneyState]) -> None:
    """Who is handed over, and what came of those whom only one of the two hands over."""
    handed = {side: bool(state.handoffs.all) for side, state in states.items()}
    for side, state in states.items():
        tally.counts[side, "leads"] += handed[side]
        tally.counts[side, "customers"] += handed[side] and _is_won(state.deals)
    present, candidate = states[PRESENT], states[CANDIDATE]
    if handed[CANDIDATE] and not handed[PRESENT]:
        tally.counts["added", "leads"] += 1
        tally.counts["added", "unknown"] += not _is_worked(candidate)
    if handed[PRESENT] and not handed[CANDIDATE]:
        tally.counts["removed", "leads"] += 1
        tally.counts["removed", "accepted"] += _is_accepted(present)
        tally.counts["removed", "customers"] += _is_won(present.deals)


def _is_late(event: Envelope) -> bool:
    """A link says who it was, which decides nothing by itself."""
    return event.recorded_at - event.occurred_at > LATE and not isinstance(event, SubjectsLinked)


def _is_worked(state: JourneyState) -> bool:
    """Whether sales decided on a hand-off, or has or had a deal."""
    outcomes = {handoff.outcome for handoff in state.handoffs.all}
    return bool(outcomes & {"accepted", "rejected"} or state.deals.by_id)


def _is_accepted(state: JourneyState) -> bool:
    return any(handoff.outcome == "accepted" for handoff in state.handoffs.all)


def _is_won(deals: Deals) -> bool:
    return any(deal.status == "won" for deal in deals.by_id.values())


def _openings(state: JourneyState) -> set[str]:
    """The events that handed the lead over."""
    return {handoff.opened_event_id for handoff in state.handoffs.all}


def _first_mql(state: JourneyState) -> Micros | None:
    return state.handoffs.all[0].opened_at if state.handoffs.all else None


def _stage(state: JourneyState) -> str:
    return state.stages.visits[-1].stage if state.stages.visits else ""


def _kind(before: Micros | None, after: Micros | None) -> str:
    if before == after:
        return OTHERWISE
    if before is None:
        return ADDED
    return REMOVED if after is None else MOVED


def _shown(history: History, state: JourneyState, rules: Rules) -> dict[str, frozenset[tuple[object, ...]]]:
    """The rows, those of single events too, without the columns that name the definition."""
    found = journey.rows(state, rules) | journey.event_rows(state.journey_id, history.events, rules)
    return {
        table: frozenset(tuple(row[place] for place in KEPT[table]) for row in rows)
        for table, rows in found.items()
    }


def report(tally: Tally) -> dict[str, Any]:
    """The numbers of a backtest as plain values; the rate of nothing is None."""
    counts = tally.counts
    return {
        "journeys": counts["journeys",],
        "events": counts["events",],
        PRESENT: _side(tally, PRESENT, 0),
        CANDIDATE: _side(tally, CANDIDATE, counts["added", "unknown"]),
        "added": {what: counts["added", what] for what in ("leads", "unknown")},
        "removed": {what: counts["removed", what] for what in ("leads", "accepted", "customers")},
        "changed": {kind: counts["changed", kind] for kind in (ADDED, REMOVED, MOVED, OTHERWISE)},
        "differing": _details(counts, "differing"),
    }


def _side(tally: Tally, side: str, unknown: int) -> dict[str, Any]:
    counts, times = tally.counts, tally.times[side]
    handoffs = _details(counts, side, "handoffs")
    decisions = sum(handoffs.values())
    accepted, rejected = handoffs.get("accepted", 0), handoffs.get("rejected", 0)
    won, lost = (counts[side, "deals", status] for status in ("won", "lost"))
    leads, customers = counts[side, "leads"], counts[side, "customers"]
    return {
        "leads": leads,
        "unknown_share": _rate(unknown, leads),
        "handoffs": handoffs,
        "acceptance": _bounds(accepted, accepted + rejected, unknown),
        "won": won,
        "lost": lost,
        "win_rate": _bounds(won, won + lost, unknown),
        "customers": customers,
        "conversion": _bounds(customers, leads - unknown, unknown),
        "median_days_to_won": statistics.median(times) / DAY if times else None,
        "decisions": decisions,
        "late_decisions": counts[side, "late"],
        "late_share": _rate(counts[side, "late"], decisions),
        "mqls_per_month": _details(counts, side, "mqls"),
        "sla_load": list(_load(counts, side)),
    }


def _bounds(good: int, known: int, unknown: int) -> dict[str, float | None]:
    """A rate of what is known, and what it comes to with the unknown: all lost, or as their peers."""
    return {"if_all_lost": _rate(good, known + unknown), "as_their_peers": _rate(good, known)}


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _details(counts: Counter[Key], *begin: str) -> dict[str, int]:
    """The counts of one kind by their last name, in order."""
    return {str(key[-1]): count for key, count in sorted(_of(counts, *begin))}


def _of(counts: Counter[Key], *begin: str) -> Iterator[tuple[Key, int]]:
    return ((key, count) for key, count in counts.items() if key[: len(begin)] == begin)


def _load(counts: Counter[Key], side: str) -> Iterator[dict[str, Any]]:
    for key, clocks in sorted(_of(counts, side, "load")):
        _, _, team, policy, hour = key
        yield {"team_id": team or None, "policy_id": policy, "hour": hour, "clocks": clocks}
