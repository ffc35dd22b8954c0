"""The clock's Prometheus metrics."""

from prometheus_client import Counter, Gauge, Histogram

FIRED = Counter("leadlog_clock_fired", "Thresholds of SLA clocks that fired.", ["kind"])
LATE_SECONDS = Histogram(
    "leadlog_clock_late_seconds",
    "Time from the instant of a threshold until it was fired.",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0, 3600.0),
)
OPENED = Counter("leadlog_clock_alerts_opened", "Alerts opened, by kind: single or digest.", ["kind"])
SILENT = Counter("leadlog_clock_silent_obligations", "Obligations that were opened silently.")
BEAT = Gauge(
    "leadlog_clock_last_look_timestamp_seconds",
    "Unix time when this clock last looked. One that only stands by has 0.",
)
LEADS = Gauge("leadlog_clock_is_leader", "1 for the one clock that fires, 0 for one that stands by.")
