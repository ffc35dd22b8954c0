"""The schema registry: Apicurio with the Confluent API, on 127.0.0.1 only.

Promises that schemas and their ids survive restarts: they lie in a Postgres database of their own. Which
schemas it holds, and how compatible they must be, is set by `services.registry`.
"""

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from infra import artifacts, java
from infra.ports import HOST
from infra.supervision import Program
from services import settings

STOP_SECONDS = 20
CHECK_TIMEOUT_SECONDS = 2.0
# Of the server's hundred connections. Schemas are read once per process and kept.
CONNECTIONS = 5


def url(ports: Mapping[str, int]) -> str:
    """Base of the Confluent API."""
    return f"http://{HOST}:{ports['registry']}/apis/ccompat/v7"


def program(ports: Mapping[str, int], storage_dsn: str) -> Program:
    """How supervisord runs the registry. It starts once its database is there."""
    folder = artifacts.unpacked_registry(settings.cache_folder())
    # It answers a few requests when processes start, then sleeps.
    options = [java.BRIEF, "-jar", str(folder / "quarkus-run.jar")]
    command = java.command(settings.REGISTRY_HEAP_MB, *options)
    variables = environment(ports, storage_dsn)
    return Program("registry", command, variables, None, "TERM", STOP_SECONDS, starts_alone=False)


def environment(ports: Mapping[str, int], storage_dsn: str) -> dict[str, str]:
    """The registry's settings: listening on 127.0.0.1, storing in that database."""
    storage = urlsplit(storage_dsn)
    host = storage.hostname or HOST
    return {
        "QUARKUS_HTTP_HOST": HOST,
        "QUARKUS_HTTP_PORT": str(ports["registry"]),
        # The door asks every second, which would leave nothing else in the log.
        "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        "QUARKUS_MANAGEMENT_HOST": HOST,
        "QUARKUS_MANAGEMENT_PORT": str(ports["registry_management"]),
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "postgresql",
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{host}:{storage.port or 5432}{storage.path}",
        "APICURIO_DATASOURCE_USERNAME": unquote(storage.username or ""),
        "APICURIO_DATASOURCE_PASSWORD": unquote(storage.password or ""),
        "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
        "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
        "APICURIO_DATASOURCE_JDBC_MAX_SIZE": str(CONNECTIONS),
    }


async def answers(base: str) -> bool:
    """Whether the registry serves its API, storage included."""
    return await asyncio.to_thread(_answers, base)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/subjects", timeout=CHECK_TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False
