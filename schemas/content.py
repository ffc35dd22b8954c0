"""What an event says, as bytes that are equal whenever the content is.

Promises: the canonical JSON of a record does not depend on the door it came through, on when it was recorded,
or on a later schema version that adds an optional field. Copies of an id are compared by the hash.
"""

import hashlib

import msgspec

from schemas.records import Envelope

HASH_BYTES = 16
_encode = msgspec.json.Encoder(order="sorted").encode


def canonical_json(record: Envelope) -> bytes:
    """The record as JSON with sorted keys, without `recorded_at` and without fields that hold their default.

    Instants are integers (microseconds), doubles always have a point or an exponent. Raises
    UnicodeEncodeError on text with lone surrogates.
    """
    # The name with an integer behind it stands only at the top level: maps hold texts and arrays.
    return _encode(record).replace(b'"recorded_at":%d,' % record.recorded_at, b"", 1)


def content_hash(record: Envelope) -> bytes:
    """BLAKE2b of the canonical JSON, 16 bytes."""
    return hash_of(canonical_json(record))


def hash_of(canonical: bytes) -> bytes:
    """BLAKE2b of canonical JSON that is at hand already, 16 bytes."""
    return hashlib.blake2b(canonical, digest_size=HASH_BYTES).digest()


def holds_nul(encoded: bytes) -> bool:
    """Whether JSON made by msgspec holds the character NUL, which Postgres cannot store in text."""
    return b"\\u0000" in encoded and "\0" in _characters(msgspec.json.decode(encoded))


def _characters(value: object) -> str:
    """All text of a decoded JSON value, keys too."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(key + _characters(part) for key, part in value.items())
    return "".join(map(_characters, value)) if isinstance(value, list) else ""
