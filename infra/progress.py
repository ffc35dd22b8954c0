"""Downloads what the lock names and shows how far it is: a bar on a terminal, a few lines elsewhere."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from infra import artifacts

MEBI = 1024 * 1024
# Lines written where nobody sees a bar move: one per so much of the whole, in percent.
LINE_EVERY_PERCENT = 20

Say = Callable[[str], None]


def download(cache: Path, say: Say) -> None:
    """Fetch what the cache lacks. Raises artifacts.Unavailable."""
    missing = artifacts.missing(cache)
    if not missing:
        return
    total = sum(artifact.size_bytes for artifact in missing)
    say(f"Downloading Kafka and the registry: {len(missing)} files, {total // MEBI} MiB, kept in {cache}")
    with (_bar if sys.stderr.isatty() else _lines)(total, say) as advance:
        artifacts.fetch(missing, cache, advance)


@contextmanager
def _bar(total: int, _say: Say) -> Iterator[artifacts.Advance]:
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("download", total=total)
        yield lambda size: progress.advance(task, size)


@contextmanager
def _lines(total: int, say: Say) -> Iterator[artifacts.Advance]:
    lock, done, told = threading.Lock(), 0, 0

    def advance(size: int) -> None:
        nonlocal done, told
        with lock:
            done += size
            percent = 100 * done // total
            if percent >= told + LINE_EVERY_PERCENT:
                told = percent - percent % LINE_EVERY_PERCENT
                say(f"  {done // MEBI} of {total // MEBI} MiB")

    yield advance
