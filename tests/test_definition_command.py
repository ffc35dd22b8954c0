"""`leadlog definition`: the teams' decisions as commands, on real servers with a projector.

One story, since a definition goes from hand to hand. What the facts come to is guarded in `test_standing`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra import MIGRATIONS
from services.cli import main
from services.deploy import deploy
from services.settings import Addresses
from tests.feeding import DEFINITION, commands_on
from tests.test_fuzz_topics import Worker

STRICT = DEFINITION.replace("version: 1", "version: 2").replace("score_at_least: 50", "score_at_least: 60")
Leadlog = Callable[..., Result]


@pytest.fixture
async def addresses(topics: Addresses, database: str) -> Addresses:
    """A log with the default definition in force."""
    found = topics._replace(postgres_dsn=database)
    await deploy(found, MIGRATIONS, None, DEFINITION)
    return found


@pytest.fixture
def leadlog(addresses: Addresses, tmp_path: Path) -> Iterator[Leadlog]:
    """Runs commands beside a projector."""
    worker = Worker(addresses, tmp_path)
    servers = {f"LEADLOG_{name.upper()}": value for name, value in addresses._asdict().items()}
    yield lambda *arguments: CliRunner().invoke(main, ["definition", *map(str, arguments)], env=servers)
    worker.end()


def done(result: Result) -> str:
    """What a command that went well said."""
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result) -> str:
    """Why a command was refused."""
    assert result.exit_code == 1, result.output
    return result.stderr


@pytest.mark.servers
@pytest.mark.slow
def test_a_definition_is_proposed_approved_and_scheduled(leadlog: Leadlog, tmp_path: Path) -> None:
    """Each step says the next, each that is too early or too late says why; who and when are kept."""
    file = tmp_path / "strict.yaml"
    file.write_text(STRICT.replace("rationale:", "#"))
    assert "say why" in refused(leadlog("propose", file))
    assert "approve default 2 --as sales" in done(
        leadlog("propose", file, "--by", "ann", "--rationale", "fewer, better leads")
    )
    assert "The rationale is now: fewer, better leads" in done(leadlog("show", "default", 2))
    assert "MQL now needs 60 points instead of 50" in leadlog("diff", "default@1", "default@2").stdout
    assert done(leadlog("diff", "default@2", file)) == "They mean the same.\n"
    assert "no default@3 was proposed" in refused(leadlog("approve", "default", 3, "--as", "sales"))
    assert "the approval of sales" in refused(leadlog("schedule", "default", 2, "--from", "2099-01-01"))
    for team, name in (("sales", "sam"), ("sales", "eve"), ("marketing", "mia")):
        told = done(leadlog("approve", "default", 2, "--as", team, "--by", name))
    assert "leadlog definition schedule default 2" in told
    proposed = file.read_text()
    file.write_text(proposed.replace("target: 8h", "target: 4h"))
    assert "due after 4 hours instead of 8" in refused(leadlog("propose", file, "--rationale", "faster"))
    assert "is not in the future" in refused(leadlog("schedule", "default", 2, "--from", "2020-01-01"))
    assert "2098-12-31 23:00:00 UTC" in done(leadlog("schedule", "default", 2, "--from", "2099-01-01"))
    assert "counts at 2099-05-31T22:00:00Z already" in refused(
        leadlog("schedule", "default", 2, "--from", "2099-06-01")
    )
    first, second = json.loads(done(leadlog("list", "--json")))
    assert (first["status"], second["status"], second["since"]) == (
        "in force",
        "scheduled",
        "2098-12-31T23:00:00Z",
    )
    assert (second["proposed"]["by"], second["approved"]["sales"]["by"]) == ("ann", "sam")
    assert first["notes"] == second["notes"] == []
    assert [each["valid_from"] for each in first["activated"]] == [None]
    assert done(leadlog("show", "default", 2, "--yaml")) == proposed
    assert "scheduled from 2098-12-31 23:00:00 UTC on" in done(leadlog("show", "default", 2))
    done(leadlog("schedule", "default", 1, "--from", "2099-01-01"))
    assert "2098-12-31 23:00:00 UTC on; replaced by default@1" in done(leadlog("show", "default", 2))
    file.write_text(DEFINITION)
    assert "it is in force: nothing is left to do" in done(leadlog("propose", file))


@pytest.mark.servers
@pytest.mark.slow
def test_what_cannot_be_compared_or_is_no_date_is_wrong_usage(leadlog: Leadlog, tmp_path: Path) -> None:
    """Exit 1 of `diff` says that two definitions differ, so it cannot say that one is missing."""
    file = tmp_path / "faulty.yaml"
    file.write_text("version: 1")
    for arguments in (
        ("diff", "default@1", "nofile.yaml"),
        ("diff", "default@1", "default@9"),
        ("diff", "default@1", file),
        ("schedule", "default", 1, "--from", "2027-02-30"),
    ):
        assert leadlog(*arguments).exit_code == 2, arguments


@pytest.mark.servers
@pytest.mark.slow
def test_what_is_personal_for_one_version_is_no_rule_of_another(leadlog: Leadlog, tmp_path: Path) -> None:
    """An erasure changed the stages of those whom a rule had judged by what was personal elsewhere."""
    file = tmp_path / "next.yaml"
    file.write_text(STRICT.replace("personal: [", "personal: [seniority, "))
    done(leadlog("propose", file))
    file.write_text(STRICT.replace("version: 2", "version: 3").replace("name: competitor", "name: seniority"))
    assert "reads seniority, which default@2 calls personal" in refused(leadlog("propose", file))
    file.write_text(STRICT.replace("version: 2", "version: 4").replace("name: competitor", "name: region"))
    done(leadlog("propose", file))
    file.write_text(STRICT.replace("version: 2", "version: 5").replace("[email,", "[region, email,"))
    done(leadlog("propose", file))
    assert "which default@5 calls personal" in refused(leadlog("approve", "default", 4, "--as", "sales"))
    without = DEFINITION.replace("        - {not: {attribute: {name: competitor, is: true}}}\n", "")
    file.write_text(
        without.replace("version: 1", "version: 3").replace("personal: [", "personal: [competitor, ")
    )
    assert "which a rule of default@1 reads" in refused(leadlog("propose", file))


def test_a_file_with_faults_is_told_all_of_them(tmp_path: Path) -> None:
    """Validation needs no servers and names every line."""
    file = tmp_path / "wrong.yaml"
    file.write_text(DEFINITION.replace("target: 8h", "target: soon").replace("role: sal", "role: sales"))
    leadlog = commands_on("postgresql://nobody@127.0.0.1:9/none")
    result = leadlog("definition", "validate", str(file))
    assert result.exit_code == 1
    assert result.stderr.count("\nline ") == 2
    file.write_text(DEFINITION)
    assert "default@1: 13 stages" in leadlog("definition", "validate", str(file)).stdout


def test_without_a_projector_a_decision_is_not_said_to_be_taken() -> None:
    """Servers that are away end every decision with 3."""
    leadlog = commands_on("postgresql://nobody@127.0.0.1:9/none")
    assert leadlog("definition", "approve", "default", "1", "--as", "sales").exit_code == 3
