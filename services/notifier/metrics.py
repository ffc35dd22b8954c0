"""The notifier's Prometheus metrics."""

from prometheus_client import Counter, Gauge

SENT = Counter("leadlog_notifier_sent", "States of alerts that a receiver took.", ["channel"])
FAILED = Counter("leadlog_notifier_failed", "Tries to send that failed.", ["channel"])
GAVE_UP = Counter("leadlog_notifier_gave_up", "Alerts that a channel could not be told.", ["channel"])
WAITING = Gauge("leadlog_notifier_waiting", "Alerts that a channel is still to be told.", ["channel"])
OLDEST_SECONDS = Gauge(
    "leadlog_notifier_oldest_seconds", "Age of the oldest change that a channel was not told.", ["channel"]
)
BEAT = Gauge("leadlog_notifier_last_look_timestamp_seconds", "Unix time when it last looked for alerts.")
CLOCK_BEAT = Gauge(
    "leadlog_clock_beat_timestamp_seconds",
    "Unix time of the clock's sign of life in Postgres, as the notifier sees it.",
)
WATCHDOG = Gauge(
    "leadlog_notifier_watchdog_timestamp_seconds", "Unix time when a watchdog was last taken.", ["channel"]
)
