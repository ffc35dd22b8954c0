"""What was said of a lead, and when: one row per change of an attribute.

Promises: a row is a function of the event and the rules alone; an attribute that any definition of the
timeline calls personal has none. Leaves which value is the current one to the view, and what rules see of
attributes to `counters`.
"""

from projections.rules import Rules
from projections.table import Row, table
from schemas.records import AttributeChanged

TABLE = table("""
create table attribute_change (
    journey_id text collate "C" not null,
    event_id text collate "C" not null,
    name text collate "C" not null,
    value text collate "C",
    number_value double precision,
    changed_at timestamptz not null,
    source_sequence bigint,
    definition_version text collate "C" not null,
    primary key (journey_id, event_id)
)
""")


def row(journey_id: str, event: AttributeChanged, rules: Rules) -> Row | None:
    """None for a personal attribute. Value null = no longer known."""
    if event.name in rules.personal:
        return None
    return (
        journey_id,
        event.event_id,
        event.name,
        _text(event.value),
        event.value if isinstance(event.value, float) else None,
        event.occurred_at,
        event.source_sequence,
        rules.label,
    )


def _text(value: str | float | bool | None) -> str | None:
    """Numbers without a needless `.0`, booleans as `true` and `false`."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else value
