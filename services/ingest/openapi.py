"""The OpenAPI 3.1 document of the door.

Promises: schemas come from the structs that the code reads and writes, descriptions of events from the Avro
files, limits from the settings, so that the document says what the code does. Leaves rules between fields
(money without currency, a moment in the future) to the answers: JSON Schema cannot say them.
"""

import json
from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from schemas.ids import schema_text
from schemas.records import RECORDS
from services.ingest.answers import JSON_TYPE, LIMITS, PROBLEM_TYPE, Answer, Limits, Problem
from services.ingest.rejections import MAX_CURSOR
from services.rejections import Page

Json = dict[str, Any]

NDJSON_TYPE = "application/x-ndjson"
ANSWERS = {
    200: "A dry run in which every event is valid; nothing is taken.",
    202: "Every event is taken: Kafka has it on all in-sync replicas.",
    207: "Some events are taken, the others refused; one result per event, in order.",
    422: "No event is taken: every fault of each is listed.",
}
PROBLEMS = {
    400: "A parameter unknown, repeated or unreadable; a body without event, cut short, no JSON or no gzip.",
    401: "No key, or one that is not known.",
    403: "The key was revoked, or replaced by another.",
    408: "The body came too slowly.",
    413: "The body or the number of events is larger than `GET /v1/limits` says.",
    415: "Another content type or coding.",
    429: "The door has too many requests in hand.",
    500: "A defect of the door.",
}
RETRY = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}
HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}}},
    429: RETRY,
    503: RETRY,
}
EXAMPLE = {
    "record": "TouchRecorded",
    "event_id": "web:1",
    "subject_id": "web:5f3a",
    "occurred_at": "2026-03-02T10:15:00+01:00",
    "source": "website",
    "touch_type": "form_submitted",
    "direction": "inbound",
    "channel": "organic_search",
}


@cache
def document() -> Json:
    """The whole document, as JSON values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "leadlog: the HTTP door",
            "version": version("leadlog"),
            "description": "Takes events of the lead journey and brings them to the log.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/events": {"post": _post_events()},
            "/v1/rejections": {"get": _get_rejections()},
            "/v1/limits": {"get": _get("What the door takes at most", "limits", _ref("Limits"))},
            "/openapi.json": {"get": _get("This document", "openapi", {"type": "object"})},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The key as user name."},
            },
        },
    }


def _get(summary: str, operation: str, schema: Json) -> Json:
    answer = {"description": summary, "content": {JSON_TYPE: {"schema": schema}}}
    return {"summary": summary, "operationId": operation, "responses": {"200": answer}}


def _get_rejections() -> Json:
    since = {
        "name": "since",
        "in": "query",
        "description": "Refused at this instant or later.",
        "schema": {"type": "string", "format": "date-time"},
    }
    after = {
        "name": "after",
        "in": "query",
        "description": "The cursor of the page before.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_CURSOR},
    }
    found = _get(
        "Records on the topics that could not be taken, of the key's source", "rejections", _ref("Page")
    )
    problems = {
        str(status): {
            "description": PROBLEMS.get(status, "Postgres is away."),
            "headers": HEADERS.get(status, {}),
            "content": {PROBLEM_TYPE: {"schema": _ref("Problem")}},
        }
        for status in (400, 401, 403, 503)
    }
    return found | {
        "security": [{"bearer": []}, {"basic": []}],
        "parameters": [since, after],
        "responses": found["responses"] | problems,
    }


def _post_events() -> Json:
    dry_run = {
        "name": "dry_run",
        "in": "query",
        "description": "Check the events and take none.",
        "schema": {"type": "boolean", "default": False},
    }
    trace = {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context, passed on to Kafka. Another one is ignored.",
        "schema": {"type": "string"},
    }
    return {
        "summary": "Send events",
        "description": (
            f"One event, an array of them, or one a line; at most {LIMITS.request_events} events and "
            f"{LIMITS.request_bytes} bytes, also after inflating (`Content-Encoding: gzip`). Each event is "
            "judged for itself. An event that was not acknowledged may be sent again: its id counts once."
        ),
        "operationId": "postEvents",
        "security": [{"bearer": []}, {"basic": []}],
        "parameters": [dry_run, trace],
        "requestBody": {"required": True, "content": _contents()},
        "responses": _responses(),
    }


def _contents() -> Json:
    event = _ref("Event")
    several = {"type": "array", "items": event, "minItems": 1, "maxItems": LIMITS.request_events}
    lines = {"type": "string", "description": "One event as JSON a line; empty lines are passed over."}
    return {
        JSON_TYPE: {"schema": {"oneOf": [event, several]}, "example": EXAMPLE},
        NDJSON_TYPE: {"schema": lines, "example": json.dumps(EXAMPLE) + "\n"},
    }


def _responses() -> Json:
    answer, problem = {"schema": _ref("Answer")}, {"schema": _ref("Problem")}
    responses = {status: (told, {JSON_TYPE: answer}) for status, told in ANSWERS.items()}
    responses |= {status: (told, {PROBLEM_TYPE: problem}) for status, told in PROBLEMS.items()}
    told = "A server is away: nothing is taken (problem), or some events were not acknowledged (results)."
    responses[503] = (told, {JSON_TYPE: answer, PROBLEM_TYPE: problem})
    return {
        str(status): {"description": told, "headers": HEADERS.get(status, {}), "content": content}
        for status, (told, content) in sorted(responses.items())
    }


def _schemas() -> Json:
    kinds = [*RECORDS.values(), Answer, Problem, Limits, Page]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    events = {name: _event(name, _as_json(schema)) for name, schema in schemas.items() if name in RECORDS}
    union = {"oneOf": [_ref(name) for name in RECORDS], "discriminator": {"propertyName": "record"}}
    return schemas | events | {"Event": union}


def _event(name: str, schema: Json) -> Json:
    """The struct of a record as JSON over HTTP: documented, and stamped by the door."""
    avro = json.loads(schema_text(name))
    docs = {field["name"]: field.get("doc") for field in avro["fields"]}
    docs["recorded_at"] += " Set by the door, and refused unless the key may import history."
    fields = {
        field: {**about, "description": docs[field]} if docs.get(field) else about
        for field, about in schema["properties"].items()
    }
    required = [field for field in schema["required"] if field != "recorded_at"]
    for field in required:
        if fields[field].get("type") == "string":
            fields[field].setdefault("minLength", 1)
    return schema | {"description": avro["doc"], "properties": fields, "required": required}


def _as_json(schema: Any) -> Any:
    """Instants and dates are integers in memory and texts in JSON."""
    if isinstance(schema, list):
        return [_as_json(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") in ("date-time", "date"):
        return {"type": "string", "format": schema["format"]}
    return {name: _as_json(part) for name, part in schema.items()}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
