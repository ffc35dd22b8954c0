"""The schema `bi` as BI tools see it: reflected by SQLAlchemy with their usual driver, described to dbt."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy
import yaml
from sqlalchemy import Engine, Table, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

import infra
from schemas import records as r
from services.settings import Addresses
from tests.feeding import HUMAN, Leadlog, at, commands_on, demo_request, given
from tests.fresh import drop_database
from tests.servers import Servers

pytestmark = pytest.mark.servers

DATABASE = "test_bi_tools"
DBT = Path(__file__).parent / "schemas" / "dbt_yml_files.json"
ALLOWED = {"TEXT", "BIGINT", "NUMERIC", "DOUBLE PRECISION", "BOOLEAN", "TIMESTAMP", "DATE"}
"""The types that a report may meet."""
NUMBERS = (
    *("funnel_conversion", "mql_acceptance", "win_rate", "sla_met", "velocity", "retention"),
    *("retention_money", "time_in_stage_summary", "conversion_by_offer", "conversion_by_channel"),
    *("conversion_by_campaign", "conversion_by_segment", "credit_by_channel"),
    *("sla_met_by_owner", "rejection_by_reason"),
)
WRITES = (
    "insert into lead_subject values ('a', 'b')",
    "update stage_role set position = 0",
    "delete from campaign",
    "create table mine (x int)",
    "create temporary table mine (x int)",
    "create view mine as select 1",
    "drop view win_rate",
    "comment on view win_rate is 'mine'",
)


@pytest.fixture(scope="module")
def dsn(stack: Addresses) -> Iterator[str]:
    """A database with one lead in it."""
    asyncio.run(_server(stack.postgres_dsn, f"create database {DATABASE}"))
    dsn = f"{stack.postgres_dsn.rpartition('/')[0]}/{DATABASE}"
    campaign = r.CampaignScheduled(
        **at(0, "plan", "spring"), campaign_id="spring", name="Spring", channel="email", starts_at=0
    )
    country = r.AttributeChanged(**at(0, "country"), name="country", value="DE")
    accepted = r.HandoffAccepted(**at(2, "yes", actor=HUMAN))
    events: list[r.Record] = [campaign, demo_request(0, "form"), demo_request(1, "again"), country, accepted]
    asyncio.run(given(dsn, events))
    yield dsn
    asyncio.run(_server(stack.postgres_dsn, "select 1"))


async def _server(dsn: str, then: str) -> None:
    """Drops the database and dbt's role, then does something."""
    server = await asyncpg.connect(dsn)
    await drop_database(server, DATABASE)
    await server.execute("drop role if exists your_role")
    await server.execute(then)
    await server.close()


@pytest.fixture(scope="module")
def leadlog(dsn: str) -> Leadlog:
    return commands_on(dsn)


