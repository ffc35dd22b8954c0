"""`leadlog import` and `leadlog publish` beside bare loops: `python -m tests.bench.importing --rows N`.

The files are in the shape of a HubSpot export and are read by the mapping that ships: a history of properties
(one event a row) and entries into deal stages (four joins, two events for most rows). The rivals
(`bare_sending`) read the same files, encode with fastavro and send with aiokafka: no mapping, no validation,
no headers. All of a size are measured one after the other, in the order of the table.
"""

import asyncio
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import click

from services.generator import kinds
from services.generator.stream import Plan, lines
from services.settings import Addresses
from tests.bench import ground

SIZES = (10_000, 100_000)
"""Smaller runs before the one asked for: memory must not grow from one to the next."""
LEADLOG = (sys.executable, "-c", "from services.cli import main; main()")
BARE = (sys.executable, "-m", "tests.bench.bare_sending")
MAPPED = ("--mapping", str(ground.ROOT / "infra" / "mappings" / "hubspot.yaml"), "--json")
SYNCED = "2026-04-01 03:00:00"
STAGES = ("appointmentscheduled", "qualifiedtobuy", "contractsent", "closedwon", "closedlost")
PROPERTIES = ("hs_email_open", "city", "industry", "num_visits", "hs_analytics_source")
FIRST = datetime(2026, 1, 1)


class Used(NamedTuple):
    """What a command took."""

    rows: int
    events: int
    seconds: float
    """Wall time by the command's own account: without the start of Python."""
    cpu: float
    """Seconds of processor time, all of the process."""
    peak_mb: float


def write_export(folder: Path, rows: int, wide: str) -> None:
    """A HubSpot export in which one table has so many rows: `contact_property_history` or `deal_stage`."""
    rng = random.Random(1)
    deals = rows // 4 if wide == "deal_stage" else 0
    tables: dict[str, tuple[str, Iterable[Sequence[object]]]] = {
        "contact": ("id,property_email,property_createdate,property_hs_merged_object_ids", ()),
        "deal": (
            "deal_id,is_deleted,property_dealname,property_amount,property_createdate",
            ((deal, "false", f"Deal {deal}", f"{deal % 9_000}.50", _time(deal)) for deal in range(deals)),
        ),
        "deal_contact": ("contact_id,deal_id", ((deal * 7 % (deals or 1), deal) for deal in range(deals))),
        "deal_pipeline_stage": ("stage_id,label,closed_won,is_closed", _stages()),
        wide: _wide(wide, rows, deals, rng),
    }
    for name in ("contact_property_history", "deal_stage"):
        tables.setdefault(name, _wide(name, 0, 0, rng))
    folder.mkdir()
    for name, (header, cells) in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            writer.writerows(cells)


def _wide(name: str, rows: int, deals: int, rng: random.Random) -> tuple[str, Iterable[Sequence[object]]]:
    numbers = range(rows)
    if name == "deal_stage":
        header = "deal_id,date_entered,value,_fivetran_active,_fivetran_synced"
        return header, ((rng.randrange(deals), _time(n), rng.choice(STAGES), "TRUE", SYNCED) for n in numbers)
    header = "contact_id,timestamp,_fivetran_synced,source,name,value,source_id"
    return header, (
        (
            rng.randrange(rows),
            _time(n),
            SYNCED,
            "WORKFLOWS",
            rng.choice(PROPERTIES),
            f"value {n % 97}",
            "wf-1",
        )
        for n in numbers
    )


def _stages() -> Iterator[Sequence[object]]:
    for name in STAGES:
        yield name, name.title(), str(name == "closedwon").upper(), str(name.startswith("closed")).upper()


def _time(number: int) -> str:
    """A time for each number, a second apart and with milliseconds, as HubSpot has them."""
    return (FIRST + timedelta(seconds=number, milliseconds=number % 1_000)).isoformat(" ", "milliseconds")


def write_lines(file: Path, events: int) -> None:
    """Made-up events as `leadlog publish` reads them."""
    plan = Plan(1, events, None, ground.START, 365, kinds.shares("usual"))
    with file.open("wb") as sink:
        sink.writelines(line.json + b"\n" for line in lines(plan))


def measured(command: Sequence[str], addresses: Addresses, folder: Path) -> Used:
    """Runs a command that ends with a line of JSON, and weighs its process."""
    environment = os.environ | {f"LEADLOG_{name.upper()}": at for name, at in addresses._asdict().items()}
    with (folder / "told").open("wb+") as told:
        process = subprocess.Popen(
            command,
            env=environment | {"LEADLOG_STATE": str(folder)},
            stdout=told,
            stderr=subprocess.STDOUT,
            cwd=ground.ROOT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        lines_told = told.read().decode().splitlines()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {lines_told[-20:]}")
    summary = json.loads(lines_told[-1])
    events = summary["events"] if "events" in summary else summary["taken"]
    return Used(
        summary.get("rows", events),
        events,
        summary["seconds"],
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024 / 1e6,
    )


async def measure(addresses: Addresses, rows: int) -> None:
    """The rows of one size."""
    with tempfile.TemporaryDirectory(prefix="leadlog-bench-") as name:
        folder = Path(name)
        exports = {wide: folder / wide for wide in ("contact_property_history", "deal_stage")}
        for wide, export in exports.items():
            await asyncio.to_thread(write_export, export, rows, wide)
        file = folder / "events.jsonl"
        await asyncio.to_thread(write_lines, file, rows)
        history = exports["contact_property_history"]
        commands = {
            "bare loop, CSV": (*BARE, "csv", str(history / "contact_property_history.csv")),
            "import, property history": (*LEADLOG, "import", str(history), *MAPPED),
            "import, deal stages, 4 joins": (*LEADLOG, "import", str(exports["deal_stage"]), *MAPPED),
            "bare loop, JSON lines": (*BARE, "lines", str(file)),
            "publish": (*LEADLOG, "publish", str(file), "--json"),
        }
        for told, command in commands.items():
            await ground.fill(addresses, [])
            row(told, await asyncio.to_thread(measured, command, addresses, folder))


def row(told: str, used: Used) -> None:
    """A row of the table."""
    click.echo(
        f"{told:32}{used.rows:>10,}{used.rows / used.seconds:>10,.0f}{used.events / used.seconds:>10,.0f}"
        f"{used.cpu / used.rows * 1e6:>10.1f}{used.peak_mb:>9.0f}"
    )


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of the largest files.")
def main(rows: int) -> None:
    """Rate, processor time and peak memory of import and publish. Takes about 8 minutes."""
    servers = ground.servers()
    click.echo(f"{'':32}{'rows':>10}{'rows/s':>10}{'events/s':>10}{'us/row':>10}{'peak MB':>9}")
    try:
        for size in (*[size for size in SIZES if size < rows], rows):
            asyncio.run(measure(servers.addresses, size))
    finally:
        servers.close()


if __name__ == "__main__":
    main()
