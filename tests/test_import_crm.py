"""Guards the mappings for HubSpot and Salesforce: what their exports say, and nothing else, becomes events.

The real files (tiny, masked; their joins match nothing) are read a second time here, plainly. The files of
`vectors/` have the same columns and tell one small story each: merges, shared, deleted and reopened deals,
rows out of order. The mapping language is guarded by test_import.
"""

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from schemas import records as r
from services import settings
from services.importer.mapping import parse
from services.importer.rows import BadRow
from tests.bench import ground, live
from tests.bench.trial import trial
from tests.comparison import projected
from tests.histories import Timeline
from tests.importing import imported, told
from tests.servers import RunningServers

MAPPINGS = Path(__file__).parent.parent / "infra" / "mappings"
VECTORS = Path(__file__).parent / "vectors"
LEADLOG = Path(sys.executable).parent / "leadlog"
DEFAULT: Timeline = [(None, resources.files("projections").joinpath("default.yaml").read_text())]
Cells = dict[str, str]


@pytest.fixture(scope="module")
def shapes() -> Path:
    """The folder of the real files."""
    folder = settings.data_folder() / "crm_export_shapes"
    if not folder.is_dir():
        pytest.skip(f"no exports in {folder}: set LEADLOG_DATA")  # the data set is not part of the project
    return folder


def events_of(crm: str, folder: Path) -> tuple[list[r.Record], list[BadRow]]:
    """What the mapping of a CRM makes of the files of a folder."""
    return imported(parse((MAPPINGS / f"{crm}.yaml").read_text()), list(folder.glob("*.csv")))


def plain(folder: Path, name: str) -> list[Cells]:
    """The rows of a real file, read with nothing but the standard library."""
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def instant(text: str) -> int:
    """Microseconds of a time in UTC, as the exports write it."""
    layout = "%Y-%m-%d %H:%M:%S.%f" if "." in text else "%Y-%m-%d %H:%M:%S"
    return round(datetime.strptime(text, layout).replace(tzinfo=UTC).timestamp() * 1_000_000)


def email_id(address: str) -> str:
    """The subject that an e-mail address stands for in every source."""
    return "email-sha256:" + sha256(address.lower().encode()).hexdigest()


def links(records: Iterable[r.Record]) -> Counter[tuple[str, str, str, int]]:
    """Who was linked to whom, why and when."""
    return Counter(
        (each.subject_id, each.other_subject_id, each.evidence, each.occurred_at)
        for each in records
        if isinstance(each, r.SubjectsLinked)
    )


def expected_links(shapes: Path) -> Counter[tuple[str, str, str, int]]:
    """The links that the contacts and the merge audit of HubSpot speak of."""
    found: Counter[tuple[str, str, str, int]] = Counter()
    for row in plain(shapes, "hubspot_contact_data.csv"):
        subject, created = f"hubspot:{row['id']}", instant(row["property_createdate"])
        found[subject, email_id(row["property_email"]), "identified", created] += 1
        for other in filter(None, row["property_hs_merged_object_ids"].split(";")):
            found[subject, f"hubspot:{other}", "merged_in_crm", created] += 1
    for row in plain(shapes, "hubspot_contact_merge_audit_data.csv"):
        pair = f"hubspot:{row['canonical_vid']}", f"hubspot:{row['vid_to_merge']}"
        found[*pair, "merged_in_crm", instant(row["timestamp"])] += 1
    return found


def test_real_hubspot_contacts_become_links(shapes: Path) -> None:
    """An e-mail identifies a contact, and each merge links two, dated by what the file says."""
    records, _ = events_of("hubspot", shapes)
    assert links(records) == expected_links(shapes)
    assert links(records).total() == 22 + 3 + 4


