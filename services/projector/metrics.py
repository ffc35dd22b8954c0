"""The projector's Prometheus metrics: names, units and help texts in one place.

Promises: every metric of a projector process is defined here and nowhere else; importing only registers them.
Leaves serving them to `health` and setting them to the code that knows the value.
"""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bucket bounds of durations: a commit on a quiet disk is 1 ms, a batch of 1,000 events about 80 ms."""

BATCHES = Counter("leadlog_projector_batches", "Batches that were stored.")
RECORDS = Counter("leadlog_projector_records", "Kafka records handed over in stored batches.", ["topic"])
BATCH_RECORDS = Histogram(
    "leadlog_projector_batch_records",
    "Records per batch.",
    buckets=(1, 10, 50, 100, 250, 500, 1000, 2500, 5000),
)
BATCH_SECONDS = Histogram(
    "leadlog_projector_batch_seconds",
    "Time from handing a batch over until it is stored, retries included.",
    buckets=SECONDS,
)
COMMIT_SECONDS = Histogram(
    "leadlog_projector_commit_seconds", "Time of the COMMIT alone, at the end of a batch.", buckets=SECONDS
)
RETRIES = Counter(
    "leadlog_projector_retries", "Batches tried again, by the error that made it so.", ["error"]
)
CANCELLED_BATCHES = Counter(
    "leadlog_projector_cancelled_batches", "Batches rolled back because a rebalance or a stop could not wait."
)
REBALANCES = Counter("leadlog_projector_rebalances", "Times this worker was given partitions.")

ASSIGNED = Gauge("leadlog_projector_assigned_partitions", "Partitions this worker reads now.")
LAG = Gauge(
    "leadlog_projector_lag_records",
    "Records on the topic that are not in Postgres yet, of partitions this worker reads.",
    ["topic", "partition"],
)
MISSING = Gauge(
    "leadlog_projector_missing_records",
    "Records that are stored and on the topic no more, of partitions this worker reads: it was made anew.",
)
WRONG_TOPICS = Gauge(
    "leadlog_projector_wrong_topics",
    "Partitions and settings of topics that are not as the contract says: `leadlog doctor` lists them.",
)
LAST_PROGRESS = Gauge(
    "leadlog_projector_last_progress_timestamp_seconds",
    "Unix time when a stored offset last moved or everything was last seen stored.",
)

REJECTS = Counter("leadlog_projector_rejects", "Records refused, by reason code.", ["reason"])
REFOLDS = Counter(
    "leadlog_projector_refolds", "Journeys folded again from their first event, by version.", ["version"]
)
STALE_JOURNEYS = Gauge(
    "leadlog_projector_stale_journeys", "Journeys whose rows are behind the log, by version.", ["version"]
)
PARKED_JOURNEYS = Gauge(
    "leadlog_projector_parked_journeys", "Journeys set aside because their fold or write failed.", ["version"]
)
OUTBOX_PENDING = Gauge("leadlog_projector_outbox_pending", "Outbox rows that wait to be sent.")
OUTBOX_SENT = Counter("leadlog_projector_outbox_sent", "Outbox rows sent to their topic.")
FED_VERSION = Gauge(
    "leadlog_projector_fed_version",
    "1 for every projection version this worker feeds.",
    ["version", "definition_version"],
)
FEEDS_PROMOTED = Gauge(
    "leadlog_projector_feeds_promoted",
    "1 when this worker feeds the version that BI reads, 0 when that is of another release.",
)
