"""The command `leadlog` itself: what it offers, and what it takes to start it."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from services.cli import COMMANDS, main

HEAVY = {"aiohttp", "aiokafka", "asyncpg", "faust", "rich", "starlette", "supervisor"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_by_its_name(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_help_lists_every_command() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output
    assert [line.split()[0] for line in listed.partition("Commands:\n")[2].splitlines()] == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        ("services.cli", {"asyncpg"}),
        ("services.cli.summary", {"asyncpg", "rich"}),
        ("services.cli.run", {"asyncpg"}),
        ("services.clock.process", {"asyncpg"}),
    ],
)
def test_what_begins_often_imports_no_more_than_it_needs(module: str, needs: set[str]) -> None:
    program = f"import sys, {module}; print(*{HEAVY} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= needs
