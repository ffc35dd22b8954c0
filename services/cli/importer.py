"""`leadlog import`: CSV exports to events."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from services import settings
from services.cli.exits import REFUSED, USAGE, end, run
from services.cli.files import TEXT_FILE, text_of
from services.cli.sending import Display, summary
from services.collector import collect_seldom
from services.importer.events import RowFault
from services.importer.mapping import Mapping, MappingFaults, parse
from services.importer.rows import BadRow, Import, Progress, WrongFiles, assign
from services.publisher import Publisher
from services.wording import legible

BAD_ROWS_SHOWN = 10
"""Bad rows told to people one by one: enough to see what is wrong. `--json` tells all."""
CELL_CHARACTERS = 60
"""Of a longer cell no more is shown to people."""


@click.command("import")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--mapping", "mapping_file", required=True, type=TEXT_FILE, help="What the rows become.")
@click.option("--dry-run", is_flag=True, help="Check every row, send nothing. Needs no servers.")
@click.option(
    "--json", "as_json", is_flag=True, help="Every bad row (stderr) and summary (stdout) as JSON, one a line."
)
def command(files: tuple[Path, ...], mapping_file: Path, dry_run: bool, as_json: bool) -> None:
    """Import CSV FILES (or folders of them) by a mapping.

    infra/mappings/README.md says how one is written. A row becomes events, which are checked as at every
    door; a row with a fault is shown with file, line, cells and what is wrong, and the rest goes on. The
    same file twice changes nothing, since a row gives the same events. Without FILES they are looked for
    where the mapping says, in the folder of the setting LEADLOG_DATA.

    Exit 0: all rows taken, 1: some are bad, 2: mapping and files do not fit, 3: Kafka is away.
    """
    collect_seldom()
    mapping, job = _prepared(mapping_file, files)
    doing = "checking" if dry_run else "importing"
    with Display(f"{doing} {mapping.name}", job.total_bytes) as display:
        told = _Told(display, as_json)
        if dry_run:
            run(_look(job, told.taken))
        else:
            bootstrap = settings.addresses().kafka_bootstrap
            run(Publisher(bootstrap, taken=told.taken, say=display.say).publish(job.chunks()))
        seconds = display.seconds
    _sum_up(job, told, seconds, dry_run)


def _prepared(mapping_file: Path, files: tuple[Path, ...]) -> tuple[Mapping, Import]:
    """The mapping and the import of its files; ends the command if they do not fit."""
    try:
        mapping = parse(text_of(mapping_file))
        found, unused = assign(mapping, _listed(mapping, files))
        for file in unused if files else ():
            click.echo(f"leadlog: no input of mapping {mapping.name!r} wants {file}: left alone", err=True)
        for name, each in mapping.inputs.items():
            if name not in found:
                click.echo(f"leadlog: no file for {name} ({each.patterns[0]}), which is optional", err=True)
        return mapping, Import(mapping, found)
    except MappingFaults as faults:
        end(USAGE, f"{mapping_file} does not fit:\n{faults}")
    except WrongFiles as wrong:
        end(USAGE, str(wrong))


def _listed(mapping: Mapping, files: tuple[Path, ...]) -> list[Path]:
    """The files named; for a folder those in it; without any those of the data folder."""
    if not files:
        if mapping.folder is None:
            raise WrongFiles("no files were named: name them, or the folder that they are in")
        folder = settings.data_folder() / mapping.folder
        if not folder.is_dir():
            raise WrongFiles(
                f"no files were named, and there is no folder {folder} for mapping {mapping.name!r}: "
                "name the files, or set LEADLOG_DATA to the folder that holds the data sets"
            )
        files = (folder,)
    return [file for each in files for file in (sorted(each.glob("*.csv")) if each.is_dir() else [each])]


async def _look(job: Import, seen: Callable[[Progress], None]) -> None:
    """Make all events and send none."""
    async for chunk in job.chunks():
        seen(chunk.note)


class _Told:
    """Tells progress and bad rows, and remembers how often each thing was wrong."""

    def __init__(self, display: Display, as_json: bool) -> None:
        self.display, self.as_json = display, as_json
        self.bad_rows = 0
        self.faults: Counter[str] = Counter()

    def taken(self, step: Progress) -> None:
        for row in step.bad:
            self.bad_rows += 1
            self.faults.update(_kind(fault) for fault in row.faults)
            if self.as_json:
                self.display.say(msgspec.json.encode(row).decode())
            elif self.bad_rows <= BAD_ROWS_SHOWN:
                self.display.say("\n".join(_lines(row)))
        self.display.move(step.done_bytes, step.events, step.bad_rows)


def _lines(row: BadRow) -> Iterator[str]:
    """A bad row for people: where, what is wrong, and its cells."""
    yield f"{row.file}, line {row.line}:"
    for fault in row.faults:
        yield f"  {legible(_what(fault))}"
    cells = (f"{column}: {cell[:CELL_CHARACTERS]}" for column, cell in row.cells.items() if cell.strip())
    yield legible(f"  the row: {'; '.join(cells)}")


def _kind(fault: RowFault) -> str:
    return f"{fault.code} in {', '.join(fault.columns)}" if fault.columns else fault.code


def _what(fault: RowFault) -> str:
    columns = f"column {', '.join(fault.columns)}, " if fault.columns else ""
    place = f"{fault.record}{fault.path}: " if fault.record else ""
    hint = f" ({fault.hint})" if fault.hint else ""
    found = "" if fault.value is None else f"found {fault.value!r}, "
    return f"{columns}{place}{fault.code}: {found}expected {fault.expected}{hint}"


def _sum_up(job: Import, told: _Told, seconds: float, dry_run: bool) -> None:
    rows = sum(counts.rows for counts in job.counts.values())
    summary(
        told.as_json,
        "\n".join(_summary_lines(job, told, seconds, dry_run)),
        rows=rows,
        bad_rows=told.bad_rows,
        events=job.records.total(),
        records=job.records,
        files=job.counts,
        faults=told.faults,
        dry_run=dry_run,
        seconds=round(seconds, 3),
    )
    if told.bad_rows:
        sys.exit(REFUSED)


def _summary_lines(job: Import, told: _Told, seconds: float, dry_run: bool) -> Iterator[str]:
    for name, counts in job.counts.items():
        without = f", {counts.without_event:,} without an event" if counts.without_event else ""
        yield f"{name}: {counts.rows:,} rows, {counts.bad:,} bad{without}"
    for fault, number in told.faults.most_common():
        yield f"  {fault}: {number:,}"
    if told.bad_rows > BAD_ROWS_SHOWN:
        yield f"  the first {BAD_ROWS_SHOWN} bad rows are shown above: --json lists all {told.bad_rows:,}"
    for record, number in job.records.most_common():
        yield f"{number:>12,} {record}"
    verb = "would be" if dry_run else "are"
    rows = sum(counts.rows for counts in job.counts.values())
    yield (
        f"{job.records.total():>12,} events {verb} on the log; {rows:,} rows, {told.bad_rows:,} bad; "
        f"{seconds:.1f} s, {rows / seconds:,.0f} rows/s"
    )
