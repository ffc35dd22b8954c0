"""A table of a projection version: its SQL stands whole beside the code that makes its rows."""

from textwrap import dedent
from typing import NamedTuple

Row = tuple[object, ...]
"""Values in the order of the table's columns; instants are integers, microseconds since 1970-01-01T00:00:00Z.
"""


class Table(NamedTuple):
    """`sql` creates the table in the first schema of the search path; `key` is the primary key.

    The journey is the first column, and the first of the key.
    """

    name: str
    sql: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def table(sql: str) -> Table:
    """Reads a `create table` that has one column a line and ends with the line of its primary key."""
    first, *columns, key, _ = sql.strip().splitlines()
    return Table(
        name=first.split()[2],
        sql=dedent(sql).strip(),
        columns=tuple(column.split()[0] for column in columns),
        key=tuple(key[key.index("(") + 1 : key.rindex(")")].split(", ")),
    )
