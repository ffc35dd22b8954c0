"""From cells of a row to the values of a record's fields.

Promises: a maker either gives a value as `schemas.contract.record_of` takes it, or ABSENT for nothing, or
raises Bad with what was found and expected. Nothing is guessed: a time without offset has the zone of the
mapping, a date without time needs to be told which, a number that does not fit is refused rather than
rounded, an id with a gap in it is none.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
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


OTHER_ENCODING: Final = "its bytes are not UTF-8, or not what the mapping says: set `encoding` of the input"


def _sha256(text: str) -> str:
    try:
        return hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:
        raise Bad("not_storable", text, "text in the encoding of its file", OTHER_ENCODING) from None


FILTERS: Final[dict[str, Callable[[str], str]]] = {
    "lower": str.lower,
    "upper": str.upper,
    "sha256": _sha256,
}
BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "t", "1"), True),
    **dict.fromkeys(("false", "no", "f", "0"), False),
}
SAME_TIMES: Final = 128
"""Times remembered: those of a row, each of which several of its events may have, and of rows beside it."""
LONGEST_DATE: Final = len("YYYY-MM-DD")
"""No ISO 8601 date without time is longer."""
_PLACE = re.compile(r"\{([^{}]*)\}")
_WITH_COMMA = re.compile(r"[^.]*|[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?")
"""A number with a decimal comma: points part groups of three digits, so that 1.5 is not 15."""


class Template(NamedTuple):
    """Text with `{column}` or `{column|filter|..}` in it, taken apart."""

    layout: str
    """The text, with %s for each cell."""
    columns: tuple[str, ...]
    filters: tuple[tuple[str, ...], ...]
    """The names of those of each cell."""
    is_whole: bool
    """Whether each brace has its other one."""


def template(text: str) -> Template:
    """Takes a template apart."""
    parts = _PLACE.split(text)
    is_whole = not any(brace in literal for literal in parts[0::2] for brace in "{}")
    places = [[name.strip() for name in place.split("|")] for place in parts[1::2]]
    layout = "%s".join(literal.replace("%", "%%") for literal in parts[0::2])
    columns = tuple(column for column, *_ in places)
    return Template(layout, columns, tuple(tuple(names) for _, *names in places), is_whole)


# The shortest way to a row's text: one of these runs for nearly every field of every row.


def text_of(made: Template) -> Fill:
    """The text of a row; empty if all its cells are."""
    layout, columns = made.layout, made.columns
    if not columns:
        text = layout % ()
        return lambda row: text
    if len(columns) == 1 and not any(made.filters):
        return _text_of_one(layout, columns[0])
    cells_of = _cells_of(made)
    return lambda row: layout % cells if any(cells := cells_of(row)) else ""


def _text_of_one(layout: str, column: str) -> Fill:
    if layout == "%s":
        return itemgetter(column)
    return lambda row: layout % cell if (cell := row[column]) else ""


def id_of(made: Template) -> Fill:
    """The text of a row as `text_of`; a row that has some of its cells and not the others is bad."""
    if len(made.columns) < 2:
        return text_of(made)
    layout, cells_of = made.layout, _cells_of(made)

    def fill(row: Row) -> str:
        cells = cells_of(row)
        if all(cells):
            return layout % cells
        if any(cells):
            raise _gap(made, layout % cells, cells)
        return ""

    return fill


def _gap(made: Template, text: str, cells: Sequence[str]) -> Bad:
    missing = ", ".join(column for column, cell in zip(made.columns, cells, strict=True) if not cell)
    hint = f"{missing} is empty: leave such rows out with `when`, or make the id of other columns"
    return Bad("gap_in_id", text, "a cell in every column of an id", hint)


def _cells_of(made: Template) -> Callable[[Row], tuple[str, ...]]:
    if any(made.filters):
        filters = [[FILTERS[name] for name in names if name in FILTERS] for names in made.filters]
        places = list(zip(made.columns, filters, strict=True))
        return lambda row: tuple([_filtered(row[column], steps) for column, steps in places])
    return itemgetter(*made.columns)


def _filtered(cell: str, steps: Iterable[Callable[[str], str]]) -> str:
    for step in steps:
        cell = step(cell) if cell else ""
    return cell


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
        return lru_cache(SAME_TIMES)(lambda text: _instant(text, options))
    if kind == "date":
        return lambda text: _moment(text, options.formats)[0].toordinal() - EPOCH_DAY
    if kind == "integer":
        return lambda text: _integer(text, options)
    if kind == "number":
        return lambda text: _number(_decimal(text, options))
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
    return datetime.strptime(text, layout), any(code in layout for code in ("%H", "%I", "%c", "%X"))


def is_time_format(layout: str) -> bool:
    """Whether times can look like this: a name of `format`, or what `strptime` reads."""
    if layout in ("iso", "epoch_s", "epoch_ms"):
        return True
    try:
        datetime.strptime(EPOCH.strftime(layout), layout)
    except ValueError:
        return False
    return "%" in layout


def _iso(text: str) -> tuple[datetime, bool]:
    if len(text) > LONGEST_DATE:
        return datetime.fromisoformat(text), True
    try:
        return datetime.combine(date.fromisoformat(text), time()), False
    except ValueError:
        return datetime.fromisoformat(text), True


def _decimal(text: str, options: Options) -> Decimal:
    has_comma = options.decimal == ","
    if has_comma and not _WITH_COMMA.fullmatch(text):
        raise Bad("bad_number", text, "a number such as 1.234,50")
    try:
        number = Decimal(text.replace(".", "").replace(",", ".") if has_comma else text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or abs(number.adjusted()) > 300:
        raise Bad("bad_number", text, "a number", 'with a decimal comma: decimal: ","')
    return number


def _number(number: Decimal) -> int | float:
    """Whole numbers as such, so that the contract sees those that a double does not hold."""
    return int(number) if number == number.to_integral_value() else float(number)


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
