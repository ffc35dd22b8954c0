"""Definitions as the two teams decide on them: proposed, approved, scheduled, and where each stands.

Promises: a decision is a fact on `lead.reference` with who, when and why, and done only when the projector
has taken it; what cannot be is refused with the reason before anything is published. Leaves what the facts
come to to `projections.agreement`, and activations that restate the past to the promotion of a replay.
"""

import asyncio
import getpass
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from projections import definition
from projections.agreement import facts
from projections.agreement.diff import diff
from projections.agreement.standing import (
    Agreement,
    DefinitionFact,
    agreements,
    label,
    schedules,
    why_not,
    why_unreadable,
)
from projections.business_time import zone_rules
from projections.definition import Definition
from schemas.contract import parse, to_json
from schemas.instants import rfc3339
from schemas.records import TOPIC_OF, Actor, Envelope, Micros, Team
from schemas.topics import REFERENCE
from schemas.wire import encode, headers
from services import settings
from services.broker import connected, create_producer, end_offsets
from services.named_instant import instant_in
from services.store.definition_facts import definition_facts
from services.store.pool import Connection
from services.store.timeline import parse_timeline
from services.store.versions import promoted_version

LOOK_AGAIN_SECONDS = 0.1

POSITION = "select next_offset from log.position where topic = 'lead.reference' and partition = 0"


class Refused(RuntimeError):
    """What was asked for cannot be; the message says why, and what can."""


class NoInstant(Refused):
    """What was given as a date or an instant is none."""


class NotTaken(RuntimeError):
    """The projector has not read what is on the topic."""


class Timeline(NamedTuple):
    """The definitions that the promoted version is made with: dates (None = from the beginning) and labels,
    earliest first."""

    entries: Sequence[tuple[Micros | None, str]]
    promoted_at: Micros

    def at(self, instant: Micros) -> str:
        """What counts at an instant; before the first date the first."""
        past = (name for start, name in reversed(self.entries) if start is None or start <= instant)
        return next(past, self.entries[0][1])


class Standing(NamedTuple):
    """Where a version stands: proposed, approved, scheduled, in force, was in force, refused.

    `since` is when it is or was in force from, where that is known; `notes` say what had no effect, and why;
    `replaced` holds activations by event id, and the version that was scheduled later for their date.
    """

    agreement: Agreement
    status: str
    since: Micros | None
    notes: list[str]
    replaced: dict[str, str]


def person(name: str | None) -> Actor:
    """Who decides: the name given, else the user of this machine. Raises Refused if it has none."""
    try:
        return Actor("human", name or getpass.getuser())
    except (KeyError, OSError) as error:
        raise Refused("this machine does not know who you are: say so with --by NAME") from error


def now() -> Micros:
    """The instant of this moment."""
    return time.time_ns() // 1000


async def publish(bootstrap: str, said: Sequence[Envelope]) -> None:
    """Puts facts on their topic; returns when the broker has them."""
    async with connected(create_producer(bootstrap), bootstrap) as producer:
        for fact in said:
            topic, key = TOPIC_OF[type(fact).__name__], fact.subject_id.encode()
            await producer.send_and_wait(topic, encode(fact), key=key, headers=headers(fact))


