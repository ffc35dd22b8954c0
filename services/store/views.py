"""The views of schema `bi` on the promoted version.

Promises: replacing them is one change for readers, who see the old version or the new one and never none;
names, comments and grants stay. The SQL stands whole in `infra/bi`, one file a view, `{schema}` in place of
the version's schema. Leaves the transaction, its locks and time limits to the caller.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from services.store.pool import Connection

COMMENT = re.compile(
    r"^comment on (?:view|column) bi\.(\w+)(?:\.(\w+))? is\s+'((?:[^']|'')*)';$", re.MULTILINE
)
"""A comment in a file of `infra/bi`: view, column if any, text with doubled quotes."""

SCHEMA_NAME = re.compile(r"v\d{4,}")

KNOWN_COMMENTS = """
select class.relname, attribute.attname, description.description
from pg_class class
join pg_description description
  on description.objoid = class.oid and description.classoid = 'pg_class'::regclass
left join pg_attribute attribute
  on attribute.attrelid = class.oid and attribute.attnum = description.objsubid and description.objsubid > 0
where class.relnamespace = 'bi'::regnamespace
"""

Subject = tuple[str, str | None]
"""What a comment is on: a view, or a view and its column."""


@dataclass(frozen=True)
class Rendered:
    """The views of one version: one statement that replaces them all, and the comments they should have."""

    replace: str
    comments: Mapping[Subject, str]


@cache
def render(schema_name: str) -> Rendered:
    """The views on the version whose tables are in `schema_name`. Raises ValueError unless like v0001."""
    if not SCHEMA_NAME.fullmatch(schema_name):
        raise ValueError(f"{schema_name!r} names no version: expected v and its number, for example v0001")
    folder = resources.files("infra").joinpath("bi")
    texts = [file.read_text() for file in folder.iterdir() if file.name.endswith(".sql")]
    views = [COMMENT.sub("", text).strip().replace("{schema}", schema_name) for text in texts]
    comments = {
        (view, column or None): body for text in texts for view, column, body in COMMENT.findall(text)
    }
    return Rendered("do $views$\nbegin\n" + "\n".join(views) + "\nend\n$views$", comments)


async def replace_views(connection: Connection, schema_name: str) -> None:
    """Lets every view read the version in `schema_name`, in the caller's transaction; makes missing ones.

    All waiting for readers is in one statement, so `statement_timeout` bounds the sum of it. A comment is
    written only where it differs, since each one costs time while readers wait.
    """
    rendered = render(schema_name)
    rows = await connection.fetch(KNOWN_COMMENTS)
    await connection.execute(rendered.replace)
    known = {(row["relname"], row["attname"]): row["description"].replace("'", "''") for row in rows}
    missing = [
        _comment(subject, text) for subject, text in rendered.comments.items() if known.get(subject) != text
    ]
    if missing:
        await connection.execute("\n".join(missing))


def _comment(subject: Subject, text: str) -> str:
    view, column = subject
    target = f"view bi.{view}" if column is None else f"column bi.{view}.{column}"
    return f"comment on {target} is '{text}';"
