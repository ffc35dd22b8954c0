"""The README's promises: `./infra/demo` runs from nothing, and every command that follows works as it stands.

Numbers that the demo prints are compared with the files in test_import and test_bi_numbers.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import requests

import infra
from infra.stack import Stack
from services import settings
from tests.servers import new_folder, remove

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(infra.__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(section: str) -> list[str]:
    """The indented blocks of a section."""
    (text,) = re.findall(rf"^## {section}$(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    found = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", each, flags=re.MULTILINE) for each in found]


class Demo:
    """The demo at work, and a shell beside it whose folder is not the project's."""

    def __init__(self, home: Path) -> None:
        self.state, self.folder = home / "state", home / "work"
        self.folder.mkdir()
        for name in ("projections", "infra"):
            (self.folder / name).symlink_to(ROOT / name)
        self.environment = os.environ | {
            "LEADLOG_STATE": str(self.state),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.output = self.run("./infra/demo", cwd=ROOT)
        self.known: dict[str, Any] = json.loads(self.run("leadlog status --json"))
        self.environment |= {"KEY": self.known["ingest_key"], "URL": self.known["ingest_url"]}

    def run(self, script: str, *, cwd: Path | None = None) -> str:
        """What a script prints"""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self.environment,
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """`./infra/demo` with a state folder of its own."""
    home = new_folder()
    try:
        yield Demo(home)
    finally:
        remove(Stack(home / "state"))
        subprocess.run(["rm", "-r", str(home / "work")], check=True)
        home.rmdir()


def test_the_demo_shows_the_funnel_and_what_to_try_next(demo: Demo) -> None:
    """Each command that it ends with works, and so does the page that it names."""
    page = requests.get(demo.known["page_url"], timeout=60).text
    assert demo.known["page_url"] in demo.output.partition("Try next")[2]
    assert "Service levels" in page
    if (settings.data_folder() / "olist_funnel").exists():
        assert re.search(r"Customer +won +842 ", demo.output)
        assert re.search(r"Customer</th>.{0,300}>842</a>", page, re.DOTALL)
    tried = re.findall(r"^  \.venv/bin/(leadlog .*?)(?:   .*)?$", demo.output, re.MULTILINE)
    assert len(tried) >= 5
    for command in tried:
        if not command.startswith(("leadlog down", "leadlog logs", "leadlog generate")):
            demo.run(command)


def test_a_definition_is_changed_as_described(demo: Demo) -> None:
    """Proposed, approved, built, compared, promoted and taken back; the difference is the one shown."""
    prepare, *shown, switch = blocks("Change a definition")
    *agree, replay = prepare.splitlines()
    for line in agree:
        demo.run(line)
    compared = demo.run(replay)
    if (settings.data_folder() / "olist_funnel").exists():
        assert [line for line in "".join(shown).splitlines() if line not in compared] == []
    for line in switch.splitlines():
        demo.run(line)


def test_events_are_sent_and_queried_as_described(demo: Demo) -> None:
    """The event of the README is taken and shown, made-up ones too; each query answers."""
    first, bulk = blocks("Send events")
    assert '"taken":1' in demo.run(first.split("leadlog wait")[0]).replace(" ", "")
    assert "MQL" in demo.run("leadlog wait\nleadlog lead web:5f3a")
    (generate,) = [line for line in bulk.splitlines() if line.startswith("leadlog generate")]
    demo.run(f"{generate}\nleadlog wait")
    (queries,) = blocks("Query it")
    assert all(asyncio.run(answers(demo.known["bi_dsn"], queries)))
    (_, run_it) = blocks("Run it")
    demo.run(run_it.replace("leadlog down", "true"))


async def answers(dsn: str, queries: str) -> list[int]:
    """The number of rows of each query."""
    connection = await asyncpg.connect(dsn)
    try:
        return [len(await connection.fetch(query)) for query in queries.strip().splitlines()]
    finally:
        await connection.close()
