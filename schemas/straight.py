"""Avro readers and writers as straight-line code, made for one schema each.

Promises: what a reader returns is what fastavro returns for the same bytes, and what a writer gives is what
fastavro gives; tests hold both against it. A reader is a fast path: it raises on everything unusual
(long-winded integers, blocks with sizes, bytes that end early), valid or not, and its caller then asks
fastavro. Three to five times as fast as fastavro, whose time goes into walking the schema for every record.

The code is made from Avro's specification of the binary encoding
(https://avro.apache.org/docs/1.12.0/specification).
"""

from collections.abc import Callable, Iterator
from itertools import count
from struct import Struct
from typing import Any

Reader = Callable[[bytes, int], tuple[dict[str, Any], int]]
"""Value and position of the body in it, to the fields and the position behind them."""
Writer = Callable[[Any, bytearray], None]
"""Appends a record's fields, read from its attributes."""

_SIZES = tuple(byte >> 1 if byte < 128 and not byte & 1 else -1 for byte in range(256))
"""Byte to the length of up to 63 that it stands for, -1 where it stands for none."""
_EIGHT, _DOUBLE = Struct("<Q"), Struct("<d")
_SHORT = 1024
"""Texts of fewer bytes have their encoded length ready."""


class Unusual(ValueError):
    """Bytes that the fast path leaves to fastavro."""


def reader(schema: Any) -> Reader:
    """A reader of bodies of a record schema (parsed JSON, logical types ignored)."""
    code = _Code(schema)
    result = code.read(schema)
    lines = ["def made(b, p):", *(f"    {line}" for line in code.lines), f"    return {result}, p"]
    made: Reader = _compiled(lines)
    return made


def writer(schema: Any) -> Writer:
    """A writer of records whose attributes have the names of the schema's fields."""
    code = _Code(schema)
    code.write(schema, "r")
    lines = ["def made(r, out):", *(f"    {line}" for line in code.lines)]
    made: Writer = _compiled(lines)
    return made


def _compiled(lines: list[str]) -> Any:
    # Made from schemas of the registry by the rules below; names pass `_name`, so no foreign text is run.
    scope = {
        "SIZES": _SIZES,
        "Unusual": Unusual,
        "size": _size,
        "long": _long,
        "LENGTHS": _LENGTHS,
        "SHORT": _SHORT,
        "double": _DOUBLE.unpack_from,
        "encoded_long": _encoded_long,
        "put_long": _put_long,
        "pack_double": _DOUBLE.pack,
    }
    exec("\n".join(lines), scope)
    return scope["made"]


def _name(text: Any) -> str:
    if not isinstance(text, str) or not text.isidentifier():
        raise Unusual(f"{text!r} is no Avro name")
    return text