class Desk:
    """Where decisions are made: the log as Postgres has it, and the topic."""

    def __init__(self, connection: Connection, bootstrap: str) -> None:
        self._connection = connection
        self._bootstrap = bootstrap

    async def propose(self, agreed: Definition, rationale: str, by: Actor) -> Agreement:
        """A version is proposed; again with the same content changes nothing. Raises Refused."""
        everything = await self._agreements()
        known = everything.get(agreed.label)
        if known is None or not known.proposals:
            await self._check_personal(agreed, everything.values())
            return await self._say(facts.proposed(agreed, rationale or agreed.rationale, by, now()))
        if known.proposals[0].body != agreed.text:
            raise Refused(_other_content(agreed, known))
        return known

    async def _check_personal(self, agreed: Definition, known: Iterable[Agreement]) -> None:
        """What any version calls personal is overwritten at an erasure, so that no rule may read it."""
        proposed = [each.proposals[0].body for each in known if each.proposals]
        others = [definition.parse(body) for body in proposed if not why_unreadable(body)]
        personal = {name: each.label for each in others for name in each.personal}
        if overwritten := sorted(agreed.predicate_attributes & personal.keys()):
            raise Refused(
                f"a rule of {agreed.label} reads {overwritten[0]}, which {personal[overwritten[0]]} calls "
                "personal: an erasure overwrites it, and would change what the rule says"
            )
        read = {name: each.label for each in await self._kept() for name in each.predicate_attributes}
        if needed := sorted(agreed.personal & read.keys()):
            raise Refused(
                f"{agreed.label} calls {needed[0]} personal, which a rule of {read[needed[0]]} reads: an "
                "erasure would change what that says. Promote a definition without the rule first, and "
                "`leadlog replay retire` the versions that have it"
            )

    async def _kept(self) -> list[Definition]:
        """The definitions of every version that is kept."""
        rows = await self._connection.fetch("select timeline from ops.version where status <> 'retired'")
        timelines = [parse_timeline(row["timeline"]) for row in rows]
        bodies = [entry.body for timeline in timelines for entry in timeline]
        return [definition.parse(body) for body in bodies if not why_unreadable(body)]

    async def approve(self, definition_id: str, version: int, team: Team, by: Actor) -> Agreement:
        """A team agrees; again changes nothing. Raises Refused."""
        known = await self._readable(definition_id, version)
        if team in known.approvals:
            return known
        agreed = definition.parse(known.proposals[0].body)
        await self._check_personal(agreed, (await self._agreements()).values())
        return await self._say(facts.approved(definition_id, version, team, by, now()))

    async def schedule(self, definition_id: str, version: int, day: str, by: Actor) -> Agreement:
        """A version counts from a date or instant in the future on. Raises Refused."""
        known = await self._readable(definition_id, version)
        valid_from = start_of(day, definition.parse(known.proposals[0].body))
        await self._check_schedule(known, valid_from)
        fact = facts.activated(definition_id, version, valid_from, by, now())
        known = await self._say(fact)
        if (await read_timeline(self._connection)).at(valid_from) != known.label:
            raise Refused(f"{known.label} was not taken up: {why_not(known, fact) or 'another one was'}")
        return known

    async def _check_schedule(self, known: Agreement, valid_from: Micros) -> None:
        when = rfc3339(valid_from)
        if known.missing:
            raise Refused(
                f"{known.label} lacks {' and '.join(known.missing)}: nothing takes effect without both. "
                f"`leadlog definition approve {known.definition_id} {known.version} --as TEAM`"
            )
        if valid_from <= now():
            raise Refused(
                f"{when} is not in the future: what counts in the past too takes a replay "
                "(`leadlog replay run`), which shows what would change before anything does"
            )
        if (await read_timeline(self._connection)).at(valid_from) == known.label:
            raise Refused(f"{known.label} counts at {when} already: there is nothing to schedule")

    async def _readable(self, definition_id: str, version: int) -> Agreement:
        """A version that was proposed and that this release can read."""
        name = label(definition_id, version)
        known = (await self._agreements()).get(name)
        if known is None or not known.proposals:
            raise Refused(f"no {name} was proposed: `leadlog definition list` shows what there is")
        if reason := why_unreadable(known.proposals[0].body):
            raise Refused(f"{name} cannot take effect: {reason}")
        return known

    async def _say(self, fact: DefinitionFact) -> Agreement:
        """Publishes a fact, waits until it is taken, and makes sure that it counts."""
        parse(to_json(fact), now=fact.recorded_at, may_import=True)
        await publish(self._bootstrap, [fact])
        known = (await self._agreements())[label(fact.definition_id, fact.version)]
        counting = [*known.proposals[:1], *known.approvals.values(), *known.activations]
        if fact not in counting:
            raise Refused(f"somebody else has decided on {known.label} at this moment: look at it again")
        return known

    async def _agreements(self) -> dict[str, Agreement]:
        """What is on the topic now, once the projector has taken all of it. Raises NotTaken."""
        end = (await end_offsets(self._bootstrap, [REFERENCE]))[REFERENCE, 0]
        deadline = time.monotonic() + settings.DECISION_SECONDS
        while (await self._connection.fetchval(POSITION) or 0) < end:
            if time.monotonic() > deadline:
                raise NotTaken(
                    f"the projector has not read {REFERENCE} up to offset {end} within "
                    f"{settings.DECISION_SECONDS} s: is it running? `leadlog status` tells. What was "
                    "published stays on the topic and counts once it is read"
                )
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return agreements(await definition_facts(self._connection))


