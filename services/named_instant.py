"""Instants as people name them: a date, or a date and a time, which may have an offset."""

import re
from datetime import datetime, tzinfo

from schemas.instants import instant_of
from schemas.records import Micros

LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?")


def instant_in(text: str, zone: tzinfo) -> Micros:
    """The instant that a text names, in this zone where it has no offset; of a date its beginning.

    Raises ValueError, which says what was expected.
    """
    try:
        if LOCAL.fullmatch(text):
            return instant_of(datetime.fromisoformat(text).replace(tzinfo=zone).isoformat())
        return instant_of(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is no time: expected one such as 2026-01-31, '2026-01-31 09:00' or "
            "2026-01-31T09:00:00+01:00"
        ) from error
