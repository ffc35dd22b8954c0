"""Numbers that a person names on the command line."""

import click

from projections.yaml_tree import MAX_DURATION_DAYS

POSITIVE = click.IntRange(1, 2**31 - 1)
"""Of rows, or of a version: what Postgres' type `integer` holds."""
DAYS = click.IntRange(1, MAX_DURATION_DAYS)
