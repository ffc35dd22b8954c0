"""Clock and notifier: `leadlog run clock|notifier` under the supervisor. What they do is `services`'."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra import ports
from infra.supervision import Program
from services import settings

NAMES = tuple(ports.ALERTING)


def programs(state: Path, chosen: Mapping[str, int]) -> Iterator[Program]:
    """How supervisord runs them. They are started when the database is ready for them."""
    leadlog = str(Path(sys.executable).with_name("leadlog"))
    environment = settings.given() | {"LEADLOG_STATE": str(state)}
    for name in NAMES:
        command = [leadlog, "run", name, "--web-port", str(chosen[name])]
        yield Program(name, command, environment, None, "TERM", settings.SHUTDOWN_SECONDS, starts_alone=False)