def _other_content(agreed: Definition, known: Agreement) -> str:
    first = known.proposals[0]
    said = (
        f"{known.label} was proposed by {name_of(first)} at {rfc3339(first.recorded_at)} with other content"
    )
    unreadable = why_unreadable(first.body)
    found = [] if unreadable else diff(definition.parse(first.body), agreed)
    told = "; ".join(change.sentence for change in found) or "the text differs"
    return f"{said} ({told}). What was proposed stays as it is: raise `version` and propose that"


def start_of(day: str, agreed: Definition) -> Micros:
    """The instant that a text names, in the zone of the definition's calendar where it has no offset.
    Raises NoInstant."""
    try:
        return instant_in(day, zone_rules(agreed.calendars[agreed.calendar].zone))
    except ValueError as error:
        raise NoInstant(str(error)) from error


def name_of(fact: Envelope) -> str:
    """Who it was."""
    return fact.actor.id or fact.actor.kind


async def read_timeline(connection: Connection) -> Timeline:
    """The promoted version's. Raises NothingPromoted."""
    promoted = await promoted_version(connection)
    starts = [entry.valid_from for entry in promoted.timeline]
    return Timeline(list(zip(starts, promoted.label.split("+"), strict=True)), promoted.promoted_at)


async def read_standings(connection: Connection) -> list[Standing]:
    """Every version ever named, in the order of its name; as Postgres has it now.

    Raises NothingPromoted.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        timeline = await read_timeline(connection)
        built = {row["event_id"] for row in await connection.fetch("select event_id from ops.activation")}
        said = await definition_facts(connection)
    dates = {date: each.label for date, each in schedules(said).items()}
    ordered = sorted(agreements(said).values(), key=lambda each: (each.definition_id, each.version))
    return [standing(each, timeline, built, now(), dates) for each in ordered]


def standing(
    known: Agreement,
    timeline: Timeline,
    built: Collection[str],
    at: Micros,
    dates: Mapping[Micros, str] = MappingProxyType({}),
) -> Standing:
    """Where a version stands at an instant; `built` are the activations that a switch of versions wrote,
    `dates` say which version counts from a date on."""
    status, since = _status(known, timeline, built, at)
    return Standing(known, status, since, _notes(known, built), _replaced(known, dates))


def _status(
    known: Agreement, timeline: Timeline, built: Collection[str], at: Micros
) -> tuple[str, Micros | None]:
    starts = [start for start, name in timeline.entries if name == known.label]
    coming = [start for start in starts if start is not None and start > at]
    if timeline.at(at) == known.label:
        past = [start for start in starts if start is not None and start <= at]
        return "in force", max([timeline.promoted_at, *past])
    if coming:
        return "scheduled", min(coming)
    done = [each for each in known.activations if each.event_id in built]
    if len(starts) > len(coming) or done:
        return "was in force", None
    if not known.proposals or why_unreadable(known.proposals[0].body):
        return "refused", None
    return ("proposed" if known.missing else "approved"), None


def _replaced(known: Agreement, dates: Mapping[Micros, str]) -> dict[str, str]:
    return {
        each.event_id: other
        for each in known.activations
        if each.valid_from is not None
        and (other := dates.get(each.valid_from, known.label)) != known.label
        and why_not(known, each) is None
    }


def _notes(known: Agreement, built: Collection[str]) -> list[str]:
    if not known.proposals:
        return ["decided on, but never proposed"]
    unreadable = why_unreadable(known.proposals[0].body)
    notes = [unreadable] if unreadable else []
    notes += [f"{each.event_id} has no effect: other content than the first" for each in known.refused]
    for each in known.activations:
        if each.event_id in built:
            continue
        if each.valid_from is None:
            notes.append(f"{each.event_id} has no effect (not_built): no replay was promoted with it")
        elif reason := why_not(known, each):
            notes.append(f"{each.event_id} has no effect: {reason}")
    return notes
