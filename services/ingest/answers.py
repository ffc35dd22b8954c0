"""What the door answers: one result per event, or a problem of the whole request.

Promises: the structs here are the bodies, field by field; `openapi` describes them from the same source.
Problems are RFC 9457 (`application/problem+json`). Leaves deciding to the modules that raise.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from starlette.responses import Response

from schemas.contract import MAX_EVENT_BYTES
from schemas.faults import Fault
from services import settings
from services.ingest import metrics

RETRY_SECONDS = 1
"""`Retry-After`: the servers are looked at once a second."""
RETRY_LATER = {"Retry-After": str(RETRY_SECONDS)}
JSON_TYPE, PROBLEM_TYPE = "application/json", "application/problem+json"
PROBLEM = "urn:leadlog:problem:"
"""Before the stable name of a problem, its title in lower case, on which programs may rely."""

Status = Literal["taken", "refused", "unacknowledged", "valid"]
"""`unacknowledged`: Kafka did not say in time that it has the event. `valid`: of a dry run."""


class Result(Struct, frozen=True):
    """What became of one event."""

    index: int
    """Place in the request, from 0; lines without an event are not counted."""
    event_id: str | None
    """As sent, where it could be read."""
    status: Status
    faults: tuple[Fault, ...] = ()
    """Everything that is wrong with a refused event."""


class Answer(Struct, frozen=True):
    """The body of 200, 202, 207, 422, and of 503 once events were sent."""

    taken: int
    """Events that all in-sync replicas of Kafka have."""
    refused: int
    results: list[Result]
    """One for each event, in order."""


class Problem(Struct, frozen=True):
    """Why a request was not taken, as RFC 9457 has it."""

    type: str
    """Stable, for programs."""
    title: str
    status: int
    detail: str
    """What was found, what was expected, and what to do."""


class Limits(Struct, frozen=True):
    """What the door takes at most."""

    event_bytes: int
    """One event as JSON."""
    request_events: int
    request_bytes: int
    """A body as sent, and after inflating."""


LIMITS = Limits(MAX_EVENT_BYTES, settings.INGEST_MAX_EVENTS, settings.INGEST_MAX_BYTES)


class NotTaken(Exception):
    """Nothing of the request is taken, and the problem says why."""

    def __init__(
        self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.body = Problem(PROBLEM + title.lower().replace(" ", "-"), title, status, detail)
        self.headers = headers


def away(servers: Iterable[str]) -> NotTaken:
    """The problem of servers that do not answer."""
    told = " and ".join(sorted(servers))
    detail = (
        f"nothing was taken, since the door cannot use {told} now (why: GET /readyz). Send it again later"
    )
    return NotTaken(503, "Server away", detail, RETRY_LATER)


def problem_response(error: NotTaken) -> Response:
    """A problem as a response."""
    body = error.body
    metrics.PROBLEMS.labels(body.type.removeprefix(PROBLEM)).inc()
    return _json(body.status, body, PROBLEM_TYPE, error.headers)


def answer_response(results: Sequence[Result], is_dry_run: bool) -> Response:
    """The results as a response; the status code says whether all, some or none were taken."""
    statuses = [result.status for result in results]
    answer = Answer(statuses.count("taken"), statuses.count("refused"), list(results))
    _count(results)
    if "unacknowledged" in statuses:
        return _json(503, answer, headers=RETRY_LATER)
    if answer.refused:
        return _json(422 if answer.refused == len(results) else 207, answer)
    return _json(200 if is_dry_run else 202, answer)


def json_response(body: object) -> Response:
    """A plain 200."""
    return _json(200, body)


def _json(
    status: int,
    body: object,
    media_type: str = JSON_TYPE,
    headers: Mapping[str, str] | None = None,
) -> Response:
    metrics.RESPONSES.labels(status).inc()
    return Response(msgspec.json.encode(body), status, headers, media_type)


def _count(results: Iterable[Result]) -> None:
    for status, number in Counter(result.status for result in results).items():
        metrics.EVENTS.labels(status).inc(number)
    for code, number in Counter(fault.code for result in results for fault in result.faults).items():
        metrics.FAULTS.labels(code).inc(number)
