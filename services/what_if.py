"""Another target, calendar or warning, scored on the clocks that there really were.

Promises: starts, stops and pauses stay as they happened; only due and warning instants are worked out anew,
by the code that the projections use. Mechanical: people act otherwise under another target, and this says
nothing of that. Reads the states of the promoted version, changes nothing.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from projections import journey
from projections.business_time import WorkingTime, bounded, due_with_pauses
from projections.definition import DefinitionFaults
from projections.rules import Rules
from projections.sla_policy import Policy
from projections.state import Clock, JourneyState
from projections.yaml_tree import Reading, read
from schemas.records import Micros
from services.store.pool import Connection
from services.store.timeline import TimelineEntry, calendar_facts, rules_of
from services.store.versions import promoted_version

MAY_CHANGE = ("target", "time", "calendar", "warn_at", "max_pause")
"""Of a policy. Who starts and stops a clock decides which clocks there are: that takes a replay."""
NOBODY = "(no team)"
ROWS_AT_ONCE = 500


STATES = """
select state from {schema}.journey where state is not null and journey_id in (
  select journey_id from {schema}.sla_clock
  where policy_id = $1 and started_at >= $2 and started_at < $3
)
"""


class Refused(ValueError):
    """The file asks for what cannot be scored."""


@dataclass
class Score:
    """What came of the clocks of a team: breaches, and alerts (first warnings) in and outside open hours."""

    clocks: int = 0
    breaches: int = 0
    alerts: int = 0
    alerts_at_night: int = 0


@dataclass
class Compared:
    """A team's clocks as they were and as they would have been."""

    before: Score = field(default_factory=Score)
    after: Score = field(default_factory=Score)
    avoided: int = 0
    """Breaches that there would not have been."""
    added: int = 0


class Measured(NamedTuple):
    """A clock under one policy."""

    alert_at: Micros | None
    """The instant of its first warning, or of its breach without one, if it still ran then."""
    is_breached: bool


class Scale(NamedTuple):
    """A policy and the time that it is measured in."""

    policy: Policy
    time: WorkingTime


class WhatIf(NamedTuple):
    """A proposal, ready to be scored."""

    schema: str
    policy_id: str
    before: Rules
    after: Rules


async def prepare(connection: Connection, text: str) -> WhatIf:
    """Reads a fragment of a definition: one policy under `sla`, calendars if need be.

    Raises Refused, NothingPromoted, and DefinitionFaults of the whole definition with the fragment in it.
    """
    promoted = await promoted_version(connection)
    timeline = promoted.timeline
    facts = await calendar_facts(connection)
    policy_id, body = merged(timeline[-1].body, text)
    changed = [*timeline[:-1], TimelineEntry(timeline[-1].valid_from, body)]
    return WhatIf(promoted.schema_name, policy_id, rules_of(timeline, facts), rules_of(changed, facts))


def merged(body: str, text: str) -> tuple[str, str]:
    """The policy that the fragment changes, and the definition with it. Raises Refused, DefinitionFaults."""
    policy_id, names = _asked(text)
    present, fragment = yaml.safe_load(body), yaml.safe_load(text)
    policies = {policy["id"]: policy for policy in present.get("sla") or ()}
    if policy_id not in policies:
        raise Refused(f"there is no policy {policy_id!r}: expected one of {', '.join(policies)}")
    if others := names - {"id", *MAY_CHANGE}:
        raise Refused(
            f"{', '.join(sorted(map(str, others)))} cannot be scored, only {', '.join(MAY_CHANGE)}: "
            "another start, stop or filter has other clocks, which takes a replay"
        )
    policies[policy_id] |= fragment["sla"][0]
    changed = {
        "sla": list(policies.values()),
        "calendars": (present.get("calendars") or {}) | (fragment.get("calendars") or {}),
    }
    return policy_id, json.dumps(present | changed, default=str)