class _Code:
    """The lines of one function, while they are written."""

    def __init__(self, schema: Any) -> None:
        self.lines: list[str] = []
        self._indent = ""
        self._fresh = count()
        self._records = dict(_records(schema, ""))

    def add(self, *lines: str) -> None:
        self.lines += [self._indent + line for line in lines]

    def nest(self, opening: str, body: Callable[[], None]) -> None:
        self.add(opening)
        self._indent += "    "
        body()
        self._indent = self._indent[:-4]

    def variable(self) -> str:
        return f"v{next(self._fresh)}"

    def read(self, schema: Any) -> str:
        """Lines that read a value; returns the expression that stands for it."""
        match self._kind(schema):
            case "record":
                parts = {_name(f["name"]): self.read(f["type"]) for f in self._record(schema)["fields"]}
                return "{" + ", ".join(f"{name!r}: {value}" for name, value in parts.items()) + "}"
            case "union":
                return self._read_union(schema)
            case "array":
                return self._read_blocks("[]", lambda into: self._read_item(schema, into))
            case "map":
                return self._read_blocks("{}", lambda into: self._read_entry(schema, into))
            case kind:
                target = self.variable()
                self.add(*(line.replace("$", target) for line in _READ[kind]))
                return target

    def _read_union(self, branches: list[Any]) -> str:
        target, tag = self.variable(), self.variable()
        self.add(f"{tag} = b[p]; p += 1")
        for at, branch in enumerate(branches):

            def body(branch: Any = branch) -> None:
                value = self.read(branch)
                self.add(f"{target} = {value}")

            self.nest(f"{'elif' if at else 'if'} {tag} == {at * 2}:", body)
        self.nest("else:", lambda: self.add("raise Unusual('branch')"))
        return target

    def _read_blocks(self, empty: str, item: Callable[[str], None]) -> str:
        target, left = self.variable(), self.variable()
        self.add(f"{target} = {empty}", f"{left}, p = size(b, p)")

        def block() -> None:
            self.nest(f"for _ in range({left}):", lambda: item(target))
            self.add(f"{left}, p = size(b, p)")

        self.nest(f"while {left}:", block)
        return target

    def _read_item(self, schema: Any, into: str) -> None:
        value = self.read(schema["items"])
        self.add(f"{into}.append({value})")

    def _read_entry(self, schema: Any, into: str) -> None:
        key = self.read("string")
        value = self.read(schema["values"])
        self.add(f"{into}[{key}] = {value}")

    def write(self, schema: Any, value: str) -> None:
        """Lines that write the value of an expression."""
        match self._kind(schema):
            case "record":
                for field in self._record(schema)["fields"]:
                    self.write(field["type"], f"{value}.{_name(field['name'])}")
            case "union":
                self._write_union(schema, value)
            case "array":
                self._write_blocks(value, lambda at: self.write(schema["items"], at))
            case "map":
                self._write_blocks(value, lambda at: self._write_entry(schema, value, at))
            case kind:
                self.add(*(line.replace("$", value) for line in _WRITE[kind]))

    def _write_union(self, branches: list[Any], value: str) -> None:
        local = self.variable()
        self.add(f"{local} = {value}")
        for at, branch in enumerate(branches):

            def body(branch: Any = branch, at: int = at) -> None:
                self.add(f"out.append({at * 2})")
                self.write(branch, local)

            test = _IS.get(self._kind(branch), "True").replace("$", local)
            self.nest(f"{'elif' if at else 'if'} {test}:", body)
        self.nest("else:", lambda: self.add(f"raise TypeError({local})"))

    def _write_blocks(self, value: str, item: Callable[[str], None]) -> None:
        at = self.variable()

        def block() -> None:
            self.add(f"put_long(out, len({value}))")
            self.nest(f"for {at} in {value}:", lambda: item(at))

        self.nest(f"if {value}:", block)
        self.add("out.append(0)")

    def _write_entry(self, schema: Any, value: str, key: str) -> None:
        self.write("string", key)
        self.write(schema["values"], f"{value}[{key}]")

    def _kind(self, schema: Any) -> str:
        if isinstance(schema, list):
            return "union"
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            return self._kind(kind)
        if kind in self._records:
            return "record"
        if kind not in ("record", "array", "map", *_READ):
            raise Unusual(f"no straight-line code for {kind!r}")
        return str(kind)

    def _record(self, schema: Any) -> Any:
        return schema if isinstance(schema, dict) else self._records[schema]


def _records(schema: Any, space: str) -> Iterator[tuple[str, Any]]:
    """The records within a schema by the names that may stand for them."""
    if isinstance(schema, list):
        for part in schema:
            yield from _records(part, space)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            space = schema.get("namespace", space)
            yield schema["name"], schema
            yield f"{space}.{schema['name']}", schema
        for part in (f["type"] for f in schema.get("fields", ())):
            yield from _records(part, space)
        for key in ("type", "items", "values"):
            if isinstance(schema.get(key), dict | list):
                yield from _records(schema[key], space)


def _size(b: bytes, p: int) -> tuple[int, int]:
    """A count or length that is not negative."""
    n, p = _long(b, p)
    if n < 0:
        raise Unusual("negative count")
    return n, p


