"""The door's Prometheus metrics: names, units and help texts in one place.

Promises: every metric of the door is defined here and nowhere else. Leaves serving them to `app`.
"""

from prometheus_client import Counter, Gauge, Histogram

RESPONSES = Counter("leadlog_ingest_responses", "Responses, by HTTP status.", ["status"])
PROBLEMS = Counter("leadlog_ingest_problems", "Requests of which nothing was taken, by problem.", ["problem"])
EVENTS = Counter(
    "leadlog_ingest_events",
    "Events, by what became of them.",
    ["status"],
)
FAULTS = Counter("leadlog_ingest_faults", "Faults of refused events, by code.", ["code"])
SECONDS = Histogram(
    "leadlog_ingest_request_seconds",
    "Time from the head of a request for events until its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
HELD_BYTES = Gauge("leadlog_ingest_held_bytes", "Bytes of the requests in hand, as they are bounded.")
AWAY = Gauge("leadlog_ingest_away", "1 for a server that does not answer.", ["server"])