@pytest.fixture(scope="module")
def engine(servers: Servers, dsn: str) -> Iterator[Engine]:
    """A BI tool's connection."""
    address = f"{servers.bi_dsn.rpartition('/')[0]}/{DATABASE}"
    engine = sqlalchemy.create_engine(address.replace("postgresql://", "postgresql+psycopg2://"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def tables(engine: Engine) -> dict[str, Table]:
    """Every view that the tool finds without being told a schema."""
    metadata = sqlalchemy.MetaData()
    metadata.reflect(engine, views=True)
    return dict(metadata.tables)


def test_all_there_is_are_views(engine: Engine, tables: dict[str, Table]) -> None:
    """No table; every view is found by its bare name."""
    inspector = sqlalchemy.inspect(engine)
    assert inspector.get_table_names() == []
    assert set(tables) == set(inspector.get_view_names())
    assert {"lead_current", "touch", "funnel_conversion", "dim_date"} <= set(tables)


def test_every_type_is_one_that_tools_know(tables: dict[str, Table]) -> None:
    """No json, array or enum; instants have a time zone."""
    for view in tables.values():
        for column in view.columns:
            name = type(column.type).__name__.replace("_", " ")
            assert name in ALLOWED, f"{view.name}.{column.name}"
            assert getattr(column.type, "timezone", True), f"{view.name}.{column.name}"


def test_every_view_and_column_is_explained(engine: Engine, tables: dict[str, Table]) -> None:
    """The tool shows a comment everywhere."""
    inspector = sqlalchemy.inspect(engine)
    for view in tables.values():
        assert inspector.get_table_comment(view.name)["text"], view.name
        for column in view.columns:
            assert column.comment, f"{view.name}.{column.name}"


def test_numbers_say_anchor_filter_and_definition(engine: Engine) -> None:
    """Whoever reads a number can tell what it counts."""
    inspector = sqlalchemy.inspect(engine)
    for view in NUMBERS:
        comment = inspector.get_table_comment(view)["text"] or ""
        for word in ("Anchor: ", "Filter: ", "Definition: definition_version"):
            assert word in comment, view


def test_every_view_can_be_counted_and_read(engine: Engine, tables: dict[str, Table]) -> None:
    """Row counts agree with the rows; the lead is in the views that must show it."""
    counts = {}
    with engine.connect() as connection:
        for name, view in tables.items():
            counts[name] = connection.execute(select(func.count()).select_from(view)).scalar_one()
            assert len(connection.execute(select(view)).all()) == counts[name]
    assert counts["lead_current"] == counts["lead_subject"] == counts["campaign"] == 1
    assert (counts["touch"], counts["handoff"], counts["stage_role"]) == (2, 1, 13)


def test_the_queries_of_the_page_run(engine: Engine) -> None:
    """What bi-tools.md shows can be pasted into a tool."""
    page = Path(infra.__file__).with_name("bi-tools.md").read_text()
    [block] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) == 8
    with engine.connect() as connection:
        for query in queries:
            connection.execute(text(query)).all()


@pytest.mark.parametrize("write", WRITES)
def test_nothing_can_be_written(engine: Engine, write: str) -> None:
    """Also by a tool that asks for a transaction that may write."""
    with engine.connect() as connection:
        connection.execute(text("set transaction read write"))
        with pytest.raises(DBAPIError):
            connection.execute(text(write))


def test_a_query_that_takes_too_long_is_stopped(engine: Engine) -> None:
    """After 30 seconds, or earlier if the tool says so."""
    with engine.connect() as connection:
        assert connection.execute(text("show statement_timeout")).scalar_one() == "30s"
        connection.execute(text("set statement_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("select count(*) from generate_series(1, 1000000000)"))


def test_dbt_takes_the_sources(leadlog: Leadlog, tables: dict[str, Table], tmp_path: Path) -> None:
    """The file is valid by dbt's own schema and has every view and column with its comment."""
    result = leadlog("bi", "sources")
    assert result.exit_code == 0, result.output
    file = tmp_path / "sources.yml"
    file.write_text(result.stdout)
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(DBT), str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    [source] = yaml.safe_load(result.stdout)["sources"]
    assert (source["name"], source["schema"]) == ("leadlog", "bi")
    found = {
        (view["name"], column["name"]): column["description"]
        for view in source["tables"]
        for column in view["columns"]
    }
    assert found == {
        (view.name, column.name): column.comment for view in tables.values() for column in view.columns
    }


def test_dbt_can_ask_how_fresh_the_sources_are(leadlog: Leadlog, engine: Engine) -> None:
    """In the one view that knows, with the query that dbt makes of the file; it had nothing to do before."""
    [source] = yaml.safe_load(leadlog("bi", "sources").stdout)["sources"]
    [(view, config)] = [(view["name"], view["config"]) for view in source["tables"] if "config" in view]
    with engine.connect() as connection:
        query = f"select max({config['loaded_at_field']}), now() from {source['schema']}.{view}"
        assert len(connection.execute(text(query)).one()) == 2


def test_a_role_for_dbt_may_do_what_dbt_does(stack: Addresses, dsn: str) -> None:
    """With the grants of the page: incremental models and snapshots need temporary tables, which the page
    forgot."""
    page = Path(infra.__file__).with_name("bi-tools.md").read_text()
    [grants] = re.findall(r"```\n(grant .*?)```", page, re.DOTALL)
    granted = grants.replace("database leadlog", f"database {DATABASE}")
    asyncio.run(given(dsn, [], f"create role your_role login password 'x'; {granted}"))
    place = dsn.rpartition("@")[2]
    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://your_role:x@{place}")
    with engine.begin() as connection:
        connection.execute(text("create schema analytics"))
        connection.execute(text("create temporary table fresh as select * from bi.touch"))
        connection.execute(text("create table analytics.touches as select * from fresh"))
        connection.execute(text("create view analytics.leads as select * from bi.lead_current"))
    engine.dispose()


def test_without_a_version_there_are_no_sources(database: str) -> None:
    """The way out is named."""
    result = commands_on(database)("bi", "sources")
    assert result.exit_code == 1
    assert "leadlog up" in result.stderr
