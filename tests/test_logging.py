"""Guards the log lines: stable fields for every speaker, and a library that repeats itself is cut short."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from services import logging as service_logging
from services.logging import REPEAT_SECONDS, RepeatFilter, configure


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    """What a configured process writes; the logging of the test run is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    configure("projector", "worker-1", "info")
    written = io.StringIO()
    stream = root.handlers[0]
    assert isinstance(stream, logging.StreamHandler)
    stream.setStream(written)
    yield written
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)
    structlog.reset_defaults()


def entries(sink: io.StringIO) -> list[dict[str, Any]]:
    """The lines written, as objects."""
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_own_entries_carry_the_stable_fields_first(sink: io.StringIO) -> None:
    """Time, level, event, logger, service and worker lead; the entry's own fields follow."""
    structlog.get_logger("services.projector").info("batch_cancelled", records=3)
    (entry,) = entries(sink)
    assert list(entry) == ["ts", "level", "event", "logger", "service", "worker", "records"]
    assert (entry["service"], entry["worker"], entry["records"]) == ("projector", "worker-1", 3)


def test_libraries_write_the_same_lines(sink: io.StringIO) -> None:
    """What Faust and aiokafka say through the standard library has the same fields."""
    logging.getLogger("aiokafka").error("Unable to connect to %s", "node 1")
    (entry,) = entries(sink)
    assert entry["event"] == "Unable to connect to node 1"
    assert entry["worker"] == "worker-1"


def test_an_exception_is_one_field(sink: io.StringIO) -> None:
    """A traceback does not break the line."""
    try:
        raise ValueError("a defect")
    except ValueError:
        structlog.get_logger("services.x").exception("fold_failed")
    (entry,) = entries(sink)
    assert entry["exception"].endswith("ValueError: a defect")


def test_libraries_below_warning_are_silent(sink: io.StringIO) -> None:
    """Only our own entries of level info are written."""
    logging.getLogger("faust").info("chatter")
    structlog.get_logger("services.x").debug("detail")
    assert entries(sink) == []


def test_a_value_json_does_not_know_is_written_as_text(sink: io.StringIO) -> None:
    """An odd value costs no log line."""
    structlog.get_logger("services.x").info("odd", value=service_logging)
    assert "services.logging" in entries(sink)[0]["value"]


def test_a_library_repeats_a_message_once_per_window() -> None:
    """The same template within the window is counted and not shown; the next one shown carries the count."""
    moments = iter((0.0, 1.0, 2.0, REPEAT_SECONDS + 0.1))
    limit = RepeatFilter(REPEAT_SECONDS, clock=lambda: next(moments))
    records = [logging.LogRecord("aiokafka", logging.ERROR, "", 0, "away: %s", (n,), None) for n in range(4)]
    assert [limit.filter(record) for record in records] == [True, False, False, True]
    assert getattr(records[3], "suppressed", None) == 2


def test_our_own_entries_are_never_cut() -> None:
    """Two parked journeys are two entries, however close."""
    limit = RepeatFilter(REPEAT_SECONDS)
    ours = [logging.LogRecord("services.projector.fold", 30, "", 0, "parked", (), None) for _ in range(3)]
    assert all(limit.filter(record) for record in ours)
