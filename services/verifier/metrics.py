"""The verifier's Prometheus metrics."""

from prometheus_client import Gauge

FINISHED = Gauge(
    "leadlog_verifier_last_finished_timestamp_seconds",
    "Unix time when a verification last finished, by hand too; before that, when a version was first made.",
)
SECONDS = Gauge("leadlog_verifier_last_duration_seconds", "How long the last verification took.")
DIFFERING = Gauge(
    "leadlog_verifier_last_differing",
    "What the last verification found other than the topics say: rows, folded states.",
    ["kind"],
)
INTERVAL = Gauge("leadlog_verifier_interval_seconds", "From the end of a verification to the next one.")
RUNS = Gauge("leadlog_verifier_runs", "1 while this verifier is at a verification.")
