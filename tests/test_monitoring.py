"""What is shipped for Prometheus, Alertmanager and Grafana: their own tools accept it, and every metric in it
is one that a process exports, every runbook one that exists."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from infra import MIGRATIONS, ports
from services.clock import metrics as clock_metrics
from services.exposition import exposition
from services.ingest import metrics as ingest_metrics
from services.notifier import metrics as notifier_metrics
from services.notifier.config import read
from services.projector import metrics as projector_metrics
from services.verifier import metrics as verifier_metrics
from tests.receivers import program

FOLDER = MIGRATIONS.parent
RULES = FOLDER / "prometheus" / "rules.yml"
DASHBOARD = FOLDER / "grafana" / "leadlog.json"


@pytest.mark.parametrize(
    "command",
    [
        ("promtool", "test", "rules", "prometheus/rules_test.yml"),
        ("promtool", "check", "config", "prometheus/prometheus.yml"),
        ("amtool", "check-config", "alerts/alertmanager.yml"),
    ],
    ids=lambda command: command[-1],
)
def test_their_own_tools_accept_the_files(command: tuple[str, ...]) -> None:
    """The rules fire in the cases of rules_test.yml and in no other; the examples are valid."""
    name, *arguments, file = command
    line = [program(name), *arguments, str(FOLDER / file)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exported() -> set[str]:
    """Names of all metrics, without the suffixes of their series."""
    modules = (clock_metrics, ingest_metrics, notifier_metrics, projector_metrics, verifier_metrics)
    values = [value for module in modules for value in vars(module).values()]
    return {
        metric.name for value in values if isinstance(value, MetricWrapperBase) for metric in value.describe()
    }


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_named_is_exported(file: Path) -> None:
    """A renamed metric would make an alert silent and a panel empty."""
    names = set(re.findall(r"\bleadlog_(?:clock|ingest|notifier|projector|verifier)_\w+", file.read_text()))
    bare = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names}
    assert names
    assert bare <= exported()


@pytest.mark.parametrize("service", ["clock", "ingest", "notifier", "projector", "verifier"])
def test_a_process_tells_of_its_own_metrics_alone(service: str) -> None:
    """The door told of a projector at zero: that no projector reports was no alert, as one seemed to."""
    text = exposition(service).decode()
    assert set(re.findall(r"^leadlog_([a-z]+)_", text, re.MULTILINE)) == {service}
    assert "process_cpu_seconds_total" in text


def test_every_service_with_metrics_is_scraped() -> None:
    """The door was not, and in containers nobody but the door could be: both stacks have all of them."""
    jobs = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    local, compose = (job.get("dns_sd_configs") or job["static_configs"] for job in jobs)
    usual = (ports.SERVED["ingest"], ports.FIRST_WORKER, *ports.BACKGROUND.values())
    assert local[0]["targets"] == [f"{ports.HOST}:{port}" for port in usual]
    services = yaml.safe_load((FOLDER.parent / "docker-compose.yml").read_text())["services"]
    for target in compose:
        (name,) = target["names"]
        given = services[name]["environment"]
        assert given[f"LEADLOG_{name.upper()}_PORT"] == str(target["port"])
        assert given["LEADLOG_INGEST_HOST" if name == "ingest" else "LEADLOG_METRICS_HOST"] == "0.0.0.0"
    assert {target["names"][0] for target in compose} == {"ingest", "projector", *ports.BACKGROUND}


def test_every_alert_has_its_runbook() -> None:
    """The file that a rule or a message points at is there."""
    named = set(re.findall(r"infra/runbooks/([\w-]+)\.md", RULES.read_text()))
    present = {file.stem for file in (FOLDER / "runbooks").glob("*.md")}
    assert named | {"sla-warning", "sla-breach", "digest"} == present


def test_the_example_of_channels_is_valid() -> None:
    """Copying it is a start."""
    config = read(str(FOLDER / "alerts" / "channels.yaml"))
    assert sorted(config.channels) == ["crm", "mail", "pager"]


def test_the_dashboard_is_one() -> None:
    """Panels with ids of their own that ask the data source of the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) > 0
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}
