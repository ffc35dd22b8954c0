"""Log lines as JSON on stderr, the same fields in the same order for our own code and for libraries.

Promises: one line per entry with `ts` (UTC), `level`, `event`, `logger`, `service`, `worker` and its own
fields; an exception is text in `exception`. Libraries speak from WARNING up, and a library that repeats one
message is cut to one line per `REPEAT_SECONDS`, with the number left out in `suppressed`: a broker that is
away makes thousands. Leaves the wording to the callers, who use `structlog.get_logger`.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

OURS = ("services", "infra", "projections", "schemas")
REPEAT_SECONDS = 10.0
"""How long a library's message stays silent after it was shown once."""
REMEMBERED_MESSAGES = 1_000
"""Bound of the memory for repeated messages: some libraries format values into the message itself."""
FIELDS = ("ts", "level", "event", "logger", "service", "worker")


class RepeatFilter(logging.Filter):
    """Lets a library say each message template once per `seconds` and counts the rest."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True when the record is to be shown; sets its `suppressed` when others were not."""
        if is_ours(record.name):
            return True
        key, now = (record.name, str(record.msg)), self._clock()
        shown_at, left_out = self._seen.get(key, (None, 0))
        if shown_at is not None and now - shown_at < self._seconds:
            self._seen[key] = (shown_at, left_out + 1)
            return False
        if len(self._seen) >= REMEMBERED_MESSAGES:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if left_out:
            record.suppressed = left_out
        return True


def is_ours(logger_name: str) -> bool:
    """Whether the logger belongs to this project rather than to a library."""
    return logger_name.partition(".")[0] in OURS


def configure(service: str, worker: str, level: str) -> None:
    """Send all log entries of this process to stderr. `level` (`info`, `debug`) is for our own loggers."""
    common: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(allow=["suppressed"]),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _naming(service, worker),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _route_stdlib(common, level)


def _route_stdlib(common: list[Processor], level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _as_json],
        )
    )
    handler.addFilter(RepeatFilter(REPEAT_SECONDS))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("crashed", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    error = ended.exc_value or ended.exc_type()
    logging.getLogger(__name__).critical("thread_crashed", exc_info=error)


def _naming(service: str, worker: str) -> Processor:
    def name(logger: WrappedLogger, method: str, entry: EventDict) -> EventDict:
        entry["service"], entry["worker"] = service, worker
        return entry

    return name


def _as_json(logger: WrappedLogger, method: str, entry: EventDict) -> str:
    ordered: dict[str, Any] = {field: entry.pop(field, None) for field in FIELDS}
    return msgspec.json.encode({**ordered, **entry}, enc_hook=repr).decode()
