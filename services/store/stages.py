"""A version's stages as a table, in the order that reports show them."""

from projections.rules import Rules
from schemas.records import Micros
from services.store.pool import Connection

STAGE = "stage"
TABLE = """
create table if not exists {schema}.stage (
  definition_no integer not null,
  valid_from    timestamptz,
  position      integer not null,
  name          text not null,
  role          text not null,
  primary key (definition_no, position)
);
comment on table {schema}.stage is 'The stages of each definition: success stages upwards, then detours.';
comment on column {schema}.stage.valid_from is 'When the definition takes effect; null = at first.';
"""

StageRow = tuple[int, Micros | None, int, str, str]
"""A row of `stage`: number of the definition, when it takes effect, place from 1, name, role."""


async def write_stages(connection: Connection, schema: str, rules: Rules) -> None:
    """Fills the table of a version anew; makes it if missing. In the caller's transaction."""
    await connection.execute(TABLE.format(schema=schema))
    await connection.execute(f"delete from {schema}.stage")
    await connection.copy_records_to_table("stage", schema_name=schema, records=stage_rows(rules))


def stage_rows(rules: Rules) -> list[StageRow]:
    """The rows of the table."""
    return [
        (number, start if number else None, place, stage.name, stage.role)
        for number, (start, definition) in enumerate(zip(rules.starts, rules.definitions, strict=True))
        for place, stage in enumerate(definition.stages, start=1)
    ]
