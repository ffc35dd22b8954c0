"""`leadlog import`: CSV exports to events."""

import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from services import settings
from services.cli.exits import AWAY, REFUSED, USAGE, end, run
from services.cli.files import TEXT_FILE, text_of
from services.cli.sending import Display, collect_seldom, summary
from services.importer.mapping import Mapping, MappingFaults, parse
from services.importer.rows import Import, Progress, RowFault, WrongFiles, assign
from services.publisher import Publisher, ServerAway


@click.command("import")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--mapping", "mapping_file", required=True, type=TEXT_FILE)
@click.option("--dry-run", is_flag=True, help="Check every row, send nothing. Needs no servers.")
@click.option(
    "--json", "as_json", is_flag=True, help="Faults (stderr) and summary (stdout) as JSON, one a line."
)
def command(files: tuple[Path, ...], mapping_file: Path, dry_run: bool, as_json: bool) -> None:
    """Import CSV FILES (or folders of them) by a mapping, see infra/mappings/README.md.

    A row becomes events, which are checked as at every door; a row with a fault is listed by file, line and
    column, and the rest goes on. The same file twice changes nothing, since a row gives the same event ids.
    Without FILES they are looked for where the mapping says, in the folder of the setting LEADLOG_DATA.

    Exit 0: all rows taken, 1: some are bad, 2: mapping and files do not fit, 3: Kafka is away.
    """
    collect_seldom()
    mapping, job = _prepared(mapping_file, files)
    with Display(f"importing {mapping.name}", job.total_bytes) as display:
        progress = Progress(0, 0, 0, 0, [])

        def taken(step: Progress) -> None:
            nonlocal progress
            progress = step
            for fault in step.faults:
                display.say(_told(fault, as_json))
            display.move(step.done_bytes, step.events, step.bad_rows)

        try:
            if dry_run:
                run(_look(job, taken))
            else:
                bootstrap = settings.addresses().kafka_bootstrap
                run(Publisher(bootstrap, taken=taken, say=display.say).publish(job.chunks()))
        except ServerAway as away:
            end(AWAY, str(away))
        seconds = display.seconds
    _sum_up(progress, seconds, dry_run, as_json)


def _prepared(mapping_file: Path, files: tuple[Path, ...]) -> tuple[Mapping, Import]:
    """The mapping and the import of its files; ends the command if they do not fit."""
    try:
        mapping = parse(text_of(mapping_file))
        found, unused = assign(mapping, _listed(mapping, files))
        for file in unused if files else ():
            click.echo(f"leadlog: no input of mapping {mapping.name!r} wants {file}: left alone", err=True)
        return mapping, Import(mapping, found)
    except MappingFaults as faults:
        end(USAGE, f"{mapping_file} does not fit:\n{faults}")
    except WrongFiles as wrong:
        end(USAGE, str(wrong))


def _listed(mapping: Mapping, files: tuple[Path, ...]) -> list[Path]:
    """The files named; for a folder those in it; without any those of the data folder."""
    if not files:
        folder = settings.data_folder() / (mapping.folder or "")
        if mapping.folder is None or not folder.is_dir():
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


def _told(fault: RowFault, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(fault).decode()
    where = f"{fault.file}, line {fault.line}"
    columns = f", column {', '.join(fault.columns)}" if fault.columns else ""
    what = f"{fault.record}{fault.path}: " if fault.record else ""
    hint = f" ({fault.hint})" if fault.hint else ""
    return f"{where}{columns}: {what}{fault.code}: found {fault.value!r}, expected {fault.expected}{hint}"


def _sum_up(progress: Progress, seconds: float, dry_run: bool, as_json: bool) -> None:
    verb = "would be" if dry_run else "are"
    text = (
        f"{progress.rows:,} rows, {progress.bad_rows:,} bad; {progress.events:,} events {verb} on the log; "
        f"{seconds:.1f} s, {progress.rows / seconds:,.0f} rows/s"
    )
    summary(
        as_json,
        text,
        rows=progress.rows,
        bad_rows=progress.bad_rows,
        events=progress.events,
        dry_run=dry_run,
        seconds=round(seconds, 3),
    )
    if progress.bad_rows:
        sys.exit(REFUSED)
