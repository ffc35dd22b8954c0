"""Guards who a worker is. What it does as a process is in `test_engine.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.projector.worker import AlreadyRunning, identity, only_one

HUNG = """
import asyncio
from services.projector import worker
from services.projector.progress import Progress

async def goodbye():
    worker._bound_the_end(Progress(batch_since={batch_since}), {is_orderly})
    await asyncio.sleep(60)

asyncio.run(goodbye())
"""


def test_a_second_worker_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """Two members of one lasting name would throw each other out of the group for ever."""
    with (
        only_one(tmp_path / "worker-1"),
        pytest.raises(AlreadyRunning, match="worker-1"),
        only_one(tmp_path / "worker-1"),
    ):
        pass


def test_a_name_is_free_again_when_its_worker_has_ended(tmp_path: Path) -> None:
    """A restart takes over from the process before it."""
    for _ in range(2):
        with only_one(tmp_path / "worker-1"):
            assert (tmp_path / "worker-1").is_dir()


def test_a_named_worker_keeps_its_place_in_the_group() -> None:
    """The member's name is the same in every process of that name on this machine."""
    assert identity("worker-1") == identity("worker-1")
    assert identity("worker-1").member != identity("worker-2").member


def test_an_unnamed_worker_leaves_the_group_when_it_stops() -> None:
    """Without a name there is no lasting member, and the process id tells the workers apart in the log."""
    assert identity("").member is None
    assert identity("").name.endswith(f"-{os.getpid()}")


@pytest.mark.parametrize(
    ("batch_since", "is_orderly", "code"), [(None, True, 0), (1.0, True, 1), (None, False, 1)]
)
def test_an_end_that_takes_too_long_fails_only_with_a_batch_in_hand_or_after_a_crash(
    batch_since: float | None, is_orderly: bool, code: int
) -> None:
    """A goodbye to Kafka may hang on a rebalance; then all that counts is stored. The log says what hung."""
    ended = subprocess.run(
        [sys.executable, "-c", HUNG.format(batch_since=batch_since, is_orderly=is_orderly)],
        check=False,
        env=os.environ | {"LEADLOG_SHUTDOWN_SECONDS": "1"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == code
    assert "left_by_force" in ended.stdout
    assert "goodbye" in ended.stdout
