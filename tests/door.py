"""The HTTP door as a process of its own, and what tests and measurements ask it.

Promises: `Door` is `leadlog run ingest` as anybody starts it, on the servers that it is given, and another
program that logs `door_served` can take its place.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import psutil

import infra
from services.settings import Addresses

COMMAND = (str(Path(sys.executable).parent / "leadlog"), "run", "ingest", "--port", "0")
START_SECONDS = 60.0
STOP_SECONDS = 40.0
LOOK_SECONDS = 0.05


class Door:
    """A process that serves events."""

    def __init__(
        self, addresses: Addresses, folder: Path, command: Sequence[str] = COMMAND, **settings: str
    ) -> None:
        """Starts it, with further settings by name; `url` is where it serves."""
        self.log = folder / "door.log"
        given = {**addresses._asdict(), **settings, "state": str(folder)}
        environment = os.environ | {f"LEADLOG_{name.upper()}": value for name, value in given.items()}
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                command, env=environment, stdout=sink, stderr=sink, cwd=Path(infra.__file__).parents[1]
            )
        self._usage = psutil.Process(self.process.pid)
        self.url = self._served()

    def logged(self, event: str) -> list[dict[str, str]]:
        """The log entries of an event."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def wait_until_ready(self, is_ready: bool = True) -> None:
        """Waits until it takes events, or no longer does."""
        deadline = time.monotonic() + START_SECONDS
        while self._is_ready() is not is_ready:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(LOOK_SECONDS)

    def resident_mb(self) -> float:
        """Its memory."""
        return float(self._usage.memory_info().rss / 1e6)

    def cpu_seconds(self) -> float:
        """Processor time that it has used, user and system."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> int:
        """Ends it in order; returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()

    def _served(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not (served := self.logged("door_served")):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(LOOK_SECONDS)
        return served[0]["address"]

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False
