"""From cells of a row to a value of the contract's JSON.

Promises: a maker either gives a value of the kind its field needs, or ABSENT for nothing, or raises Bad with
what was found and expected. Nothing is guessed: a time without offset has the zone of the mapping, a date
without time needs to be told which, a number that does not fit is refused rather than rounded.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

Row = Mapping[str, str]
"""Column to cell; columns of a joined input as `input.column`."""
Maker = Callable[[Row], Any]
Kind = Literal["text", "instant", "date", "integer", "number", "boolean", "any", "list", "object"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ABSENT: Final = object()
"""Stands for no value: the field is left out."""


class Bad(ValueError):
    """A cell that cannot become what its field needs."""

    def __init__(
        self, code: str, value: str | float | bool | None, expected: str, hint: str | None = None
    ) -> None:
        super().__init__(f"{code}: {value!r}, expected {expected}")
        self.code, self.value, self.expected, self.hint = code, value, expected, hint


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


FILTERS: Final[dict[str, Callable[[str], str]]] = {
    "lower": str.lower,
    "upper": str.upper,
    "sha256": _sha256,
}
_PLACE = re.compile(r"\{([^{}]*)\}")


class Template(NamedTuple):
    """Text with `{column}` or `{column|filter|..}` in it."""

    columns: tuple[str, ...]
    unknown_filters: tuple[str, ...]
    fill: Callable[[Row], str]


def template(text: str) -> Template:
    """A template, compiled. Cells are stripped of blanks around them."""
    parts = _PLACE.split(text)
    literals, places = parts[0::2], [part.split("|") for part in parts[1::2]]
    columns = tuple(place[0].strip() for place in places)
    names = [[name.strip() for name in place[1:]] for place in places]
    unknown = tuple(name for each in names for name in each if name not in FILTERS)
    filters = [[FILTERS[name] for name in each if name in FILTERS] for each in names]

    def fill(row: Row) -> str:
        text = literals[0]
        for column, steps, literal in zip(columns, filters, literals[1:], strict=True):
            cell = row[column].strip()
            for step in steps:
                cell = step(cell) if cell else ""
            text += cell + literal
        return text

    return Template(columns, unknown, fill)


class Options(NamedTuple):
    """How text becomes a value, beside the kind of its field."""

    zone: ZoneInfo
    formats: tuple[str, ...] = ("iso",)
    at: time | None = None
    minor: int | None = None
    decimal: str = "."
    split: str | None = None


def converter(kind: Kind, options: Options) -> Callable[[str], Any]:
    """The function from a text that is not empty to a value of this kind. It raises Bad."""
    if options.split is not None:
        separator = options.split
        return lambda text: [part.strip() for part in text.split(separator) if part.strip()]
    if kind == "instant":
        return lambda text: _instant(text, options)
    if kind == "date":
        return lambda text: _moment(text, options.formats)[0].date().isoformat()
    if kind == "integer":
        return lambda text: _integer(text, options)
    if kind == "number":
        return lambda text: float(_decimal(text, options))
    return _boolean if kind == "boolean" else str


def _instant(text: str, options: Options) -> str:
    moment, has_time = _moment(text, options.formats)
    if not has_time:
        if options.at is None:
            raise Bad("date_without_time", text, "a time of day", 'say which with `at`, e.g. at: "00:00"')
        moment = datetime.combine(moment.date(), options.at)
    if moment.tzinfo is None:
        # In a gap of the zone this moves forward by the gap, in an overlap it is the earlier instant.
        moment = moment.replace(tzinfo=options.zone)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(text: str, formats: tuple[str, ...]) -> tuple[datetime, bool]:
    """The moment, and whether the text has a time of day."""
    for layout in formats:
        try:
            return _in_layout(text, layout)
        except (ValueError, OverflowError):
            continue
    raise Bad("bad_time", text, f"a time as {' or '.join(formats)}", "say how times look with `format`")


def _in_layout(text: str, layout: str) -> tuple[datetime, bool]:
    if layout in ("epoch_s", "epoch_ms"):
        unit = 1_000_000 if layout == "epoch_s" else 1_000
        return EPOCH + timedelta(microseconds=int(Decimal(text) * unit)), True
    if layout != "iso":
        return datetime.strptime(text, layout), any(code in layout for code in ("%H", "%I"))
    try:
        return datetime.combine(date.fromisoformat(text), time()), False
    except ValueError:
        return datetime.fromisoformat(text), True


def _decimal(text: str, options: Options) -> Decimal:
    plain = text.replace(".", "").replace(",", ".") if options.decimal == "," else text
    try:
        number = Decimal(plain)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or abs(number.adjusted()) > 300:
        raise Bad("bad_number", text, "a number", 'with a decimal comma: decimal: ","')
    return number


def _integer(text: str, options: Options) -> int:
    """A whole number; of money, in minor units."""
    number = _decimal(text, options).scaleb(options.minor or 0)
    if number != number.to_integral_value():
        digits = f"at most {options.minor} decimals" if options.minor else "a whole number"
        raise Bad("bad_number", text, digits, "for an amount of money: `minor`, its number of decimals")
    return int(number)


def _boolean(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise Bad("bad_boolean", text, "true or false, yes or no, 1 or 0", "use `map` for other words")
    return known[text.lower()]
