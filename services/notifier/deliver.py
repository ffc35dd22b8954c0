"""One channel: what it is to be told goes out, at least once, the latest state of each alert.

Promises: one notifier at a time works a channel, so its rate limit holds and the states of an alert come in
order. A try is noted before it is made: what may have been received is never forgotten, and an alert that was
over before it was first tried is not told at all. Failures come again with growing pauses, or when the
receiver says, and at once when it takes something again after an outage; after `fallback_after`, also of
patience that the receiver asked for, another channel is told as well, after `give_up_after` it is noted that
this one was not.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import timedelta

import aiohttp
import structlog
from asyncpg import Record as Row

from services.notifier import alertmanager, mail, webhook
from services.notifier.config import Alertmanager, AnyChannel, Config, Webhook
from services.notifier.message import Message, messages
from services.notifier.metrics import CLOCK_BEAT, FAILED, GAVE_UP, OLDEST_SECONDS, SENT, WAITING, WATCHDOG
from services.notifier.sending import Again, Refused
from services.store.pool import Connection

CONNECTIONS = 8
"""Messages on their way to one receiver at once."""
AT_ONCE = 64
"""Messages taken up between two looks for what is to be sent."""
ALERTMANAGER_AT_ONCE = 200
"""Alerts in one request to Alertmanager, which takes lists."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""A receiver that is back is noticed within this, even if nothing new is to be told, unless it asked for more
patience."""
CLOCK_SECONDS = 30.0
"""A clock that gave no sign of life for so long stops the watchdog."""

log = structlog.get_logger()

CLAIM = """
update ops.delivery set attempts = attempts + 1
where channel = $1 and alert_id in (
  select alert_id from ops.delivery
  where channel = $1 and next_at <= now() and not exists (
    select from ops.channel where channel.channel = $1 and paused_until > now()
  )
  order by next_at limit $2
)
returning alert_id, attempts, sent_at
"""

# What waits because the receiver asked for patience is not told either.
START_TO_FAIL = """
update ops.delivery set failing_since = now(), error = channel.error
from ops.channel
where channel.channel = $1 and paused_until > now()
  and delivery.channel = $1 and next_at <= now() and failing_since is null
"""

HELD_BACK = """
select alert_id from ops.delivery join ops.channel using (channel)
where channel = $1 and paused_until > now() and next_at is not null and failing_since is not null
"""

TAKEN = """
update ops.delivery set sent_revision = taken.revision, sent_at = now(), attempts = 0, failing_since = null,
  gave_up_at = null, error = null,
  next_at = case when wanted_revision > taken.revision then now() else now() + taken.pause end
from unnest($2::bigint[], $3::integer[], $4::interval[]) taken (alert_id, revision, pause)
where delivery.channel = $1 and delivery.alert_id = taken.alert_id
"""

# It may open again, which is another reason to tell it, and one that nothing holds back.
OVER = """
update ops.delivery set sent_revision = seen.revision, attempts = 0, failing_since = null,
  wanted_revision = greatest(wanted_revision, seen.revision), error = 'over before it was told',
  next_at = case when wanted_revision > seen.revision then now() end
from unnest($2::bigint[], $3::integer[]) seen (alert_id, revision)
where delivery.channel = $1 and delivery.alert_id = seen.alert_id
"""

FAILED_AGAIN = """
update ops.delivery set failing_since = coalesce(failing_since, now()), error = $3,
  next_at = now() + make_interval(secs => $4)
where channel = $1 and alert_id = any($2)
"""

# What has failed since the receiver last took anything: a message that it alone does not want waits on.
RETURNED = """
update ops.delivery set next_at = now()
from ops.channel
where channel.channel = $1 and failed_at > coalesce(channel.sent_at, '-infinity')
  and delivery.channel = $1 and next_at > now() and failing_since > coalesce(channel.sent_at, '-infinity')
"""

GIVE_UP = """
update ops.delivery set gave_up_at = now(), next_at = null, error = coalesce($4, error)
where channel = $1 and alert_id = any($2) and gave_up_at is null
  and failing_since <= now() - make_interval(secs => $3)
