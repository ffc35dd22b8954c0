"""The body of a request: read, inflated, and cut into one piece of JSON per event.

Promises: no more than the limits is ever held, and inflating stops where they end. A JSON document must be
whole; in NDJSON every line stands for itself. Whatever cannot be cut into events raises NotTaken, and nothing
of it is taken. Leaves what the events say to `checking`.
"""

import asyncio
import codecs
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from schemas import lenient
from services import settings
from services.ingest.answers import LIMITS, NotTaken
from services.ingest.gate import Room

_CLOSE, _GZIP_ONLY = {"Connection": "close"}, {"Accept-Encoding": "gzip"}
GZIP = 16 + zlib.MAX_WBITS
"""For zlib: a gzip stream, with its checksum."""
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(msgspec.Raw)


async def read_events(request: Request, room: Room) -> list[bytes]:
    """Each event of a request as it was sent, at least one. Raises NotTaken."""
    cut = _cutter(request.headers.get("content-type"))
    inflate = _inflater(request.headers.get("content-encoding"))
    body = inflate(await _read(request, room))
    room.hold(len(body))
    events = cut(body.removeprefix(codecs.BOM_UTF8))
    if not events:
        raise NotTaken(400, "No event", "the body holds no event, expected at least one")
    if len(events) > LIMITS.request_events:
        detail = f"the body holds more than {LIMITS.request_events:,} events: send them in several requests"
        raise NotTaken(413, "Too many events", detail)
    return events


async def _read(request: Request, room: Room) -> bytes:
    announced = int(request.headers.get("content-length", "0"))
    if announced > LIMITS.request_bytes:
        raise _too_large(f"the body has {announced:,} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(settings.INGEST_BODY_SECONDS):
            async for chunk in request.stream():
                room.hold(len(chunk))
                body += chunk
                if len(body) > LIMITS.request_bytes:
                    raise _too_large(f"the body has {len(body):,} bytes or more")
    except TimeoutError:
        detail = f"{len(body)} bytes of the body came within {settings.INGEST_BODY_SECONDS} s: send it again"
        raise NotTaken(408, "Body too slow", detail, _CLOSE) from None
    except ClientDisconnect:
        raise NotTaken(400, "Body cut short", "the connection ended before the body did") from None
    return bytes(body)


def _too_large(found: str) -> NotTaken:
    detail = f"{found}, expected at most {LIMITS.request_bytes:,} bytes: send fewer events at once"
    return NotTaken(413, "Body too large", detail, _CLOSE)


def _inflater(coding: str | None) -> Callable[[bytes], bytes]:
    match (coding or "identity").strip().lower():
        case "identity":
            return bytes
        case "gzip" | "x-gzip":
            return _inflated
        case other:
            detail = f"the body has the content coding {other[:50]!r}, expected gzip or none"
            raise NotTaken(415, "Unknown content coding", detail, _GZIP_ONLY)


def _inflated(body: bytes) -> bytes:
    stream = zlib.decompressobj(GZIP)
    try:
        inflated = stream.decompress(body, LIMITS.request_bytes + 1)
    except zlib.error as error:
        raise _not_gzip(str(error)) from None
    if len(inflated) > LIMITS.request_bytes:
        raise _too_large("the body inflates to more than is taken")
    if not stream.eof:
        raise _not_gzip("it ends before the stream does")
    if stream.unused_data:
        raise _not_gzip(f"{len(stream.unused_data)} bytes follow the stream; send one stream a request")
    return inflated


def _not_gzip(why: str) -> NotTaken:
    return NotTaken(400, "Not gzip", f"the body cannot be inflated as gzip: {why}")


@lru_cache(maxsize=100)
def _cutter(content_type: str | None) -> Callable[[bytes], list[bytes]]:
    """How a body of this type is cut. Raises NotTaken 415."""
    parsed = Message()
    parsed["content-type"] = content_type or "none/none"
    kind, charset = parsed.get_content_type(), parsed.get_param("charset", "utf-8")
    cut = _CUTTERS.get(kind)
    if cut is None or str(charset).lower() not in ("utf-8", "utf8", "us-ascii"):
        found = "no content type" if content_type is None else f"the content type {content_type[:80]!r}"
        detail = (
            f"the request has {found}, expected application/json for one event or an array of events, or "
            "application/x-ndjson for one event a line, in UTF-8"
        )
        raise NotTaken(415, "Unknown content type", detail, {"Accept": ACCEPTED})
    return cut


def _document(body: bytes) -> list[bytes]:
    """The event of an object, or the events of an array."""
    try:
        if not body.isascii():
            body.decode()
        if body.lstrip()[:1] == b"[":
            return [bytes(event) for event in islice(_ARRAY.decode(body), LIMITS.request_events + 1)]
        if body.lstrip()[:1] == b"{":
            return [bytes(_OBJECT.decode(body))]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        with suppress(ValueError, RecursionError):
            return list(islice(lenient.pieces(body), LIMITS.request_events + 1))
        raise _not_json(body, str(error)) from None
    if not body.strip():
        return []
    raise _not_json(body, f"it begins with {body.lstrip()[:4].decode(errors='ignore')[:1]!r}")


def _not_json(body: bytes, why: str) -> NotTaken:
    detail = f"the body is no JSON object and no JSON array of objects in UTF-8: {why}"
    if b"\n" in body.strip() and body.lstrip()[:1] == b"{":
        detail += ". One event a line is sent with the content type application/x-ndjson"
    return NotTaken(400, "Not JSON", detail)


def _lines(body: bytes) -> list[bytes]:
    """The lines that hold anything."""
    return list(islice(_filled(body), LIMITS.request_events + 1))


def _filled(body: bytes) -> Iterator[bytes]:
    return (line for line in map(bytes.strip, io.BytesIO(body)) if line)


_CUTTERS: dict[Any, Callable[[bytes], list[bytes]]] = {
    "application/json": _document,
    "application/x-ndjson": _lines,
    "application/ndjson": _lines,
    "application/jsonl": _lines,
}
ACCEPTED = ", ".join(_CUTTERS)
"""Media types of a body, as the header `Accept` of an answer lists them."""
