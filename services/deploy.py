"""The first start: migrations, topics, schemas, the definition facts, the first projection version.

Promises: safe to run again after a crash at any point, and by several at once; on a log that has a promoted
version only migrations, topics, schemas and the views of `bi` are looked after. Leaves starting processes to
whoever calls.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from projections import definition
from projections.agreement.facts import approved, proposed
from projections.agreement.standing import TEAMS, DefinitionFact
from schemas.records import Actor, Micros
from schemas.topics import REFERENCE
from services.broker import connected, ensure_topics
from services.definitions import publish
from services.registry import Registry
from services.replay.switch import renew
from services.replay.versions import Refused
from services.settings import Addresses
from services.store.definition_facts import record_activations
from services.store.locks import DEPLOYMENT, lead, stop_feeding
from services.store.migrate import migrate
from services.store.pool import Connection, session
from services.store.positions import read_positions
from services.store.timeline import TimelineEntry
from services.store.versions import create_version, is_of_other_release, promote

BY = Actor(kind="system", id="leadlog up")
"""Who agrees to the first definition."""


class AlreadyStarted(RuntimeError):
    """A definition was given, but the log has a promoted version."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"{label} is in force already: put another definition before both teams with "
            "`leadlog definition propose FILE`, then `leadlog replay` brings it into force"
        )


class Deployed(NamedTuple):
    """What a start found or made."""

    migrations: list[str]
    promoted: str
    """Label of the promoted version."""
    is_first: bool
    is_of_other_release: bool
    """This release does not feed it."""


async def deploy(
    addresses: Addresses, migrations: Path, definition_text: str | None, default: str
) -> Deployed:
    """Brings servers to the state that the services need.

    `definition_text` is the YAML of the first definition; None takes `default` when the log is new. Raises
    AlreadyStarted when one is given though a version is promoted, DefinitionFaults, NewerDatabase, Blocked
    when readers keep the views of an earlier release, and Refused on a log that was not rebuilt to its end:
    what is read already would be missing in a first version.
    """
    async with session(addresses.postgres_dsn) as connection:
        await lead(connection, DEPLOYMENT)  # a registry refuses what another deployment is giving it
        applied = await migrate(addresses.postgres_dsn, migrations)
        await ensure_topics(addresses.kafka_bootstrap)
        async with Registry(addresses.registry_url) as registry:
            await registry.deploy()
        label = await promoted_label(connection)
        if label is not None:
            if definition_text is not None:
                raise AlreadyStarted(label)
            await renew(connection)
            return Deployed(applied, label, False, await is_of_other_release(connection))
        if await read_positions(connection):
            raise Refused("`leadlog log rebuild` was interrupted here: run it again, it goes on where it was")
        text = definition_text if definition_text is not None else default
        await publish_definition(addresses, text)
        return Deployed(applied, await first_version(connection, text), True, False)


async def expect_new(dsn: str) -> None:
    """Changes nothing. Raises AlreadyStarted when the log has a promoted version."""
    async with session(dsn) as connection:
        with suppress(asyncpg.UndefinedTableError):  # never deployed
            label = await promoted_label(connection)
            if label is not None:
                raise AlreadyStarted(label)


async def promoted_label(connection: Connection) -> str | None:
    """The definition version that BI reads; None before the first."""
    label: str | None = await connection.fetchval("select label from ops.version where status = 'promoted'")
    return label


async def first_version(connection: Connection, text: str) -> str:
    """Builds and promotes v0001 unless somebody else just has."""
    timeline = [TimelineEntry(None, text)]
    async with connection.transaction():
        await stop_feeding(connection)
        if await promoted_label(connection) is None:
            number = await create_version(connection, timeline)
            await promote(connection, number)
            await record_activations(connection, number, timeline, BY, time.time_ns() // 1000)
    label = await promoted_label(connection)
    assert label is not None
    return label


async def publish_definition(addresses: Addresses, text: str) -> None:
    """Puts the first definition and its approvals on the log, as far as they are not there yet."""
    present = await known_ids(addresses.kafka_bootstrap)
    facts = first_facts(text, time.time_ns() // 1000)
    await publish(addresses.kafka_bootstrap, [fact for fact in facts if fact.event_id not in present])


def first_facts(text: str, now: Micros) -> list[DefinitionFact]:
    """Proposed, and approved by both teams: who starts the product agrees for both.

    Raises DefinitionFaults.
    """
    agreed = definition.parse(text)
    proposal = proposed(agreed, agreed.rationale, BY, now)
    return [proposal, *(approved(agreed.definition_id, agreed.version, team, BY, now) for team in TEAMS)]


async def known_ids(bootstrap: str) -> set[str]:
    """The event ids on the reference topic, from the headers."""
    partition = TopicPartition(REFERENCE, 0)
    client = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with connected(client, bootstrap) as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, 0)
        found: set[str] = set()
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(partition, timeout_ms=1000)).values():
                found |= {
                    value.decode() for each in records for name, value in each.headers if name == "ce_id"
                }
        return found