_LOW_BITS, _STOP_BITS = 0x7F7F7F7F7F7F7F7F, 0x8080808080808080
_EIGHT_BYTES_LONG = 0x0080808080808080
"""The stop bits of an integer of exactly eight bytes: instants of the years 1979 to 3111."""
_LEAST_OF_EIGHT_BYTES, _MOST_OF_EIGHT_BYTES = 1 << 49, (1 << 56) - 1


def _long(b: bytes, p: int) -> tuple[int, int]:
    """A zigzag integer of up to eight bytes, and the position behind it."""
    first = b[p]
    if first < 128:
        return (first >> 1) ^ -(first & 1), p + 1
    if p + 8 <= len(b):
        (w,) = _EIGHT.unpack_from(b, p)
        if w & _STOP_BITS == _EIGHT_BYTES_LONG:
            # Squeeze the eight groups of seven bits together: by pairs, then by fours, then by eight.
            w &= _LOW_BITS
            w = (w & 0x007F007F007F007F) | ((w & 0x7F007F007F007F00) >> 1)
            w = (w & 0x00003FFF00003FFF) | ((w & 0x3FFF00003FFF0000) >> 2)
            w = (w & 0x000000000FFFFFFF) | ((w & 0x0FFFFFFF00000000) >> 4)
            return (w >> 1) ^ -(w & 1), p + 8
    return _slow_long(b, p)


def _slow_long(b: bytes, p: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        byte = b[p]
        p += 1
        n |= (byte & 0x7F) << shift
        if byte < 128:
            return (n >> 1) ^ -(n & 1), p
        shift += 7
        if shift > 56:
            raise Unusual("long integer")


def _put_long(out: bytearray, n: int) -> None:
    """Append a zigzag integer."""
    n = (n << 1) ^ (n >> 63)
    if n < 128:
        out.append(n)
    elif _LEAST_OF_EIGHT_BYTES <= n <= _MOST_OF_EIGHT_BYTES:
        # The way back of `_long`: spread eight groups of seven bits, by fours, by pairs, then each.
        n = (n & 0x000000000FFFFFFF) | ((n & 0x00FFFFFFF0000000) << 4)
        n = (n & 0x00003FFF00003FFF) | ((n & 0x0FFFC0000FFFC000) << 2)
        n = (n & 0x007F007F007F007F) | ((n & 0x3F803F803F803F80) << 1)
        out += _EIGHT.pack(n | _EIGHT_BYTES_LONG)
    else:
        _put_slow_long(out, n)


def _put_slow_long(out: bytearray, n: int) -> None:
    while n > 127:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)


def _encoded_long(n: int) -> bytes:
    out = bytearray()
    _put_long(out, n)
    return bytes(out)


_LENGTHS = tuple(_encoded_long(n) for n in range(_SHORT))

_READ = {
    "string": (
        "$ = SIZES[b[p]]; p += 1",
        "if $ < 0: $, p = size(b, p - 1)",
        "$ = b[p:(p := p + $)].decode()",
    ),
    "long": ("$, p = long(b, p)",),
    "int": ("$, p = long(b, p)",),
    "double": ("($,) = double(b, p); p += 8",),
    "boolean": ("$ = (False, True)[b[p]]; p += 1",),
    "null": ("$ = None",),
}
_WRITE = {
    "string": (
        "text = $.encode(); n = len(text)",
        "out += LENGTHS[n] if n < SHORT else encoded_long(n)",
        "out += text",
    ),
    "long": ("put_long(out, $)",),
    "int": ("put_long(out, $)",),
    "double": ("out += pack_double($)",),
    "boolean": ("out.append(1 if $ else 0)",),
    "null": ("",),
}
_IS = {
    "null": "$ is None",
    "string": "type($) is str",
    "boolean": "type($) is bool",
    "double": "type($) in (float, int)",
    "long": "type($) is int",
    "int": "type($) is int",
}
"""How a writer tells the branches of a union apart; records, arrays and maps stand last in ours."""
