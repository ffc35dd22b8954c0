"""How a try to send ends, for every kind of channel.

Promises: `Again` may go well later, after `retry_after` seconds if the receiver said so; `Refused` will not,
until somebody changes the channel. Sending returns when the receiver has the message.
"""

from email.utils import parsedate_to_datetime

from services.plain_words import plainly

MOST_PATIENCE_SECONDS = 3600.0
"""What a receiver may ask for at most."""
AGAIN = (408, 425, 429)
"""HTTP statuses below 500 that are worth another try."""


class Again(Exception):
    """Not delivered; try again."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(Exception):
    """Not delivered, and another try would not help."""


def unanswered(error: Exception, timeout: float) -> Again:
    """What a receiver that cannot be reached means; the driver says nothing when it waited in vain."""
    return Again(plainly(error) if str(error) else f"no answer within {timeout:g} s")


def judge(status: int, text: str, retry_after: str | None, now: float) -> None:
    """Raises what an HTTP answer means; `now` in Unix seconds."""
    if status < 300:
        return
    told = f"HTTP {status}: {text[:200] if status >= 400 else 'not taken, it points elsewhere'}"
    if status >= 500 or status in AGAIN:
        raise Again(told, seconds(retry_after, now))
    raise Refused(told)


def seconds(retry_after: str | None, now: float) -> float | None:
    """What a Retry-After header asks for: seconds, or a date (RFC 9110), an hour at most. None for anything
    else."""
    if retry_after is None:
        return None
    try:
        is_number = retry_after.strip().isdecimal()
        asked = float(retry_after) if is_number else parsedate_to_datetime(retry_after).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, asked), MOST_PATIENCE_SECONDS)
