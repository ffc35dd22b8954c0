"""Files that hold no lines of JSON: what they are and what to do, told once instead of line by line.

Promises: a file with an object on one of its first lines is never called foreign. Leaves judging lines to
`schemas.contract`.
"""

from codecs import BOM_UTF8

HEAD_BYTES = 64 * 1024
"""So much of a file is looked at."""
FIRST_LINES = 20

SIGNS = (
    (b"\x1f\x8b", "it is compressed: `gzip -dc FILE | leadlog publish -`"),
    (b"PK\x03\x04", "it is a ZIP archive or a spreadsheet: save the data as CSV, for `leadlog import`"),
    (b"\xff\xfe", "it is UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "it is UTF-16: save it as UTF-8"),
    (b"[", "it is one JSON array: `jq -c '.[]' FILE` makes lines of it"),
    (b"{", "its objects have several lines: `jq -c . FILE` writes each on one"),
)
"""How a file begins, and what that means."""
OTHER = "it is no JSON: a CSV file comes in with `leadlog import FILE --mapping MAPPING.yaml`"


def meaning(head: bytes) -> str | None:
    """What a file that begins so is, when it holds no lines of JSON; None when it may hold some."""
    lines = [line for line in _whole_lines(head.removeprefix(BOM_UTF8)) if line.strip()][:FIRST_LINES]
    if not lines or any(map(_may_be_object, lines)):
        return None
    return next((meant for sign, meant in SIGNS if lines[0].lstrip().startswith(sign)), OTHER)


def _whole_lines(head: bytes) -> list[bytes]:
    """Its lines, without one that may go on."""
    lines = head.split(b"\n")
    return lines if len(head) < HEAD_BYTES else lines[:-1]


def _may_be_object(line: bytes) -> bool:
    """Whether it was meant as an object, well-formed or not."""
    return line.strip().startswith(b"{") and line.strip().endswith(b"}")
