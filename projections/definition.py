"""A definition: what both teams agreed on, read from YAML and compiled into one immutable object.

Promises: `parse` either gives a Definition on which nothing can fail later, or every fault of the file at
once, each with its line, path, value and what was expected. Leaves evaluation over time to the stage machine
and the clocks, and which definition is in force when to `projections.rules`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import get_args

from projections.attribution import CUSTOM_SHARES, DEFAULT_HALF_LIFE, DEFAULT_MODEL_IDS, MODEL_IDS, Model
from projections.business_time import DAY, WEEKDAYS, Calendar, day_of, window_of, zone_rules
from projections.predicate import (
    DIRECTIONS,
    TOUCH_KEYS,
    TOUCH_TYPES,
    Predicate,
    PredicateReader,
    TouchFilter,
    TouchPredicate,
    Values,
    read_touch_filter,
)
from projections.roles import RANK, ROLES
from projections.sla_policy import Policy, read_policies
from projections.yaml_tree import Fault, Node, Reading, read
from schemas.records import CampaignExposed, ExposureType, TouchRecorded, Utm

EXPOSURE_TYPES: tuple[str, ...] = get_args(ExposureType)
NO_UTM = Utm()


DEFAULT_REASONS = (
    "bad_contact_data",
    "duplicate",
    "competitor",
    "student",
    "no_need",
    "no_budget",
    "no_authority",
    "bad_timing",
    "wrong_territory",
    "already_customer",
    "already_engaged",
    "other",
)
DEFAULT_LOOKBACK = 365 * DAY
"""A year: long enough for most deals between companies."""
ROUND_THE_CLOCK_ID = "round_the_clock"
"""Calendar of visits where the file names none and does not have exactly one: always open, UTC."""
ENTER_ROLES = ("known", "engaged", "mql")
"""Roles that a rule may enter: above mql people decide, and the lowest stage is entered by the first
event."""
MAX_POINTS = 10**9
_NEEDED_ROLES = ("mql", "sql", "won")
_NEEDED_SECTIONS = ("definition_id", "version", "stages")
_OPTIONAL_SECTIONS = (
    *("rationale", "calendar", "scoring", "handoff", "calendars", "sla", "channels", "attribution"),
    "personal",
)
_MATCH_KEYS = ("channel", "touch_type", "direction", "campaign_id")
_UTM_KEYS = ("utm_source", "utm_medium", "utm_campaign")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: the tenant's name, the fixed role, and the rule that enters it, if any (known, engaged, mql
    only)."""

    name: str
    role: str
    enter: Predicate | None = None


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """Points for a touch of the filter, counted for `expires_after` microseconds inclusive (None = for
    ever)."""

    filter: TouchFilter
    points: int
    expires_after: int | None


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """Touches that meet every condition are of `channel`, whatever was sent. A missing field meets no
    condition."""

    channel: str
    match: TouchFilter
    utm_source: Values = None
    utm_medium: Values = None
    utm_campaign: Values = None

    def matches(self, event: TouchRecorded | CampaignExposed) -> bool:
        """Whether the rule classifies the event; an exposure meets no condition on touch type, direction or
        utm."""
        if isinstance(event, CampaignExposed):
            return self._matches_exposure(event)
        return self.match.matches(event, event.channel) and self._matches_utm(event.utm)

    def _matches_exposure(self, event: CampaignExposed) -> bool:
        asked, touch_only = self.match, (self.match.touch_type, self.match.direction)
        return (
            touch_only == (None, None)
            and self._matches_utm(None)
            and (asked.channel is None or event.channel in asked.channel)
            and (asked.campaign_id is None or event.campaign_id in asked.campaign_id)
        )

    def _matches_utm(self, utm: Utm | None) -> bool:
        sent = NO_UTM if utm is None else utm
        return (
            (self.utm_source is None or sent.source in self.utm_source)
            and (self.utm_medium is None or sent.medium in self.utm_medium)
            and (self.utm_campaign is None or sent.campaign in self.utm_campaign)
        )


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which touches share a deal, and by which models. `lookback` in microseconds, inclusive."""

    lookback: int
    touches: TouchFilter
    exposures: frozenset[str]
    models: tuple[Model, ...]

    def counts(self, event: TouchRecorded | CampaignExposed) -> bool:
        """Whether the event may get credit at all, its age apart."""
        if isinstance(event, CampaignExposed):
            return event.exposure_type in self.exposures
        return self.touches.matches(event, event.channel)


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A compiled definition; compared by identity.

    `calendar` names the calendar of visits, always a key of `calendars`. `touch_predicates` are those of all
    stages and policies, each at its index. `predicate_attributes` are the attribute names that any predicate
    reads.
    """

    definition_id: str
    version: int
    rationale: str
    text: str = field(repr=False)  # as given
    root: Node = field(repr=False)  # the same as a tree, with lines
    stages: tuple[Stage, ...]
    scoring: tuple[ScoreLine, ...]
    reject_reasons: frozenset[str]
    calendars: Mapping[str, Calendar]
    calendar: str
    policies: tuple[Policy, ...]
    channels: tuple[ChannelRule, ...]
    attribution: Attribution
    personal: frozenset[str]
    touch_predicates: tuple[TouchPredicate, ...]
    predicate_attributes: frozenset[str]
    label: str
    by_role: Mapping[str, Stage]
    by_name: Mapping[str, Stage]

    def channel_of(self, event: TouchRecorded | CampaignExposed) -> str:
        """The channel after the channel rules: that of the first rule that matches, else as sent."""
        for rule in self.channels:
            if rule.matches(event):
                return rule.channel
        return event.channel

    def points_of(self, touch: TouchRecorded, channel: str) -> ScoreLine | None:
        """The first scoring line that matches the touch, seen on `channel` after the channel rules."""
        for line in self.scoring:
            if line.filter.matches(touch, channel):
                return line
        return None


