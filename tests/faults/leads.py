"""Leads that come, wait for longer than agreed, and are reviewed, for processes that suffer meanwhile.

Promises: merges, starts that are known too late and acceptances that are logged late are among them, each
often. Leaves the suffering to who uses it.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas import records as r
from schemas.records import TOPIC_OF
from schemas.wire import encode, headers
from services.settings import Addresses
from tests.alerting import REVIEW, Moment, definition
from tests.feeding import HUMAN

TARGET = 3
"""Seconds of the policy: an alert opens after half of it."""
LEADS_A_SECOND = 4
SHORT = definition(REVIEW | {"target": f"{TARGET}s"})
"""A definition with this policy."""

UNTOLD = """
select count(*) from ops.alert left join ops.delivery using (alert_id)
where dispatched_revision < revision or sent_revision < wanted_revision
"""
OPEN = "select count(*) from v0001.sla_clock where stopped_at is null"
UNFIRED = """
select count(*) from v0001.sla_clock clock where stopped_at is null and not exists (
  select from ops.fired where fired.policy_id = clock.policy_id
    and fired.started_event_id = clock.started_event_id and threshold = 'due'
)
"""
UNREAD = """
select coalesce(sum(end_offset - coalesce(next_offset, 0)), 1)
from ops.lag left join log.position using (topic, partition)
"""
UNSENT = "select count(*) from ops.outbox"
ALL_TOLD = (UNREAD, UNFIRED, UNTOLD)
"""Each counts nothing once all that is due was told."""
ALL_OVER = (UNREAD, OPEN, UNTOLD, UNSENT)
"""Each counts nothing once everything has ended and that was told."""
ALERTS = "select alert_key from ops.alert where closed_at is null"


class Leads:
    """Leads on the topics: they come, wait for longer than agreed, and are reviewed."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self.moments: list[Moment] = []
        """Of each lead, the moment of its start."""
        self.reviewed = 0

    async def send(self, *events: r.Record) -> None:
        """Onto their topics."""
        for event in events:
            topic, key = TOPIC_OF[type(event).__name__], event.subject_id.encode()
            await self._producer.send_and_wait(topic, encode(event), key=key, headers=headers(event))

    async def arrive(self) -> None:
        """One more lead. Every third is two that turn out to be one; with every fourth an earlier start of
        the lead that came a target ago is known only now."""
        moment, number = Moment(), len(self.moments)
        self.moments.append(moment)
        subject, other = f"crm:{number}", f"web:{number}"
        await self.send(moment.mql(0, f"start{number}", subject))
        if number % 3 == 0:
            link = r.SubjectsLinked(
                **moment.at(0, f"link{number}", subject), other_subject_id=other, evidence="same_email"
            )
            await self.send(moment.mql(0.2, f"other{number}", other), link)
        before = number - TARGET * LEADS_A_SECOND
        if before >= 0 and number % 4 == 0:
            await self.send(self.moments[before].mql(1, f"earlier{before}", f"crm:{before}"))

    async def review(self) -> None:
        """The next lead is accepted; every fifth was so in time, which is logged only now."""
        number, now = self.reviewed, time.time_ns() // 1000
        self.reviewed += 1
        started = self.moments[number]
        in_time = started.at(-0.5, f"accept{number}", f"crm:{number}", recorded_at=now)
        late = in_time | {"occurred_at": now}
        await self.send(r.HandoffAccepted(**(late if number % 5 else in_time), actor=HUMAN))

    async def review_rest(self) -> None:
        """All that came and are not reviewed yet."""
        while self.reviewed < len(self.moments):
            await self.review()


def environment(addresses: Addresses, channels: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Settings of the processes, with these channels."""
    file = folder / "channels.yaml"
    file.write_text(json.dumps({"channels": channels}))
    own = {name.upper(): value for name, value in addresses._asdict().items()}
    own |= {"STATE": str(folder), "ALERTS": str(file), "CONSUMER_GROUP": f"alerting-{uuid.uuid4()}"}
    return {**os.environ, **{f"LEADLOG_{name}": value for name, value in own.items()}}
