"""`leadlog key`: who may send events to the HTTP door."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
import click

from schemas.instants import rfc3339
from schemas.topics import EVENTS, INPUT_TOPICS
from services.cli.exits import REFUSED, ask, end
from services.cli.layout import console, table
from services.cli.numbers import NumberRange
from services.store.keys import (
    Key,
    end_key,
    new_secret,
    put_key,
    read_keys,
    records_of,
    rotate_key,
)
from services.store.pool import Connection
from services.wording import instant

HOUR = 3600.0
Result = TypeVar("Result")


@click.group("key")
def command() -> None:
    """Keys with which events are sent to the HTTP door."""


@command.command()
@click.option("--source", metavar="NAME", help="The `source` of its events; others are refused.")
@click.option("--any-source", is_flag=True, help="Instead of --source: it sends for several systems.")
@click.option(
    "--record",
    "records",
    metavar="NAME",
    multiple=True,
    default=[EVENTS],
    show_default=True,
    help="A record, or a topic for all of its records, that it may send; may be repeated.",
)
@click.option("--may-import", is_flag=True, help="Its events may bring their own recorded_at: history.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def create(
    source: str | None, any_source: bool, records: tuple[str, ...], may_import: bool, as_json: bool
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    if bool(source) == any_source:
        raise click.UsageError("give --source NAME, or --any-source")
    try:
        wanted = records_of(records)
    except ValueError as error:
        raise click.UsageError(f"--record: {error}") from error
    secret = new_secret()
    key = _with(lambda connection: put_key(connection, secret, source, wanted, may_import))
    assert key is not None, "a random key was there before"
    _print_new(secret, key, as_json)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_keys(as_json: bool) -> None:
    """List all keys, also those that ended."""
    keys = _with(read_keys)
    if as_json:
        click.echo(json.dumps([_about(key) for key in keys]))
    else:
        _show(keys)


@command.command()
@click.argument("key_id")
@click.option(
    "--overlap-hours",
    default=24.0,
    show_default=True,
    type=NumberRange(0, 24 * 366),
    help="So long the old key goes on working, unless it ends before.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rotate(key_id: str, overlap_hours: float, as_json: bool) -> None:
    """Replace a key by a new one with the same rights. Print that, once."""
    secret = new_secret()
    old, new = _with(lambda connection: rotate_key(connection, key_id, secret, overlap_hours * HOUR))
    _print_new(secret, new, as_json)
    click.echo(f"Key {key_id} ends at {instant(old.valid_until)} UTC.", err=True)


@command.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End a key now. Doors that run stop taking it within seconds."""
    _with(lambda connection: end_key(connection, key_id, 0))
    click.echo(f"Key {key_id} is revoked.")


def _with(work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Does something with a connection."""
    try:
        return ask(work)
    except asyncpg.UndefinedTableError:
        end(REFUSED, "this database has no table of keys yet: `leadlog up` or `leadlog migrate` makes it")


def _print_new(secret: str, key: Key, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"key": secret} | _about(key)))
    else:
        click.echo(secret)
        click.echo(f"This is key {key.key_id}. It works at once, and is shown this once.", err=True)


def _about(key: Key) -> dict[str, Any]:
    moments = {"created_at": key.created_at, "valid_until": key.valid_until, "last_used_at": key.last_used_at}
    return {
        "key_id": key.key_id,
        "source": key.source,
        "records": records_of(key.records),
        "may_import": key.may_import,
    } | {name: None if moment is None else rfc3339(moment) for name, moment in moments.items()}


def _show(keys: list[Key]) -> None:
    rows = []
    for about in map(_about, keys):
        source = about["source"] or "(any)"
        imports = "yes" if about["may_import"] else ""
        moments = [instant(about[name]) for name in ("created_at", "last_used_at", "valid_until")]
        rows.append((about["key_id"], source, _short(about["records"]), imports, *moments))
    headings = ("key", "source", "records", "import", "created", "last used", "until")
    table(console(), headings, rows, wrapped=("records",))


def _short(records: Sequence[str]) -> str:
    """The records, those of a whole topic by its name."""
    left, shown = set(records), []
    for topic in INPUT_TOPICS:
        members = set(records_of([topic]))
        if members <= left:
            shown.append(topic)
            left -= members
    return ", ".join([*shown, *records_of(left)])
