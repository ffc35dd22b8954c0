"""The outages in small: `python -m tests.faults.outages` takes a minute for each."""

from pathlib import Path

import pytest

from services.settings import Addresses
from tests.faults.outages import run
from tests.servers import Servers


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_outages_delay_what_is_told_and_change_nothing(
    servers: Servers, topics: Addresses, database: str, tmp_path: Path
) -> None:
    """Postgres, Alertmanager and a webhook are away while clocks become due: afterwards each obligation is
    told as one incident, in order, soon after the return, and by the processes that were there before."""
    assert topics == servers.addresses
    report = await run(servers, database, 15, tmp_path)
    assert report.failures == [], "\n".join(report.lines())