class DefinitionFaults(ValueError):
    """A definition file with faults: all of them, ordered by line."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))


def parse(text: str) -> Definition:
    """Reads a definition file. Raises DefinitionFaults with every fault of the file."""
    reading = Reading()
    root = read(text, reading)
    definition = _definition(text, root, reading) if root is not None else None
    if definition is None or reading.faults:
        raise DefinitionFaults(reading.faults)
    return definition


def _definition(text: str, root: Node, reading: Reading) -> Definition:
    """The definition at the root; means nothing where it left faults in `reading`."""
    given = reading.sections(root, _NEEDED_SECTIONS, _OPTIONAL_SECTIONS)
    personal = reading.names(given["personal"]) if "personal" in given else frozenset()
    predicates = PredicateReader(reading, personal)
    stages = _stages(reading, given.get("stages"), predicates)
    roles = {stage.role for stage in stages}
    calendars = _calendars(reading, given.get("calendars"))
    policies = read_policies(reading, given.get("sla"), roles, calendars, predicates)
    definition_id = _definition_id(reading, given.get("definition_id"))
    version = reading.integer(given.get("version"), 1, 2**31 - 1)
    calendar = _visits_calendar(reading, given.get("calendar"), calendars)
    return Definition(
        definition_id=definition_id,
        version=version,
        rationale=reading.text(given.get("rationale")),
        text=text,
        root=root,
        stages=stages,
        scoring=_scoring(reading, given.get("scoring")),
        reject_reasons=_reject_reasons(reading, given.get("handoff")),
        calendars=_compiled(calendars, calendar),
        calendar=calendar,
        policies=policies,
        channels=_channel_rules(reading, given.get("channels")),
        attribution=_attribution(reading, given.get("attribution")),
        personal=personal,
        touch_predicates=tuple(predicates.touches),
        predicate_attributes=frozenset(predicates.attributes),
        label=f"{definition_id}@{version}",
        by_role={stage.role: stage for stage in stages},
        by_name={stage.name: stage for stage in stages},
    )


def _definition_id(reading: Reading, node: Node | None) -> str:
    found = reading.text(node)
    if node is not None and isinstance(node.value, str) and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", found):
        reading.fault(node, "1 to 100 of the characters A-Z a-z 0-9 . _ -")
    return found


def _stages(reading: Reading, node: Node | None, predicates: PredicateReader) -> tuple[Stage, ...]:
    given = [reading.fields(item, ("name", "role"), ("enter",)) for item in reading.some(node)]
    stages = tuple(_stage(reading, fields, predicates) for fields in given)
    roles = [fields.get("role") for fields in given]
    names = [fields.get("name") for fields in given]
    reading.unique(zip(names, (stage.name for stage in stages), strict=True), "a name")
    reading.unique(zip(roles, (stage.role for stage in stages), strict=True), "a role")
    _check_order(reading, [(node, stage.role) for node, stage in zip(roles, stages, strict=True)])
    if node is not None and stages and all(stage.role for stage in stages):
        _check_needed(reading, node, {stage.role for stage in stages})
    return stages


def _stage(reading: Reading, given: Mapping[str, Node], predicates: PredicateReader) -> Stage:
    role = reading.choice(given.get("role"), ROLES)
    enter = given.get("enter")
    if enter is not None and role and role not in ENTER_ROLES:
        reading.fault(enter, f"no rule here: only {', '.join(ENTER_ROLES)} are entered by rule")
    return Stage(
        name=reading.name(given.get("name")),
        role=role,
        enter=predicates.read(enter) if enter is not None else None,
    )


def _check_order(reading: Reading, roles: Iterable[tuple[Node | None, str]]) -> None:
    """Success stages in role order, then detours in any order."""
    highest, detour = "", ""
    for node, role in roles:
        if node is None or not role:
            continue
        if role not in RANK:
            detour = role
        elif detour:
            reading.fault(node, f"success stages before detours, {detour} stands above")
        elif highest and RANK[role] < RANK[highest]:
            reading.fault(node, f"success stages in role order: {role} before {highest}")
        else:
            highest = role


def _check_needed(reading: Reading, node: Node, roles: set[str]) -> None:
    missing = [role for role in _NEEDED_ROLES if role not in roles]
    if not roles & {"anonymous", "known"}:
        missing.insert(0, "anonymous or known")
    for role in missing:
        reading.fault(node, f"a stage of role {role}", "no such stage")


def _scoring(reading: Reading, node: Node | None) -> tuple[ScoreLine, ...]:
    return tuple(_score_line(reading, item) for item in reading.items(node))


def _score_line(reading: Reading, node: Node) -> ScoreLine:
    given = reading.fields(node, ("points",), (*TOUCH_KEYS, "expires_after"))
    return ScoreLine(
        filter=read_touch_filter(reading, given),
        points=reading.integer(given.get("points"), -MAX_POINTS, MAX_POINTS),
        expires_after=reading.duration(given["expires_after"]) if "expires_after" in given else None,
    )


def _reject_reasons(reading: Reading, node: Node | None) -> frozenset[str]:
    given = reading.sections(node, (), ("reject_reasons",)).get("reject_reasons")
    if given is None:
        return frozenset(DEFAULT_REASONS)
    nodes = reading.some(given)
    names = [reading.name(item) for item in nodes]
    reading.unique(zip(nodes, names, strict=True), "a reason")
    return frozenset(names)


def _calendars(reading: Reading, node: Node | None) -> dict[str, Calendar | None]:
    """Every calendar by its id; made only while the file has no faults, None otherwise."""
    found: dict[str, Calendar | None] = {}
    for calendar_id, item in reading.mapping(node).items():
        reading.check_name(item, calendar_id)
        zone, weekly, holidays = _calendar_parts(reading, item)
        found[calendar_id] = None if reading.faults else Calendar(calendar_id, zone, weekly, holidays)
    return found


def _calendar_parts(reading: Reading, node: Node) -> tuple[str, dict[str, list[list[str]]], list[str]]:
    given = reading.sections(node, ("zone", "weekly"), ("holidays",))
    zone = reading.checked(given.get("zone"), zone_rules)
    before = len(reading.faults)
    days = reading.sections(given.get("weekly"), (), WEEKDAYS)
    weekly = {
        day: [_window(reading, item) for item in reading.items(windows)] for day, windows in days.items()
    }
    if "weekly" in given and not any(weekly.values()) and len(reading.faults) == before:
        reading.fault(given["weekly"], "at least one window a week", "a calendar that never opens")
    holidays = reading.items(given.get("holidays"))
    return zone, weekly, [reading.checked(item, day_of) for item in holidays]


def _window(reading: Reading, node: Node) -> list[str]:
    nodes = reading.items(node)
    times = [reading.text(item) for item in nodes]
    if isinstance(node.value, list) and all(isinstance(item.value, str) for item in nodes):
        try:
            window_of(times)
        except ValueError as error:
            reading.fault(node, str(error), str(times))
    return times


def _visits_calendar(reading: Reading, node: Node | None, calendars: Mapping[str, Calendar | None]) -> str:
    if node is not None:
        return reading.choice(node, tuple(calendars))
    return next(iter(calendars)) if len(calendars) == 1 else ROUND_THE_CLOCK_ID


def _compiled(calendars: Mapping[str, Calendar | None], visits: str) -> dict[str, Calendar]:
    found = {calendar_id: calendar for calendar_id, calendar in calendars.items() if calendar is not None}
    if visits == ROUND_THE_CLOCK_ID and visits not in found:
        found[visits] = Calendar(visits, "UTC", {day: [("00:00", "24:00")] for day in WEEKDAYS})
    return found


def _channel_rules(reading: Reading, node: Node | None) -> tuple[ChannelRule, ...]:
    return tuple(_channel_rule(reading, item) for item in reading.items(node))


def _channel_rule(reading: Reading, node: Node) -> ChannelRule:
    given = reading.fields(node, ("match", "channel"))
    match = reading.fields(given.get("match"), (), (*_MATCH_KEYS, *_UTM_KEYS))
    utm = {key: reading.names(match[key]) for key in _UTM_KEYS if key in match}
    return ChannelRule(
        channel=reading.name(given.get("channel")), match=read_touch_filter(reading, match), **utm
    )


def _attribution(reading: Reading, node: Node | None) -> Attribution:
    given = reading.sections(node, (), ("lookback", "touches", "exposures", "models"))
    touches = reading.fields(given.get("touches"), (), ("direction", "touch_type"))
    return Attribution(
        lookback=reading.duration(given["lookback"]) if "lookback" in given else DEFAULT_LOOKBACK,
        touches=TouchFilter(
            direction=reading.choices(touches["direction"], DIRECTIONS)
            if "direction" in touches
            else frozenset({"inbound"}),
            touch_type=reading.choices(touches["touch_type"], TOUCH_TYPES)
            if "touch_type" in touches
            else None,
        ),
        exposures=frozenset(
            reading.choice(item, EXPOSURE_TYPES) for item in reading.items(given.get("exposures"))
        ),
        models=_models(reading, given.get("models")),
    )


def _models(reading: Reading, node: Node | None) -> tuple[Model, ...]:
    if node is None:
        return tuple(Model(model_id, model_id) for model_id in DEFAULT_MODEL_IDS)
    nodes = reading.some(node)
    given = [reading.fields(item, ("id",), ("name", "half_life", "shares")) for item in nodes]
    models = tuple(_model(reading, item, fields) for item, fields in zip(nodes, given, strict=True))
    names = [fields.get("name", fields.get("id")) for fields in given]
    reading.unique(zip(names, (model.name for model in models), strict=True), "a name")
    return models


def _model(reading: Reading, node: Node, given: Mapping[str, Node]) -> Model:
    model_id = _model_id(reading, given.get("id"))
    for key, owner in (("half_life", "decay"), ("shares", "custom")):
        if key in given and model_id and model_id != owner:
            reading.fault(given[key], f"no {key}: only {owner} has one")
    if model_id == "custom" and "shares" not in given:
        reading.fault(node, f"shares of {', '.join(CUSTOM_SHARES)} that sum to 100", "a custom model without")
    return Model(
        model_id=model_id,
        name=reading.name(given["name"]) if "name" in given else model_id,
        half_life=_half_life(reading, given.get("half_life")),
        shares=_shares(reading, given["shares"]) if "shares" in given else (),
    )


def _model_id(reading: Reading, node: Node | None) -> str:
    if node is not None and node.value == "markov":
        reading.fault(node, "a model of a deal: markov is a report per channel")
        return ""
    return reading.choice(node, MODEL_IDS)


def _half_life(reading: Reading, node: Node | None) -> int:
    if node is None:
        return DEFAULT_HALF_LIFE
    found = reading.duration(node)
    if isinstance(node.value, str) and re.fullmatch("0+[smhdw]", node.value):
        reading.fault(node, "a duration of more than 0")
    return found


def _shares(reading: Reading, node: Node) -> tuple[int, ...]:
    """The shares as whole numbers in proportion, in the order of CUSTOM_SHARES."""
    before = len(reading.faults)
    given = reading.fields(node, (), CUSTOM_SHARES)
    shares = [Fraction(reading.number(given.get(key))) for key in CUSTOM_SHARES]
    for key in given:
        if shares[CUSTOM_SHARES.index(key)] < 0:
            reading.fault(given[key], "a share of at least 0")
    if sum(shares) != 100 and len(reading.faults) == before:
        reading.fault(node, "shares that sum to 100", f"a sum of {float(sum(shares)):g}")
    scale = math.lcm(*(share.denominator for share in shares))
    return tuple(int(share * scale) for share in shares)
