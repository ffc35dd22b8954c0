"""`leadlog bi`: for the tools that read the schema `bi`."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import click
import yaml

from services.cli.exits import ask
from services.store.pool import Connection
from services.store.versions import NothingPromoted

LINE_LENGTH = 110

COMMENTED = """
select
  class.relname as view,
  obj_description(class.oid) as view_comment,
  attribute.attname as column,
  col_description(class.oid, attribute.attnum) as comment,
  format_type(attribute.atttypid, attribute.atttypmod) as type
from pg_class class
join pg_namespace namespace on namespace.oid = class.relnamespace and namespace.nspname = 'bi'
join pg_attribute attribute on attribute.attrelid = class.oid and attribute.attnum > 0
where to_regclass('bi.lead_current') is not null
order by class.relname, attribute.attnum
"""

DESCRIPTION = "select obj_description(oid) from pg_namespace where nspname = 'bi'"

FRESHNESS = {
    "loaded_at_field": "now() - lag_seconds * interval '1 second'",
    "freshness": {
        "warn_after": {"count": 15, "period": "minute"},
        "error_after": {"count": 1, "period": "hour"},
    },
}
"""What `dbt source freshness` asks of `data_freshness`; all views are as fresh, being written together."""

Columns = Sequence[Mapping[str, Any]]


@click.group("bi")
def command() -> None:
    """What BI tools read: the views of schema `bi`."""


@command.command("sources")
def sources() -> None:
    """Print a dbt sources file: every view and column with its type and comment.

    For example `leadlog bi sources > models/leadlog/sources.yml`.
    """
    description, columns = ask(read)
    if not columns:
        raise NothingPromoted
    file = {"version": 2, "sources": [as_source(description, columns)]}
    click.echo(yaml.safe_dump(file, sort_keys=False, allow_unicode=True, width=LINE_LENGTH), nl=False)


async def read(connection: Connection) -> tuple[str, Columns]:
    """The schema's comment, and its columns by view in their order; none before the first version."""
    return await connection.fetchval(DESCRIPTION), await connection.fetch(COMMENTED)


def as_source(description: str, columns: Columns) -> dict[str, Any]:
    """A source as dbt's property files have it."""
    tables = []
    for (view, comment), of_view in groupby(columns, key=lambda row: (row["view"], row["view_comment"])):
        shown = [
            {"name": row["column"], "description": row["comment"], "data_type": row["type"]}
            for row in of_view
        ]
        config = {"config": FRESHNESS} if view == "data_freshness" else {}
        tables.append({"name": view, "description": comment, **config, "columns": shown})
    return {"name": "leadlog", "schema": "bi", "description": description, "tables": tables}
