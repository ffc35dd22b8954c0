"""Hypothesis strategies for records, made from the types of their fields."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from schemas.faults import FIELDS
from schemas.records import MAX_DAY, MAX_INSTANT, MIN_DAY, MIN_INSTANT, RECORDS, Record

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def records() -> st.SearchStrategy[Record]:
    """Any record that can be stored; most break a rule of the doors."""
    return st.sampled_from(list(RECORDS)).flatmap(record)


def record(name: str) -> st.SearchStrategy[Record]:
    """Any record of this name that can be stored."""
    fields = FIELDS[name]
    required = {field.name: values(field.type) for field in fields if field.required}
    optional = {field.name: values(field.type) for field in fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(
        lambda members: msgspec.convert(members, RECORDS[name])
    )


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, as msgspec converts them."""
    match kind:
        case inspect.Metadata(extra={"json": "instant"}):
            return st.integers(MIN_INSTANT, MAX_INSTANT)
        case inspect.Metadata():
            return st.integers(MIN_DAY, MAX_DAY)
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.StrType():
            longest = min(kind.max_length or 20, 20)
            return TEXT.filter(lambda text: (kind.min_length or 0) <= len(text) <= longest)
        case inspect.IntType():
            return st.integers(kind.ge, kind.le)
        case inspect.FloatType():
            return NUMBERS
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.ListType():
            return st.lists(values(kind.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(TEXT, values(kind.value_type), max_size=3)
        case inspect.StructType():
            members = {field.name: values(field.type) for field in kind.fields}
            return st.fixed_dictionaries(members)
        case inspect.UnionType():
            return st.one_of([values(part) for part in kind.types])
    raise TypeError(f"no values for {kind}")
