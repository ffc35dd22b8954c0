"""Postgres: connections, migrations, projection versions."""
