"""`leadlog log`: the log in Postgres against the topics, and made from them again."""

import click

from infra import MIGRATIONS
from services import settings
from services.cli.exits import REFUSED
from services.cli.layout import console, table
from services.cli.replay import Teller, kindly, with_processes
from services.replay.log_rebuild import log_rebuild
from services.replay.log_verify import Checked, log_verify
from services.replay.workers import Effort

HEADINGS = ("topic", "partition", "records", "kept", "rejects", "content hash", "on the topic", "verdict")


@click.group("log")
def command() -> None:
    """The log in Postgres: compare it with the topics, rebuild it."""


@command.command("verify")
def verify_command() -> None:
    """Compare the log with the topics, partition by partition. Exit 1 when they differ."""
    checked = kindly(log_verify(settings.addresses(), Teller()))
    rows = [(*each[:6], each.topic_hash, _verdict(each)) for each in checked]
    table(
        console(),
        HEADINGS,
        rows,
        right=("partition", "records", "kept", "rejects"),
        wrapped=("content hash", "on the topic"),
    )
    if not all(each.is_equal for each in checked):
        raise SystemExit(REFUSED)
    click.echo("the log holds exactly what the topics hold")


@command.command("rebuild")
@with_processes
def rebuild_command(processes: int) -> None:
    """Fill an empty Postgres from the topics. Log, versions, and the definition in force.

    What never was on the topics does not come back: keys of the HTTP door, and what on-call was told, so that
    nobody is told again of what is overdue by now.
    """
    numbers = kindly(log_rebuild(settings.addresses(), MIGRATIONS, Teller(), Effort(processes, 0)))
    click.echo(f"the log is rebuilt; BI reads version {numbers[-1]} of {len(numbers)}")
    click.echo(
        "Not on the topics, so not back: keys of the door (`leadlog up` makes that of the local stack, "
        "`leadlog key create` others) and alerts (who waits too long now: `leadlog summary`)"
    )


def _verdict(found: Checked) -> str:
    wrong = {
        "missing": found.missing,
        "not on the topic": found.foreign_rows,
        "altered": found.altered,
        "rejects missing": found.rejects_missing,
        "rejects not on the topic": found.rejects_foreign,
    }
    told = ", ".join(f"{number} {name}" for name, number in wrong.items() if number)
    return told or ("equal" if found.is_equal else "other content")
