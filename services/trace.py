"""Which event made a value what it is.

Promises: the history is folded event by event, and after each event the rows are compared with those before;
so what is found holds for whatever the projections compute. Leaves reading the history to the caller.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from projections import credit, fault, journey
from projections.history import History
from projections.journey import JourneyState
from projections.rules import Rules
from schemas.records import order_key
from services.effects import Change, Key, credited, effects_of

KeyedRows = dict[tuple[str, Key], dict[str, object]]
"""Table and key to the row, by column."""


@dataclass
class Trace:
    """What each event changed: the event of every value by (table, key) and column, effects in words; and
    what all of them come to."""

    sources: dict[tuple[str, Key], dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    effects: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    faulty: set[str] = field(default_factory=set)
    rows: KeyedRows = field(default_factory=dict)
    """After the last event."""

    def note(self, event_id: str, changes: Sequence[Change]) -> None:
        """The event made these changes."""
        for change in changes:
            known = self.sources[change.table, change.key]
            known.update(dict.fromkeys(change.columns, event_id))
            if change.table == "fault":
                self.faulty.add(event_id)
        self.effects[event_id] += effects_of(changes)


def trace(history: History, rules: Rules) -> Trace:
    """Folds a history event by event and notes what each event changed in the rows."""
    found = Trace()
    _note_faults(found, history)
    state = journey.fold(History(history.journey_id, [], history.faults, []), rules)
    rows = keyed(state, rules)
    for event in history.events:
        outline, shares = _outline(state), _shares(state)
        journey.step(state, event, rules)
        is_same = _outline(state) == outline
        after = _lead_row(state, rules) if is_same else keyed(state, rules)
        found.note(event.event_id, list(changes(rows, after)))
        found.effects[event.event_id] += _credited(state, shares)
        if is_same:
            rows.update(after)
        else:
            rows = after
    if history.erased and history.events:
        first = min(history.erased, key=order_key)
        erased = keyed(journey.fold(history, rules), rules)
        found.note(first.event_id, list(changes(rows, erased)))
        rows = erased
    found.rows = rows
    return found


def _note_faults(found: Trace, history: History) -> None:
    """Faults of events that are no part of the fold."""
    for event, copy_no, found_fault in history.faults:
        if copy_no == 1:
            found.faulty.add(event.event_id)
            found.effects[event.event_id].append(f"no effect: {found_fault.code}, {found_fault.message}")


EXPLAINED = tuple((table, rows_of) for table, rows_of in journey.PROJECTIONS if table != credit.TABLE)
"""Credit is left out: its rows name their event, and in a long journey they are many."""
_LEAD_TABLE, _lead_rows = journey.PROJECTIONS[0]


def keyed(state: JourneyState, rules: Rules) -> KeyedRows:
    """The rows of a state."""
    shown = EXPLAINED if state.event_count else ((fault.TABLE, fault.rows),)
    return {
        (table.name, key): values
        for table, rows_of in shown
        for key, values in _named(table.columns, table.key, rows_of(state, rules))
    }


def _outline(state: JourneyState) -> bytes:
    """What every table but lead_state is made of: equal outlines make equal rows. Cheap in long journeys."""
    return msgspec.msgpack.encode((state.stages, state.handoffs, state.clocks, state.deals, state.faults))


def _shares(state: JourneyState) -> list[int]:
    """How often each win was credited: for itself, an adjustment, a reversal."""
    return [len(win.shares) for win in state.wins]


def _credited(state: JourneyState, before: Sequence[int]) -> list[str]:
    """What was credited since."""
    known = [*before, *[0] * (len(state.wins) - len(before))]
    return [
        credited(share.kind, win.opportunity_id, [touch.touch_event_id for touch in win.path])
        for win, count in zip(state.wins, known, strict=True)
        for share in win.shares[count:]
    ]


def _lead_row(state: JourneyState, rules: Rules) -> KeyedRows:
    if not state.event_count:
        return {}
    rows = _named(_LEAD_TABLE.columns, _LEAD_TABLE.key, _lead_rows(state, rules))
    return {(_LEAD_TABLE.name, key): values for key, values in rows}


def _named(
    columns: Sequence[str], key: Sequence[str], rows: Iterable[Sequence[object]]
) -> Iterable[tuple[Key, dict[str, object]]]:
    for row in rows:
        values = dict(zip(columns, row, strict=True))
        yield tuple(values[name] for name in key), values


def changes(before: KeyedRows, after: KeyedRows) -> Iterable[Change]:
    """What differs, row by row, in the order of the tables."""
    for (table, key), new in after.items():
        old = before.get((table, key))
        if old != new:
            differing = {name: value for name, value in new.items() if old is None or old[name] != value}
            yield Change(table, key, old, new, differing)