def test_real_hubspot_property_history_becomes_attributes(shapes: Path) -> None:
    """Each change is an attribute at its own time, by whom HubSpot says, in whatever order the rows stand."""
    records, _ = events_of("hubspot", shapes)
    changes = plain(shapes, "hubspot_contact_property_history_data.csv")
    assert Counter(
        (each.subject_id, each.occurred_at, each.name, each.value, each.actor.kind, each.actor.id)
        for each in records
        if isinstance(each, r.AttributeChanged)
    ) == Counter(
        (
            f"hubspot:{row['contact_id']}",
            instant(row["timestamp"]),
            row["name"],
            row["value"],
            "system",
            row["source_id"] or None,
        )
        for row in changes
    )
    assert len(changes) == 100


def test_real_hubspot_forms_become_touches(shapes: Path) -> None:
    """A submission is an inbound touch that offers the form, with its page; ids keep their leading zeros."""
    records, _ = events_of("hubspot", shapes)
    found = [each for each in records if isinstance(each, r.TouchRecorded)]
    rows = plain(shapes, "hubspot_contact_form_submission_data.csv")
    assert [
        (each.subject_id, each.occurred_at, each.offer_id, each.url, each.properties) for each in found
    ] == [
        (
            f"hubspot:{row['contact_id']}",
            instant(row["timestamp"]),
            row["form_id"],
            row["page_url"],
            {"title": row["title"]},
        )
        for row in rows
    ]
    assert {(each.touch_type, each.direction, each.channel) for each in found} == {
        ("form_submitted", "inbound", "unknown")
    }


def test_real_hubspot_deals_without_contact_or_stage_are_not_made_up(shapes: Path) -> None:
    """No deal of the masked files has a contact, and no stage entry a known stage: no event, 14 bad rows."""
    records, bad = events_of("hubspot", shapes)
    deals = {row["deal_id"] for row in plain(shapes, "hubspot_deal_data.csv")}
    assert not deals & {row["deal_id"] for row in plain(shapes, "hubspot_deal_contact_data.csv")}
    stages = {row["stage_id"] for row in plain(shapes, "hubspot_deal_pipeline_stage_data.csv")}
    entries = plain(shapes, "hubspot_deal_stage_data.csv")
    assert told(bad) == [
        (line, ("value",), "no_match") for line, row in enumerate(entries, 2) if row["value"] not in stages
    ]
    assert len(bad) == 14
    assert {type(each).__name__ for each in records} == {
        "SubjectsLinked",
        "AttributeChanged",
        "TouchRecorded",
    }


def test_real_salesforce_rows_are_all_deleted(shapes: Path) -> None:
    """Every opportunity of the masked files is deleted: each event it would be is taken back."""
    records, bad = events_of("salesforce", shapes)
    assert bad == []
    assert Counter(each.target_event_id for each in records if isinstance(each, r.EventRetracted)) == Counter(
        [*expected_of_opportunities(shapes), *expected_of_versions(shapes)]
    )
    assert {type(each) for each in records} == {r.EventRetracted}


def expected_of_opportunities(shapes: Path) -> Iterable[str]:
    """The ids of the events of today's rows."""
    for row in plain(shapes, "salesforce_sf_opportunity_data.csv"):
        if row["_fivetran_active"] == "true":
            assert (row["is_deleted"], row["is_closed"]) == ("true", "true")
            yield f"salesforce:opened:{row['id']}:{row['account_id']}"
            outcome = "won" if row["is_won"] == "true" else "lost"
            yield f"salesforce:{outcome}:{row['id']}:{row['account_id']}:{row['close_date']}"


def expected_of_versions(shapes: Path) -> Iterable[str]:
    """The ids of the events of the versions."""
    for row in plain(shapes, "salesforce_sf_opportunity_history_data.csv"):
        pair = f"{row['id']}:{row['account_id']}"
        if row["is_closed"] == "true":
            outcome = "won" if row["is_won"] == "true" else "lost"
            yield f"salesforce:{outcome}:{pair}:{row['close_date']}"
        else:
            yield f"salesforce:reopened:{pair}:{row['_fivetran_start']}"
            yield f"salesforce:version:{pair}:{row['_fivetran_start']}"


