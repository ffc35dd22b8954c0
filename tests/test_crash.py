"""The crash run in small: `python -m tests.faults.crash` is the long one."""

from pathlib import Path

import pytest

from tests.faults.crash import Size, run
from tests.servers import Servers

SHORT = Size(events=4_000, kills=3, batch_records=50, shared_journeys=20, seed=7)


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_table_tells_that_workers_and_servers_were_killed(servers: Servers, tmp_path: Path) -> None:
    """Two workers, two versions, SIGKILLs inside transactions and between commit and acknowledgement,
    then the broker and Postgres away: every table is that of one undisturbed worker."""
    report = await run(servers, SHORT, tmp_path)
    assert report.failures == [], "\n".join(report.lines())
