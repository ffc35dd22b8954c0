"""Versions built from the topics: equal to what the projector made of the same records, whatever came."""

from random import Random

import pytest

from infra import MIGRATIONS
from services import settings
from services.replay.build import build
from services.replay.job import Progress
from services.replay.runs import Candidate
from services.settings import Addresses
from services.store.migrate import migrate
from services.store.pool import connect
from services.store.versions import Fed, TimelineEntry
from tests import live
from tests.comparison import differences, projected
from tests.histories import random_timeline
from tests.replaying import many_logs, publish

pytestmark = pytest.mark.servers


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: "object") -> None:
    """Small logs in many units and buckets."""
    monkeypatch.setattr(settings, "REPLAY_UNIT_RECORDS", 150)
    monkeypatch.setattr(settings, "REPLAY_BUCKET_RECORDS", 60)
    monkeypatch.setattr(settings, "REPLAY_ID_RECORDS", 300)
    monkeypatch.setenv("LEADLOG_STATE", str(tmp_path))


@pytest.mark.slow
async def test_replay_gives_what_the_projector_and_the_pure_fold_give(
    database: str, topics: Addresses
) -> None:
    """Random logs with every awkward kind, folded by a definition that the projector never had."""
    rng = Random(1)
    events = many_logs(rng, 20, 40)
    records = live.on_topics(events)
    await publish(topics.kafka_bootstrap, records)
    addresses = topics._replace(postgres_dsn=database)
    await migrate(database, MIGRATIONS)
    connection = await connect(database)
    first, other = random_timeline(rng), random_timeline(rng)
    await live.add_versions(connection, [first, other])
    fed = Fed()
    for batch in live.cut(rng, records):
        await live.take(connection, batch, fed)
    said: list[Progress] = []
    number = await build(
        addresses, Candidate([TimelineEntry(*each) for each in other]), said.append, processes=2
    )
    rows = await live.tables(connection, f"v{number:04d}")
    assert differences(projected(events, other), rows) == []
    assert await connection.fetch("select * from ops.parked") == []
    assert {each.phase for each in said} >= {"route", "read", "ids", "settle", "fold", "index"}
    await connection.close()
