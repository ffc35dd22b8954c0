"""From cells of a row to the values of a record's fields.

Promises: a maker either gives a value as `schemas.contract.record_of` takes it, or ABSENT for nothing, or
raises Bad with what was found and expected. Nothing is guessed: a time without offset has the zone of the
mapping, a date without time needs to be told which, a number that does not fit is refused rather than
rounded, an id with a gap in it is none.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple

from schemas.instants import EPOCH, EPOCH_DAY, MICROSECOND
from schemas.records import MAX_INSTANT, MIN_INSTANT

Row = dict[str, str]
"""Column to cell, blanks around it cut; columns of a joined input as `input.column`."""
Maker = Callable[[Row], Any]
Fill = Callable[[Row], str]
Kind = Literal["id", "text", "instant", "date", "integer", "number", "boolean", "list", "object"]

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
BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "t", "1"), True),
    **dict.fromkeys(("false", "no", "f", "0"), False),
}
LONGEST_DATE: Final = len("YYYY-MM-DD")
"""No ISO 8601 date without time is longer."""
_PLACE = re.compile(r"\{([^{}]*)\}")


class Template(NamedTuple):
    """Text with `{column}` or `{column|filter|..}` in it."""

    columns: tuple[str, ...]
    unknown_filters: tuple[str, ...]
    fill: Fill
    """The text of a row; empty if all its cells are."""


def template(text: str) -> Template:
    """A template, compiled."""
    parts = _PLACE.split(text)
    places = [[name.strip() for name in place.split("|")] for place in parts[1::2]]
    layout = "%s".join(literal.replace("%", "%%") for literal in parts[0::2])
    columns = tuple(column for column, *_ in places)
    unknown = tuple(name for _, *names in places for name in names if name not in FILTERS)
    filters = [[FILTERS[name] for name in names if name in FILTERS] for _, *names in places]
    return Template(columns, unknown, _fill(text, layout, columns, filters))


def _fill(
    text: str, layout: str, columns: tuple[str, ...], filters: list[list[Callable[[str], str]]]
) -> Fill:
    """The shortest way to a row's text: this runs for nearly every field of every row."""
    if not columns:
        return lambda row: text
    if any(filters):
        return _filtered(layout, columns, filters)
    cells_of: Callable[[Row], Any] = itemgetter(*columns)
    if len(columns) > 1:
        return lambda row: layout % cells if any(cells := cells_of(row)) else ""
    if layout == "%s":
        return cells_of
    return lambda row: layout % cell if (cell := cells_of(row)) else ""


def _filtered(layout: str, columns: Sequence[str], filters: list[list[Callable[[str], str]]]) -> Fill:
    def fill(row: Row) -> str:
        cells = []
        for column, steps in zip(columns, filters, strict=True):
            cell = row[column]
            for step in steps:
                cell = step(cell) if cell else ""
            cells.append(cell)
        return layout % tuple(cells) if any(cells) else ""

    return fill


def without_gaps(made: Template) -> Fill:
    """The text of an id: a row that has some of its cells and not the others is bad."""
    fill, columns = made.fill, made.columns
    if len(columns) < 2:
        return fill

    def whole(row: Row) -> str:
        text = fill(row)
        if text and not all(map(row.__getitem__, columns)):
            missing = ", ".join(column for column in columns if not row[column])
            hint = f"{missing} is empty: leave such rows out with `when`, or make the id of other columns"
            raise Bad("gap_in_id", text, "a cell in every column of an id", hint)
        return text

    return whole


class Options(NamedTuple):
    """How text becomes a value, beside the kind of its field."""

    zone: tzinfo
    formats: tuple[str, ...] = ("iso",)
    at: time | None = None
    minor: int | None = None
    decimal: str = "."
    split: str | None = None


def converter(kind: Kind, options: Options) -> Callable[[str], Any]:
    """The function from a text that is not empty to a value of this kind. It raises Bad."""
    if options.split is not None:
        separator = options.split
        return lambda text: parts_of(text, separator)
    if kind == "instant":
        return lambda text: _instant(text, options)
    if kind == "date":
        return lambda text: _moment(text, options.formats)[0].toordinal() - EPOCH_DAY
    if kind == "integer":
        return lambda text: _integer(text, options)
    if kind == "number":
        return lambda text: float(_decimal(text, options))
    return _boolean if kind == "boolean" else str


def parts_of(text: str, separator: str) -> list[str]:
    """The parts of a cell that holds several, empty ones left out."""
    return [part.strip() for part in text.split(separator) if part.strip()]


def maker(
    fill: Fill, convert: Callable[[str], Any], mapped: Mapping[str, Any], other: Any, empty: Any
) -> Maker:
    """A row's text, then what an empty one means, then the map, then the conversion.

    `other` and `empty` are values, or ABSENT. With a map and no `other`, a text outside of it is bad.
    """
    if not mapped and other is ABSENT and empty is ABSENT:
        if convert is str:
            return lambda row: fill(row) or ABSENT
        return lambda row: convert(text) if (text := fill(row)) else ABSENT
    is_closed = bool(mapped) and other is ABSENT

    def make(row: Row) -> Any:
        text = fill(row)
        if text in mapped:
            return mapped[text]
        if not text:
            return empty
        if is_closed:
            raise Bad("not_mapped", text, "one of " + ", ".join(mapped), "add it to `map`, or an `else`")
        return convert(text) if other is ABSENT else other

    return make


def _instant(text: str, options: Options) -> int:
    moment, has_time = _moment(text, options.formats)
    if not has_time:
        if options.at is None:
            raise Bad("date_without_time", text, "a time of day", 'say which with `at`, e.g. at: "00:00"')
        moment = datetime.combine(moment.date(), options.at)
    if moment.tzinfo is None:
        # In a gap of the zone this moves forward by the gap, in an overlap it is the earlier instant.
        moment = moment.replace(tzinfo=options.zone)
    micros = (moment - EPOCH) // MICROSECOND
    if not MIN_INSTANT <= micros <= MAX_INSTANT:
        raise Bad("bad_time", text, "a time in the years 1 to 9999, in UTC too")
    return micros


def _moment(text: str, formats: tuple[str, ...]) -> tuple[datetime, bool]:
    """The moment, and whether the text has a time of day."""
    for layout in formats:
        try:
            return _in_layout(text, layout)
        except (ValueError, ArithmeticError):
            continue
    raise Bad("bad_time", text, f"a time as {' or '.join(formats)}", "say how times look with `format`")


def _in_layout(text: str, layout: str) -> tuple[datetime, bool]:
    if layout == "iso":
        return _iso(text)
    if layout in ("epoch_s", "epoch_ms"):
        unit = 1_000_000 if layout == "epoch_s" else 1_000
        return EPOCH + timedelta(microseconds=int(Decimal(text) * unit)), True
    return datetime.strptime(text, layout), any(code in layout for code in ("%H", "%I"))


def _iso(text: str) -> tuple[datetime, bool]:
    if len(text) > LONGEST_DATE:
        return datetime.fromisoformat(text), True
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
    known = BOOLEANS.get(text.lower())
    if known is None:
        expected = "true or false, yes or no, t or f, 1 or 0"
        raise Bad("bad_boolean", text, expected, "use `map` for other words")
    return known


def is_true(cell: str, column: str) -> bool | None:
    """Whether the cell of a condition says true or false; None if it is empty. Raises Bad."""
    if cell and cell.lower() not in BOOLEANS:
        raise Bad("bad_boolean", cell, f"true or false in {column}", "list other words in the condition")
    return BOOLEANS[cell.lower()] if cell else None
