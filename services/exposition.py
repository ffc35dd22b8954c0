"""What a process tells Prometheus: its own metrics, and none that came with what it imports.

The verifier imports the fold, and with it the metrics of a projector, which stand at zero there: an alert
that no projector reports could never fire.
"""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

HEADERS = {"Content-Type": CONTENT_TYPE_LATEST}


def exposition(service: str) -> bytes:
    """The metrics of a service, and those of the process, as Prometheus' text."""
    return generate_latest(_Own(service))


class _Own(CollectorRegistry):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._prefix = f"leadlog_{service}_"

    def collect(self) -> Iterator[Metric]:
        return (
            each
            for each in REGISTRY.collect()
            if each.name.startswith(self._prefix) or not each.name.startswith("leadlog_")
        )
