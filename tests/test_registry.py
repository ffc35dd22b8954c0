"""The real registry refuses what does not fit, has the ids of the lock file, and gets them back when lost."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from infra import MIGRATIONS, registry
from schemas.derived import STRUCTS
from schemas.ids import RELEASED, SCHEMA_ID, fingerprint, schema_text
from schemas.records import TOPIC_OF
from schemas.wire import Decoder, encode
from services.deploy import deploy
from services.registry import Incompatible, Registry, RegistryAway, WrongIds
from services.settings import Addresses
from tests.feeding import DEFINITION
from tests.golden_files import fullest
from tests.servers import other_ports, until

pytestmark = pytest.mark.servers
TOUCH = f"{TOPIC_OF['TouchRecorded']}-leadlog.TouchRecorded"


@pytest.fixture
async def deployed(stack: Addresses) -> AsyncIterator[Registry]:
    """A client of the registry of this test run, after deployment."""
    async with Registry(stack.registry_url) as client:
        await client.deploy()
        yield client


@pytest.fixture
def lonely(database: str) -> Iterator[str]:
    """The address of a registry of this test's own that holds nothing."""
    ports = other_ports()
    program = registry.program(ports, database)
    process = subprocess.Popen(program.command, env=program.environment, stdout=subprocess.DEVNULL)
    yield registry.url(ports)
    process.kill()
    process.wait()


@pytest.fixture
async def empty(lonely: str) -> AsyncIterator[Registry]:
    """A client of that registry."""
    await until(partial(registry.answers, lonely), "the registry does not answer")
    async with Registry(lonely) as client:
        yield client


def with_field(text: str, **field: object) -> str:
    """A schema with one more field."""
    schema = json.loads(text)
    return json.dumps(schema | {"fields": [*schema["fields"], field]})


async def test_deployment_can_be_repeated(deployed: Registry) -> None:
    """A second deployment finds every id as the lock file says."""
    await deployed.deploy()


async def test_the_registry_has_every_released_schema(deployed: Registry) -> None:
    """What the registry gives for an id is the released text, in the registry's notation."""
    for schema_id, release in RELEASED.items():
        text = await deployed.schema(schema_id)
        assert text is not None
        if release.record in STRUCTS:
            assert fingerprint(text) == release.fingerprint
            continue
        record = fullest(release.record)
        assert Decoder({schema_id: text}).decode(encode(record, schema_id)) == record


async def test_an_incompatible_schema_is_refused(deployed: Registry) -> None:
    """A required field cannot be added, since the records that are there do not have it."""
    text = with_field(schema_text("TouchRecorded"), name="mood", type="string")
    with pytest.raises(Incompatible, match="409"):
        await deployed.register(TOUCH, text)


async def test_a_schema_in_other_notation_has_the_same_id(deployed: Registry) -> None:
    """Publishers in other languages write the schema in another way and get the released id."""
    for release in RELEASED.values():
        text = json.dumps(json.loads(release.text), indent=3)
        assert await deployed.register(release.subject, text) == release.schema_id


async def test_an_id_that_nobody_knows_is_told_from_a_registry_that_is_away(deployed: Registry) -> None:
    """No such id is None; no answer, or an answer of something else, is RegistryAway."""
    assert await deployed.schema(2**32 - 1) is None
    for url in ("http://127.0.0.1:9", f"{deployed.url}/elsewhere"):
        async with Registry(url) as away:
            with pytest.raises(RegistryAway):
                await away.schema(1)


async def test_a_client_asks_for_a_schema_once(deployed: Registry) -> None:
    """A schema that was fetched is known from then on, also while the registry is away."""
    text = await deployed.schema(1)
    await deployed.close()
    assert await deployed.schema(1) == text


@pytest.mark.slow
async def test_a_lost_registry_gets_its_ids_back(empty: Registry) -> None:
    """Deployment fills an empty registry with the ids of the lock file, and new schemas get new ids."""
    await empty.deploy()
    text = with_field(schema_text("TouchRecorded"), name="mood", type=["null", "string"], default=None)
    assert await empty.register(TOUCH, text) > max(RELEASED)
    await empty.deploy()


@pytest.mark.slow
async def test_two_first_deployments_at_once_are_both_done(
    empty: Registry, database: str, topics: Addresses
) -> None:
    """Two `leadlog up` at once: one ended with a traceback of what the other had just given the registry."""
    addresses = topics._replace(postgres_dsn=database, registry_url=empty.url)
    both = await asyncio.gather(*(deploy(addresses, MIGRATIONS, None, DEFINITION) for _ in range(2)))
    assert sorted(each.is_first for each in both) == [False, True]


@pytest.mark.slow
async def test_a_registry_with_other_ids_is_refused(empty: Registry) -> None:
    """Ids need not begin at one or follow each other; but they must be those of the lock file."""
    moved = [release._replace(schema_id=release.schema_id * 3 + 100) for release in RELEASED.values()]
    await empty.restore(moved)
    for release in moved:
        assert (
            await empty.register(release.subject, json.dumps(json.loads(release.text))) == release.schema_id
        )
    with pytest.raises(WrongIds, match=f"{TOUCH} version 1 is 103, expected {SCHEMA_ID['TouchRecorded']}"):
        await empty.deploy()
