"""Instants and dates as the contract's JSON writes them, and as integers.

Leaves time zones and calendars to the projections: here everything is UTC.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import msgspec

from schemas.records import MAX_INSTANT, MIN_INSTANT, Days, Micros

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
MICROSECOND = timedelta(microseconds=1)
WithOffset = Annotated[datetime, msgspec.Meta(tz=True)]
_decode = msgspec.json.Decoder(WithOffset).decode
_encode = msgspec.json.Encoder().encode


def instant_of(text: object) -> Micros:
    """Microseconds since 1970 of an RFC 3339 text with offset, finer digits rounded. Raises ValueError."""
    if not isinstance(text, str) or "\\" in text:
        raise ValueError("not a text as RFC 3339 has it")
    # As JSON, since a decoder knows its type: `msgspec.convert` looks it up anew, for four times the cost.
    micros = (_decode(f'"{text}"') - EPOCH) // MICROSECOND
    if not MIN_INSTANT <= micros <= MAX_INSTANT:
        raise ValueError("outside the years 1 to 9999")
    return micros


def rfc3339(instant: Micros) -> str:
    """An instant as RFC 3339 in UTC, with microseconds only where there are any."""
    return _encode(EPOCH + timedelta(0, *divmod(instant, 1_000_000)))[1:-1].decode()


def day_of(text: object) -> Days:
    """Days since 1970 of a date `YYYY-MM-DD`. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("not a text")
    return msgspec.convert(text, date).toordinal() - EPOCH_DAY


def iso_date(day: Days) -> str:
    """A date as `YYYY-MM-DD`."""
    return date.fromordinal(day + EPOCH_DAY).isoformat()