returning alert_id
"""

FALL_BACK = """
with told as (
  update ops.delivery set fell_back_at = now()
  where channel = $1 and alert_id = any($2) and fell_back_at is null
    and failing_since <= now() - make_interval(secs => $3)
  returning alert_id, wanted_revision
)
insert into ops.delivery (alert_id, channel, wanted_revision, next_at)
select alert_id, $4, wanted_revision, now() from told
on conflict (alert_id, channel) do nothing
"""

NOTE = """
insert into ops.channel (channel, sent_at, failed_at, error, paused_until)
values ($1, case when $2::text is null then now() end, case when $2 is not null then now() end, $2,
  now() + make_interval(secs => $3))
on conflict (channel) do update set
  sent_at = coalesce(excluded.sent_at, channel.sent_at),
  failed_at = coalesce(excluded.failed_at, channel.failed_at),
  error = excluded.error, paused_until = excluded.paused_until
"""

BACKLOG = """
select count(*) as waiting, coalesce(extract(epoch from now() - min(changed_at)), 0)::float8 as oldest
from ops.delivery join ops.alert using (alert_id)
where channel = $1 and next_at is not null and sent_revision < wanted_revision
"""

BEAT = "select beat_at, beat_at > now() - make_interval(secs => $1) as is_alive from ops.clock"


class Delivery:
    """Works one channel over one connection, which holds the channel's lock."""

    def __init__(
        self, connection: Connection, http: aiohttp.ClientSession, config: Config, name: str
    ) -> None:
        self._connection = connection
        self._http = http
        self._config = config
        self._name = name
        self._channel: AnyChannel = config.channels[name]
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._free_at = 0.0
        self._quiet_until = 0.0
        self._watchdog_at = 0.0

    async def step(self) -> int:
        """Sends what is to be sent now; returns how many were tried."""
        if isinstance(self._channel, Alertmanager) and self._channel.watchdog:
            await self._watch(self._channel)
        rows = await self._connection.fetch(CLAIM, self._name, self._most())
        if rows:
            await self._tell(rows)
        else:
            await self._turn_from_patience()
        await self._measure()
        return len(rows)

    def _most(self) -> int:
        """Messages to take up: not more than go out within a second, since they grow old."""
        if isinstance(self._channel, Alertmanager):
            return ALERTMANAGER_AT_ONCE
        return max(1, min(AT_ONCE, self._channel.per_minute // 60))

    async def _tell(self, rows: Sequence[Row]) -> None:
        told = await messages(self._connection, self._config, [row["alert_id"] for row in rows])
        first = {row["alert_id"] for row in rows if row["attempts"] == 1 and row["sent_at"] is None}
        over = [alert_id for alert_id in first if not told[alert_id].is_firing]
        if over:
            await self._connection.execute(OVER, self._name, over, [told[id].revision for id in over])
        wanted = {row["alert_id"]: row["attempts"] for row in rows if row["alert_id"] not in over}
        if isinstance(self._channel, Alertmanager):
            tries = [list(wanted)] if wanted else []
        else:
            tries = [[alert_id] for alert_id in wanted]
        results = await asyncio.gather(*(self._try(ids, [told[id] for id in ids]) for ids in tries))
        taken = [id for ids, error in results if error is None for id in ids]
        if taken:
            await self._note_taken(taken, told)
        for ids, error in results:
            if error is not None:
                await self._note_failed(ids, max(wanted[id] for id in ids), error)

    async def _try(self, ids: list[int], wanted: list[Message]) -> tuple[list[int], Again | Refused | None]:
        await self._pace()
        try:
            async with self._free:
                if (left := self._quiet_until - time.monotonic()) > 0:
                    raise Again("the receiver asked for patience", left)
                await send(self._http, self._channel, wanted)
        except (Again, Refused) as error:
            if isinstance(error, Again) and error.retry_after is not None:
                self._quiet_until = time.monotonic() + error.retry_after
            return ids, error
        except Exception as error:  # whatever a defect of one message raises, others are told
            log.exception("message_not_made", channel=self._name, alerts=ids)
            return ids, Again(f"a defect of leadlog: {error!r}")
        return ids, None

    async def _pace(self) -> None:
        """Waits for this message's turn under the rate limit."""
        now = time.monotonic()
        turn = max(now, self._free_at)
        self._free_at = turn + 60 / self._channel.per_minute
        await asyncio.sleep(turn - now)

    async def _note_taken(self, ids: list[int], told: dict[int, Message]) -> None:
        pauses = [self._next(told[id]) for id in ids]
        revisions = [told[id].revision for id in ids]
        await self._connection.execute(TAKEN, self._name, ids, revisions, pauses)
        await self._note_alive()
        SENT.labels(self._name).inc(len(ids))

    async def _note_alive(self) -> None:
        await self._connection.execute(RETURNED, self._name)
        await self._connection.execute(NOTE, self._name, None, 0.0)

    async def _note_failed(self, ids: list[int], attempts: int, error: Again | Refused) -> None:
        FAILED.labels(self._name).inc()
        log.warning("not_delivered", channel=self._name, alerts=len(ids), error=str(error))
        asked = error.retry_after if isinstance(error, Again) else None
        pause = asked if asked is not None else back_off(attempts)
        await self._connection.execute(NOTE, self._name, str(error), asked or 0.0)
        await self._connection.execute(FAILED_AGAIN, self._name, ids, str(error), pause)
        await self._turn_elsewhere(ids, isinstance(error, Refused))

    async def _turn_from_patience(self) -> None:
        """Turns elsewhere with what waits for a receiver that asked for patience."""
        await self._connection.execute(START_TO_FAIL, self._name)
        held = [row["alert_id"] for row in await self._connection.fetch(HELD_BACK, self._name)]
        if held:
            await self._turn_elsewhere(held, is_final=False)

    async def _turn_elsewhere(self, ids: list[int], is_final: bool) -> None:
        """Tells the fallback when this channel fails for long, or for ever; notes that it gave up."""
        channel = self._channel
        if channel.fallback is not None:
            after = 0.0 if is_final else channel.fallback_after
            await self._connection.execute(FALL_BACK, self._name, ids, after, channel.fallback)
        after = 0.0 if is_final else channel.give_up_after
        given_up = await self._connection.fetch(GIVE_UP, self._name, ids, after, None)
        GAVE_UP.labels(self._name).inc(len(given_up))

    def _next(self, message: Message) -> timedelta | None:
        """When to send the same again: only Alertmanager wants that, as long as the alert is active."""
        if isinstance(self._channel, Alertmanager) and message.is_firing:
            return timedelta(seconds=self._channel.resend)
        return None

    async def _watch(self, channel: Alertmanager) -> None:
        """Sends the watchdog when it is time and the clock is alive."""
        if time.monotonic() < self._watchdog_at:
            return
        [beat] = await self._connection.fetch(BEAT, CLOCK_SECONDS)
        CLOCK_BEAT.set((beat["beat_at"] or 0) / 1e6)
        self._watchdog_at = time.monotonic() + channel.resend
        if not beat["is_alive"]:
            log.warning("watchdog_held_back", reason="the clock gives no sign of life")
            return
        try:
            await alertmanager.watchdog(self._http, channel)
            WATCHDOG.labels(self._name).set_to_current_time()
            await self._note_alive()
        except (Again, Refused) as error:
            log.warning("watchdog_not_delivered", channel=self._name, error=str(error))

    async def _measure(self) -> None:
        [row] = await self._connection.fetch(BACKLOG, self._name)
        WAITING.labels(self._name).set(row["waiting"])
        OLDEST_SECONDS.labels(self._name).set(row["oldest"])


async def send(http: aiohttp.ClientSession, channel: AnyChannel, wanted: Sequence[Message]) -> None:
    """Sends messages, one unless the channel takes lists. Raises Again, Refused."""
    if isinstance(channel, Alertmanager):
        await alertmanager.send(http, channel, wanted)
        return
    for message in wanted:
        if isinstance(channel, Webhook):
            await webhook.send(http, channel, message)
        else:
            await mail.send(channel, message)


def back_off(attempts: int) -> float:
    """Seconds before the next try: doubling, with jitter so that many do not come at once."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts - 1, 9))
    return longest * random.uniform(0.5, 1.0)
