"""Alerts as webhooks, by Standard Webhooks 1.0 (https://www.standardwebhooks.com).

Promises: `webhook-id` is the same whenever one state of an alert is sent again, so a receiver takes it once;
`data.key` is the incident. While a secret is replaced both sign.
"""

import time
from datetime import UTC, datetime
from urllib.parse import quote

import aiohttp
import msgspec
from standardwebhooks import Webhook as Signer

from schemas.instants import rfc3339
from services.notifier.config import Webhook
from services.notifier.message import Message, as_json
from services.notifier.sending import judge, unanswered


async def send(http: aiohttp.ClientSession, channel: Webhook, message: Message) -> None:
    """Posts the state of an alert. Raises Again, Refused."""
    body = msgspec.json.encode(
        {
            "type": f"alert.{message.change}",
            "timestamp": rfc3339(message.changed_at),
            "data": as_json(message),
        }
    ).decode()
    timeout = aiohttp.ClientTimeout(total=channel.timeout)
    headers = signed(quote(message.id, safe=":@"), body, channel.secrets)
    try:
        async with http.post(
            channel.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            text = await answer.text(errors="replace")
            judge(answer.status, text, answer.headers.get("Retry-After"), time.time())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise unanswered(error, channel.timeout) from error


def signed(message_id: str, body: str, secrets: list[str]) -> dict[str, str]:
    """The headers, with one signature for each secret."""
    now = datetime.now(UTC)
    signatures = [Signer(secret).sign(message_id, now, body) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