def _asked(text: str) -> tuple[str, Set[str]]:
    """The id of the one policy of a fragment, and what is said of it. Raises Refused, DefinitionFaults."""
    reading = Reading()
    tree = read(text, reading)
    given = reading.sections(tree, ("sla",), ("calendars",))
    policies = [reading.mapping(policy) for policy in reading.items(given.get("sla"))]
    policy_id = reading.name(policies[0].get("id")) if policies else ""
    reading.mapping(given.get("calendars"))
    if reading.faults:
        raise DefinitionFaults(reading.faults)
    if len(policies) != 1:
        raise Refused("the file must have `sla:` with one policy: its id and what is to change")
    return policy_id, policies[0].keys()


async def score(
    connection: Connection, asked: WhatIf, begin: Micros, end: Micros, now: Micros
) -> dict[str, Compared]:
    """Team to its clocks that started in [begin, end), under both policies as of `now`."""
    found: dict[str, Compared] = defaultdict(Compared)
    was, would_be = _scale(asked.before, asked.policy_id), _scale(asked.after, asked.policy_id)
    hours = _hours(asked.before)
    async for state in _states(connection, asked, begin, end):
        for clock in _ended_or_running(state, asked.policy_id):
            if begin <= clock.started_at < end:
                team = found[clock.team_id or NOBODY]
                _compare(team, measure(clock, was, now), measure(clock, would_be, now), hours)
    return dict(sorted(found.items()))


async def _states(
    connection: Connection, asked: WhatIf, begin: Micros, end: Micros
) -> AsyncIterator[JourneyState]:
    query = STATES.format(schema=asked.schema)
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(query, asked.policy_id, begin, end, prefetch=ROWS_AT_ONCE):
            yield journey.unpack(row["state"])


def _scale(rules: Rules, policy_id: str) -> Scale:
    last = len(rules.definitions) - 1
    policy = rules.policy(last, policy_id)
    return Scale(policy, rules.calendar(policy.calendar, last, None))


def _hours(rules: Rules) -> WorkingTime:
    last = len(rules.definitions) - 1
    return rules.calendar(rules.definitions[last].calendar, last, None)


def _ended_or_running(state: JourneyState, policy_id: str) -> Iterable[Clock]:
    """Without the cancelled ones: they count for nobody."""
    for clock in (*state.clocks.ended, *(() if state.erasure else state.clocks.running)):
        if clock.policy_id == policy_id and (clock.stop is None or clock.stop.cancelled_reason is None):
            yield clock


def measure(clock: Clock, scale: Scale, now: Micros) -> Measured:
    """What becomes of a clock under a policy."""
    pauses = bounded(clock.pauses, scale.policy.max_pause)
    until = clock.stop.at if clock.stop else now

    def at(after: int) -> Micros | None:
        return due_with_pauses(scale.time, clock.started_at, after, pauses)

    due_at = at(scale.policy.target)
    warned_at = at(scale.policy.warnings[0].after) if scale.policy.warnings else due_at
    is_breached = due_at is not None and due_at < until
    return Measured(warned_at if warned_at is not None and warned_at < until else None, is_breached)


def _compare(team: Compared, was: Measured, would_be: Measured, hours: WorkingTime) -> None:
    for result, measured in ((team.before, was), (team.after, would_be)):
        result.clocks += 1
        result.breaches += measured.is_breached
        if measured.alert_at is not None:
            result.alerts += 1
            result.alerts_at_night += not hours.elapsed(measured.alert_at, measured.alert_at + 1)
    team.avoided += was.is_breached and not would_be.is_breached
    team.added += would_be.is_breached and not was.is_breached


def as_json(found: Mapping[str, Compared]) -> dict[str, Any]:
    """For programs."""
    return {
        team: {
            "before": vars(each.before),
            "after": vars(each.after),
            "breaches_avoided": each.avoided,
            "breaches_added": each.added,
        }
        for team, each in found.items()
    }
