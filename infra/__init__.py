"""How it runs: the local servers, tables and views of Postgres, mappings, lock files, `demo` and `test`."""

from pathlib import Path

MIGRATIONS = Path(__file__).parent / "migrations"
"""The folder of the SQL that makes the tables, applied in the order of the files' names."""
