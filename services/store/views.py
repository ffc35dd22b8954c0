"""The views of schema `bi`, and what lets them read one version or another.

Promises: a switch is one change for readers, who see the old version or the new one and never none; names,
comments and grants stay. A view whose SQL is as it was made last is left alone, so a switch replaces the
plain views of schema `promoted` only. The SQL stands whole in `infra/bi`, one file a view. Leaves the
transaction, its locks and time limits to the caller.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from importlib import resources

from services.store.pool import Connection

COMMENT = re.compile(
    r"^comment on (?:view|column) bi\.(\w+)(?:\.(\w+))? is\s+'((?:[^']|'')*)';$", re.MULTILINE
)
"""A comment in a file of `infra/bi`: view, column if any, text with doubled quotes."""

READ = re.compile(r"\b(?:from|join) bi\.(\w+)")
"""A view that a view reads."""

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


MADE = """
select bi_view.name, bi_view.sql
from ops.bi_view
join pg_class on relname = bi_view.name and relnamespace = 'bi'::regnamespace
"""

REMEMBER = """
insert into ops.bi_view (name, sql)
select * from unnest($1::text[], $2::text[])
on conflict (name) do update set sql = excluded.sql
"""


@dataclass(frozen=True)
class Rendered:
    """The views, each after those that it reads, and the comments they should have."""

    views: Mapping[str, str]
    comments: Mapping[Subject, str]


@cache
def render() -> Rendered:
    """What the files of `infra/bi` say."""
    texts = _texts()
    return Rendered(
        views={view: COMMENT.sub("", text).strip() for view, text in texts.items()},
        comments={
            (view, column or None): body
            for text in texts.values()
            for view, column, body in COMMENT.findall(text)
        },
    )


def _texts() -> dict[str, str]:
    """The files of `infra/bi` by view, each after those of the views that it reads."""
    folder = resources.files("infra").joinpath("bi")
    texts = {
        file.name.removesuffix(".sql"): file.read_text()
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }
    reads = {view: texts.keys() & set(READ.findall(text)) - {view} for view, text in texts.items()}
    return {view: texts[view] for view in TopologicalSorter(reads).static_order()}


async def are_outdated(connection: Connection) -> bool:
    """Whether another release made the views, or fewer of them."""
    return await _made(connection) != render().views


async def _made(connection: Connection) -> dict[str, str]:
    """The views that there are, with the SQL that they were made with."""
    return {row["name"]: row["sql"] for row in await connection.fetch(MADE)}


async def replace_views(connection: Connection, promoted: Sequence[str]) -> None:
    """Lets the views read what the SQL of `promoted_views` says, in the caller's transaction; makes missing
    ones.

    All waiting for readers is in one statement, so `statement_timeout` bounds the sum of it. A comment is
    written only where it differs, since each one costs time while readers wait.
    """
    rendered = render()
    comments = await connection.fetch(KNOWN_COMMENTS)
    made = await _made(connection)
    changed = {view: sql for view, sql in rendered.views.items() if made.get(view) != sql}
    if changed:
        await connection.execute(REMEMBER, list(changed), list(changed.values()))
    replaced = "\n".join((*promoted, *changed.values()))
    await connection.execute(f"do $views$\nbegin\n{replaced}\nend\n$views$")
    known = {(row["relname"], row["attname"]): row["description"].replace("'", "''") for row in comments}
    missing = [
        _comment(subject, text) for subject, text in rendered.comments.items() if known.get(subject) != text
    ]
    if missing:
        await connection.execute("\n".join(missing))


def _comment(subject: Subject, text: str) -> str:
    view, column = subject
    target = f"view bi.{view}" if column is None else f"column bi.{view}.{column}"
    return f"comment on {target} is '{text}';"