def deals(rows: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """Opportunities as (journey, deal, status, amount, opened, closed)."""
    columns = ("journey_id", "opportunity_id", "status", "amount_minor", "opened_at", "closed_at")
    return sorted(tuple(row[column] for column in columns) for row in rows)


ANNA, BOB = email_id("anna@shop.example"), email_id("bob@shop.example")
"""The journeys of the two people of the HubSpot story; an e-mail's id is the smallest of theirs."""
HUBSPOT_DEALS = [
    (ANNA, "hubspot:9001", "won", 120_050, instant("2026-03-05 06:00:00"), instant("2026-03-20 16:00:00")),
    (BOB, "hubspot:9001", "won", 120_050, instant("2026-03-05 06:00:00"), instant("2026-03-20 16:00:00")),
    (BOB, "hubspot:9002", "won", 0, instant("2026-03-06 06:00:00"), instant("2026-03-25 07:00:00")),
]


def test_hubspot_deals_are_those_that_hubspot_shows() -> None:
    """Shared by two contacts, lost and won again; deleted, merged and contactless deals are not there."""
    records, bad = events_of("hubspot", VECTORS / "hubspot")
    assert told(bad) == [(10, ("contact_id", "name", "timestamp"), "gap_in_id"), (11, ("value",), "no_match")]
    rows = projected(records, DEFAULT)
    assert deals(rows["opportunity"]) == sorted(HUBSPOT_DEALS)
    assert rows["fault"] == []
    amounts = [
        (each.occurred_at, each.amount_minor)
        for each in records
        if isinstance(each, r.OpportunityChanged) and each.subject_id == "hubspot:101" and each.amount_minor
    ]
    assert sorted(amounts) == [
        (instant("2026-03-05 07:00:00"), 100_000),
        (instant("2026-03-15 10:00:00"), 120_050),
    ]


def test_hubspot_lifecycle_and_merges_make_one_history() -> None:
    """What a merged contact did comes first; stages, numbers and owners are no mere attributes."""
    records, _ = events_of("hubspot", VECTORS / "hubspot")
    rows = projected(records, DEFAULT)
    visits = {
        (row["journey_id"], row["stage"]): (row["entered_at"], row["is_inferred"])
        for row in rows["stage_visit"]
    }
    assert visits[ANNA, "Engaged"] == (instant("2026-02-19 08:30:00"), False)  # by the score of the form
    assert visits[ANNA, "MQL"] == (instant("2026-03-02 09:00:00.120"), False)
    assert visits[BOB, "SQL"] == (instant("2026-03-02 11:00:00"), False)
    moves = [each.to_stage for each in records if isinstance(each, r.StageChanged)]
    assert moves == ["MQL", "Engaged", "SQL"]
    leads = {row["journey_id"]: row for row in rows["lead_state"]}
    assert set(leads) == {ANNA, BOB}
    assert leads[ANNA]["first_touch_at"] == instant("2026-02-19 08:30:00")
    assert leads[BOB]["owner_id"] == "hubspot:9"
    values = {
        (each.subject_id, each.name, each.value) for each in records if isinstance(each, r.AttributeChanged)
    }
    assert {("hubspot:101", "hubspotscore", 42.5), ("hubspot:101", "hubspotscore", None)} <= values
    assert ("hubspot:103", "city", "Berlin") in values
    assert "firstname" not in {name for _, name, _ in values}


def test_a_deal_deleted_after_its_import_is_taken_back(tmp_path: Path) -> None:
    """An export in which a deal stands, then one in which it is deleted: as if it had never been there."""
    for file in (VECTORS / "hubspot").glob("*.csv"):
        (tmp_path / file.name).write_text(file.read_text().replace("9003,true", "9003,false"))
    earlier, _ = events_of("hubspot", tmp_path)
    later, _ = events_of("hubspot", VECTORS / "hubspot")
    assert "hubspot:9003" in {row["opportunity_id"] for row in projected(earlier, DEFAULT)["opportunity"]}
    assert deals(projected(earlier + later, DEFAULT)["opportunity"]) == sorted(HUBSPOT_DEALS)


def test_salesforce_opportunities_are_those_that_salesforce_shows() -> None:
    """Won, reopened and lost by versions; won on the day it was opened; the deleted one is gone."""
    records, bad = events_of("salesforce", VECTORS / "salesforce")
    assert told(bad) == [(5, ("id", "account_id"), "gap_in_id")]
    rows = projected(records, DEFAULT)
    assert deals(rows["opportunity"]) == [
        (
            "salesforce:account:001X",
            "salesforce:006A",
            "lost",
            90_000,
            instant("2026-01-05 10:00:00"),
            instant("2026-03-01 23:59:59"),
        ),
        (
            "salesforce:account:001Y",
            "salesforce:006B",
            "won",
            50_050,
            instant("2026-02-01 15:00:00"),
            instant("2026-02-01 23:59:59"),
        ),
    ]
    assert rows["fault"] == []
    visits = sorted(
        (row["visit_no"], row["stage"])
        for row in rows["stage_visit"]
        if row["journey_id"] == "salesforce:account:001X"
    )
    assert [stage for _, stage in visits[-4:]] == ["Opportunity", "Customer", "Opportunity", "Lost"]


def journeys_of(shapes: Path) -> int:
    """How many people the real HubSpot files speak of, counted by joining what is linked."""
    leader: dict[str, str] = {}

    def find(subject: str) -> str:
        while leader.setdefault(subject, subject) != subject:
            subject = leader[subject]
        return subject

    for subject, other, *_ in expected_links(shapes):
        leader[find(subject)] = find(other)
    for name in ("property_history", "form_submission"):
        for row in plain(shapes, f"hubspot_contact_{name}_data.csv"):
            find(f"hubspot:{row['contact_id']}")
    return len({find(subject) for subject in list(leader)})


@dataclass
class Running:
    """Commands on a database that a worker keeps up."""

    environment: dict[str, str]
    dsn: str

    def run(self, *arguments: str, code: int = 0) -> str:
        """A command's standard output."""
        ended = subprocess.run(
            [LEADLOG, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == code, ended.stderr
        return ended.stdout

    def imports(self, *folders: Path) -> list[int]:
        """Imports folders of HubSpot files and waits; the bad rows that each has."""
        hubspot = ("--mapping", str(MAPPINGS / "hubspot.yaml"), "--json")
        summaries = [json.loads(self.run("import", str(folder), *hubspot, code=1)) for folder in folders]
        self.run("wait")
        return [summary["bad_rows"] for summary in summaries]

    async def query(self, text: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return [tuple(row) for row in await connection.fetch(text)]
        finally:
            await connection.close()


VIEWS = ("lead_current", "opportunity", "fault", "credit")


@pytest.mark.servers
@pytest.mark.slow
async def test_hubspot_files_imported_twice_are_in_the_views_once(
    local: RunningServers, shapes: Path
) -> None:
    """The real files and the story, through Kafka and a worker: people and deals as counted by hand."""
    await ground.fill(local.addresses, [])
    async with trial(local, live.ONE) as work:
        addresses = {f"LEADLOG_{name.upper()}": value for name, value in work.addresses._asdict().items()}
        running = Running(os.environ | addresses, work.addresses.postgres_dsn)
        folders = (shapes, VECTORS / "hubspot")
        assert await asyncio.to_thread(running.imports, *folders) == [14, 2]
        [(people,)] = await running.query("select count(*) from bi.lead_current")
        assert people == journeys_of(shapes) + 2
        counted = "select sum(amount_minor), count(*) from bi.opportunity where status = 'won' and is_counted"
        assert await running.query(counted) == [(120_050, 2)]
        once = {
            view: await running.query(f"select * from bi.{view} order by 1, 2, 3, 4, 5") for view in VIEWS
        }
        assert once["fault"] == []
        await asyncio.to_thread(running.imports, *folders)
        again = {
            view: await running.query(f"select * from bi.{view} order by 1, 2, 3, 4, 5") for view in VIEWS
        }
        assert again == once
