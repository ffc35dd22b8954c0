"""How values are written on the pages."""

from datetime import UTC, datetime
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from schemas.instants import rfc3339
from services.definitions import name_of
from services.wording import duration, gist, money


def number(value: float | None) -> str:
    """`12,345`."""
    return "" if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """`12.3%`."""
    return "" if value is None else f"{value:.1%}"


def words(value: str | None) -> str:
    """`met_logged_late` as `met logged late`."""
    return (value or "").replace("_", " ")


@pass_context
def moment(context: Context, value: str | int | None, form: str = "%Y-%m-%d %H:%M") -> str:
    """An instant, RFC 3339 or in microseconds, in the zone of the definition's calendar."""
    if value is None:
        return ""
    at = datetime.fromisoformat(rfc3339(value) if isinstance(value, int) else value)
    local = at.astimezone(ZoneInfo(context["zone"]) if context["zone"] else UTC)
    # HTML knows milliseconds, no finer digits.
    said = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(said, local.strftime(form))


def path(some_id: str) -> str:
    """An id as a part of a path or query."""
    return quote(some_id, safe="")


FILTERS = {
    each.__name__: each for each in (number, share, money, words, moment, path, duration, gist, name_of)
}
