"""A database with short SLA policies, fed by hand, and the clock at the test's will: what comes of it."""

import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

from schemas import derived
from schemas import records as r
from schemas.derived import ClockWithdrawn, Derived
from services.clock.look import look
from services.clock.reconcile import reconcile
from services.store.locks import stop_feeding
from services.store.pool import Connection
from services.store.versions import promote
from tests.feeding import DEFINITION, HUMAN, feed, prepare_database

SECOND = 1_000_000
TARGET = 100
"""Seconds of the policy `review`; it warns at half and at nine tenths."""
REVIEW = {
    "id": "review",
    "start": [{"entered": "mql"}],
    "stop": [{"record": "HandoffAccepted"}, {"record": "HandoffRejected"}, {"entered": "sql"}],
    "target": f"{TARGET}s",
    "time": "calendar",
    "warn_at": [0.5, 0.9],
}


def definition(*policies: dict[str, Any]) -> str:
    """The default definition with these policies instead of its own."""
    return json.dumps(yaml.safe_load(DEFINITION) | {"sla": list(policies)})


class Alert(NamedTuple):
    """An alert as `ops` has it."""

    key: str
    severity: str
    change: str
    outcome: str | None
    reasons: list[str | None]


ALERTS = """
select alert_key, severity, change, alert.outcome, array_agg(reason order by obligation.opened_at)
from ops.alert left join ops.obligation using (alert_id) group by alert_id order by alert_id
"""


class Moment:
    """Makes events that happened before or after the moment that it was made."""

    def __init__(self) -> None:
        self.now = time.time_ns() // 1000

    def at(self, ago: float, event_id: str, subject_id: str = "crm:1", **more: Any) -> dict[str, Any]:
        """The envelope of an event so many seconds ago, recorded at once."""
        instant = self.now - round(ago * SECOND)
        envelope = {"occurred_at": instant, "recorded_at": instant, "source": "test"}
        return {**envelope, "event_id": event_id, "subject_id": subject_id, **more}

    def mql(self, ago: float, event_id: str = "start", subject_id: str = "crm:1") -> r.TouchRecorded:
        """A form that makes an MQL and so starts the clock."""
        return r.TouchRecorded(
            **self.at(ago, event_id, subject_id),
            touch_type="form_submitted",
            direction="inbound",
            channel="email",
            offer_id="demo_request",
        )

    def accepted(self, ago: float, event_id: str = "accept", subject_id: str = "crm:1") -> r.HandoffAccepted:
        """Sales has accepted the lead; recorded now, however long ago."""
        return r.HandoffAccepted(**self.at(ago, event_id, subject_id, recorded_at=self.now), actor=HUMAN)


class Scene(Moment):
    """One database: events in, looks of the clock, alerts out."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection

    async def begin(self, dsn: str, *policies: dict[str, Any]) -> None:
        """Makes the first version."""
        await prepare_database(dsn, self.connection, definition(*(policies or (REVIEW,))))

    async def take(self, *events: r.Record, appended_at: int = 0) -> None:
        """One batch."""
        await feed(self.connection, events, appended_at)

    async def look(self) -> int:
        """One look of the clock; returns the thresholds that fired."""
        return (await look(self.connection)).fired

    async def take_over(self, number: int) -> None:
        """Promotes a version as the switch does."""
        async with self.connection.transaction():
            await stop_feeding(self.connection)
            await reconcile(self.connection, f"v{number:04d}")
            await promote(self.connection, number)

    async def alerts(self) -> list[Alert]:
        """Every alert, in order of opening."""
        return [Alert(*row) for row in await self.connection.fetch(ALERTS)]

    async def told(self) -> list[Derived]:
        """The conclusions that wait to be sent, in order."""
        rows = await self.connection.fetch(
            "select value, headers::jsonb ->> 'ce_type' from ops.outbox where topic = 'lead.derived' "
            "order by outbox_id"
        )
        return [derived.decode(name.removeprefix("leadlog."), value) for value, name in rows]

    async def withdrawn(self) -> list[ClockWithdrawn]:
        """Those that take something back."""
        return [each for each in await self.told() if isinstance(each, ClockWithdrawn)]


def clocks(told: Iterable[Derived]) -> list[str]:
    """The event ids of conclusions about clocks."""
    return [each.event_id for each in told if isinstance(each, derived.Clock)]
