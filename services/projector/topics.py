"""Looks whether the topics are still as the contract says.

Promises: partitions that somebody added, whose records nobody reads, and a retention that deletes history are
told within a minute, by the metric and in the log; the look changes nothing.
"""

import asyncio
from collections.abc import Sequence

import structlog

from schemas.topics import TOPICS, Topic
from services.broker import AWAY, wrong_topics
from services.projector import metrics

LOOK_SECONDS = 60.0
"""Pause between two looks: a connection and three requests each."""

log = structlog.get_logger()


async def watch(bootstrap: str) -> None:
    """Looks for ever; a broker that is away is asked again."""
    while True:
        try:
            await look(bootstrap)
        except AWAY as error:
            log.warning("topics_unknown", error=repr(error))
        await asyncio.sleep(LOOK_SECONDS)


async def look(bootstrap: str, topics: Sequence[Topic] = TOPICS) -> None:
    """Tells what is not as it should be. Raises KafkaAway, KafkaError."""
    wrong = await wrong_topics(bootstrap, topics)
    metrics.WRONG_TOPICS.set(len(wrong))
    for each in wrong:
        log.error("topic_wrong", found=each)
