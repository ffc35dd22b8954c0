"""Guards `leadlog import`: rows become the events that a mapping says, bad ones are told, nothing is guessed.

What an event must look like is guarded by test_contract, sending by test_publish.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from csv import DictReader
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import projections
from projections import definition, journey
from projections.identity import journeys
from projections.rules import Entry, Rules
from schemas.content import content_hash
from schemas.records import (
    AttributeChanged,
    HandoffAccepted,
    OpportunityWon,
    Record,
    SubjectsLinked,
    TouchRecorded,
)
from schemas.topics import INPUT_TOPICS
from services import settings
from services.broker import end_offsets
from services.cli.importer import command
from services.importer.mapping import MappingFaults, parse
from services.importer.rows import BadRow, Import, WrongFiles, assign
from services.settings import Addresses

OLIST = Path(__file__).parent.parent / "infra" / "mappings" / "olist.yaml"
LEADLOG = Path(sys.executable).parent / "leadlog"
HEAD = """
mapping: test
source: crm
zone: Europe/Berlin
inputs:
  touches: {file: "touches*.csv"}
  people: {file: people.csv, delimiter: ";"}
rows:
"""
TOUCH = """
  - from: touches
    events:
      - record: TouchRecorded
        event_id: "t:{id}"
        subject_id: "crm:{id}"
        occurred_at: {column: time, at: "00:00"}
        touch_type: call
        direction: inbound
        channel: {column: origin, empty: no_origin}
"""
PEOPLE = "email;company;size\nann@x.example;Ann & Co;12\nann@x.example;Second;\n"


def make(folder: Path, mapping: str, touches: str, people: str = PEOPLE) -> tuple[list[Record], list[BadRow]]:
    """The events and bad rows of two files under a mapping."""
    (folder / "touches-2026.csv").write_bytes(touches.encode("utf-8", "surrogateescape"))
    (folder / "people.csv").write_text(people)
    parsed = parse(HEAD + mapping)
    files, _ = assign(parsed, sorted(folder.glob("*.csv")))
    return asyncio.run(_all_of(Import(parsed, files)))


async def _all_of(job: Import) -> tuple[list[Record], list[BadRow]]:
    records: list[Record] = []
    bad: list[BadRow] = []
    async for chunk in job.chunks():
        records += chunk.records
        bad += chunk.note.bad
    return records, bad


def told(bad: list[BadRow]) -> list[tuple[int, tuple[str, ...], str]]:
    """Line, columns and code of every fault."""
    return [(row.line, fault.columns, fault.code) for row in bad for fault in row.faults]


def occurred(folder: Path, time: str, options: str) -> int:
    """The instant that a cell becomes with these options, microseconds."""
    mapping = TOUCH.replace('{column: time, at: "00:00"}', f"{{column: time{options}}}")
    records, faults = make(folder, mapping, f"id,time,origin\n1,{time},x\n")
    assert faults == []
    return records[0].occurred_at


def test_a_row_becomes_an_event(tmp_path: Path) -> None:
    """Columns, constants, templates and defaults end up in the fields they are meant for."""
    records, faults = make(tmp_path, TOUCH, "id,time,origin\n7,2026-03-01T10:00:00+01:00, ads \n")
    assert faults == []
    [touch] = records
    assert isinstance(touch, TouchRecorded)
    assert (touch.event_id, touch.subject_id, touch.channel) == ("t:7", "crm:7", "ads")
    assert touch.occurred_at == touch.recorded_at == 1_772_355_600_000_000
    assert (touch.source, touch.actor.kind) == ("crm", "import")


@pytest.mark.parametrize(
    ("time", "options", "expected"),
    [
        ("2026-03-01 10:00:00", "", 1_772_355_600),  # Berlin winter time
        ("2026-07-01 10:00:00", "", 1_782_892_800),  # Berlin summer time
        ("2026-03-29 02:30:00", "", 1_774_747_800),  # in the gap: forward by it, 03:30 summer time
        ("2026-10-25 02:30:00", "", 1_792_888_200),  # in the overlap: the earlier, summer time
        ("2026-03-01T10:00:00Z", "", 1_772_359_200),
        ("2026-03-01 10:00:00", ", zone: UTC", 1_772_359_200),
        ("2026-03-01", ', at: "09:30"', 1_772_353_800),
        ("1.3.2026 9:05", ', format: ["%d.%m.%Y %H:%M", iso]', 1_772_352_300),
        ("1772359200123", ", format: epoch_ms", 1_772_359_200.123),
    ],
)
def test_times(tmp_path: Path, time: str, options: str, expected: float) -> None:
    """Times are read in the zone and the format that the mapping says."""
    assert occurred(tmp_path, time, options) == round(expected * 1_000_000)


def test_bad_rows_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Each fault is told with file, line and column; a row is taken whole or not at all."""
    rows = [
        "id,time,origin",
        "1,2026-03-01 10:00:00,a",
        "2,last week,b",
        '3,2026-03-01 10:00:00,"two\nlines"',
        "4,2026-03-01 10:00:00",
        "ann@x.example,2026-03-01 10:00:00,c",
        "",
        "5,2026-03-01 10:00:00,\udcff",
        "6,2026-03-01 10:00:00,d",
    ]
    records, bad = make(tmp_path, TOUCH, "\n".join(rows) + "\n")
    assert [record.event_id for record in records] == ["t:1", "t:3", "t:6"]
    assert told(bad) == [
        (3, ("time",), "bad_time"),
        (6, (), "bad_csv"),
        (7, ("id",), "plain_email"),
        (9, ("origin",), "not_storable"),
    ]
    assert {row.file for row in bad} == {"touches-2026.csv"}
    assert bad[0].cells == {"id": "2", "time": "last week", "origin": "b"}


def test_a_date_without_time_is_not_guessed(tmp_path: Path) -> None:
    """A date where an instant is needed is a fault unless the mapping says which time of day."""
    mapping = TOUCH.replace(', at: "00:00"', "")
    records, bad = make(tmp_path, mapping, "id,time,origin\n1,2026-03-01,x\n")
    assert (records, told(bad)) == ([], [(2, ("time",), "date_without_time")])


def test_an_amount_is_never_rounded(tmp_path: Path) -> None:
    """Money becomes minor units exactly; more decimals than it can have are a fault."""
    mapping = """
  - from: touches
    events:
      - record: OpportunityWon
        event_id: "w:{id}"
        subject_id: "crm:{id}"
        occurred_at: {column: time}
        opportunity_id: "{id}"
        amount_minor: {column: origin, minor: 2, decimal: ","}
        currency: EUR
"""
    rows = "id,time,origin\n" + "".join(
        f'{number},2026-03-01 10:00:00,"{amount}"\n'
        for number, amount in enumerate(["1.234,50", "0,1", "-3", "0,005", "NaN", "9" * 30])
    )
    records, bad = make(tmp_path, mapping, rows)
    assert [record.amount_minor for record in records if isinstance(record, OpportunityWon)] == [
        123_450,
        10,
        -300,
    ]
    assert [code for *_, code in told(bad)] == ["bad_number", "bad_number", "out_of_range"]


def test_joined_rows(tmp_path: Path) -> None:
    """A row is repeated for each joined row; without any it has empty cells, or is bad if it needs one."""
    mapping = """
  - from: touches
    join: [{input: people, on: {email: origin}}]
    events:
      - record: AttributeChanged
        when: {people.company: {present: true}}
        event_id: "{id}:{people.company}"
        subject_id: "email-sha256:{origin|lower|sha256}"
        occurred_at: "{time}"
        name: company_size
        value: {column: people.size, type: number, empty: null}
"""
    rows = "id,time,origin\n1,2026-03-01 10:00:00,ann@x.example\n2,2026-03-01 10:00:00,bob@x.example\n"
    records, faults = make(tmp_path, mapping, rows)
    assert faults == []
    found = [(record.event_id, record.value) for record in records if isinstance(record, AttributeChanged)]
    assert found == [("1:Ann & Co", 12.0), ("1:Second", None)]
    needed = mapping.replace("origin}}", "origin}, required: true}")
    records, bad = make(tmp_path, needed, rows)
    assert (len(records), told(bad)) == (2, [(3, ("email",), "no_match")])


def test_conditions_and_maps(tmp_path: Path) -> None:
    """Conditions choose rows, maps translate words, and a word that is in no map is a fault of the row."""
    mapping = TOUCH.replace(
        "        touch_type: call\n", "        touch_type: {column: kind, map: {C: call, M: email}}\n"
    )
    mapping = mapping.replace(
        "        event_id", "        when: {kind: {not: [skip, '']}, id: ['1', '2', '3']}\n        event_id"
    )
    rows = "id,time,origin,kind\n" + "".join(
        f"{number},2026-03-01,x,{kind}\n" for number, kind in ((1, "C"), (2, "fax"), (3, "skip"), (4, "M"))
    )
    records, bad = make(tmp_path, mapping, rows)
    assert [record.touch_type for record in records if isinstance(record, TouchRecorded)] == ["call"]
    assert told(bad) == [(3, ("kind",), "not_mapped")]


def test_crm_merges_become_links(tmp_path: Path) -> None:
    """One cell that lists ids, and rows that link subjects, as CRM exports have them."""
    mapping = """
  - from: touches
    events:
      - record: SubjectsLinked
        event_id: "merge:{id}"
        subject_id: "crm:{id}"
        occurred_at: {column: time}
        other_subject_id: "crm:{origin}"
        evidence: merged_in_crm
      - record: MeetingHeld
        event_id: "meet:{id}"
        subject_id: "crm:{id}"
        occurred_at: {column: time}
        meeting_id: "{id}"
        kind: demo
        attendees: {column: people, split: ";"}
"""
    records, faults = make(tmp_path, mapping, "id,time,origin,people\n1,2026-03-01 10:00:00,2,Ann; Bob\n")
    assert faults == []
    assert isinstance(records[0], SubjectsLinked)
    assert records[0].other_subject_id == "crm:2"
    assert getattr(records[1], "attendees", None) == ["Ann", "Bob"]


def test_the_same_file_gives_the_same_events(tmp_path: Path) -> None:
    """Imported twice, each event is an equal copy of the first, recorded at the same time."""
    first, again = (make(tmp_path, TOUCH, "id,time,origin\n1,2026-03-01,x\n2,2026-03-02,\n")[0] for _ in "ab")
    assert [(content_hash(record), record.recorded_at) for record in first] == [
        (content_hash(record), record.recorded_at) for record in again
    ]


def test_all_faults_of_a_mapping_at_once() -> None:
    """Each fault of a mapping file is told with its line and what was expected."""
    text = """mapping: test
source: crm
zone: Europe/Berln
inputs:
  touches: {file: touches.csv, delimitor: ";"}
rows:
  - from: touch
    events:
      - record: TouchRecordd
        event_id: x
      - record: LeadAssigned
        subject_id: "{id|upcase}"
        occurred_at: {column: time, at: noon}
        owner: "{owner}"
"""
    with pytest.raises(MappingFaults) as told:
        parse(text)
    faults = {(fault.line, fault.path.rpartition(".")[2]) for fault in told.value.faults}
    assert faults >= {
        (3, "zone"),
        (5, "delimitor"),
        (7, "from"),
        (9, "record"),
        (12, "subject_id"),
        (13, "at"),
        (14, "owner"),
    }
    assert {fault.expected for fault in told.value.faults} >= {
        "a value for `event_id`, LeadAssigned needs it",
        "a value for `owner_id`, LeadAssigned needs it",
    }


def test_a_missing_column_is_told_before_the_first_row(tmp_path: Path) -> None:
    """A column that the file does not have is a fault of the mapping, with its line and the nearest one."""
    with pytest.raises(MappingFaults) as told:
        make(tmp_path, TOUCH, "id,tme,origin\n1,2026-03-01,x\n")
    [fault] = told.value.faults
    assert fault.value == "time"
    assert "did you mean 'tme'" in fault.expected or "did you mean tme" in fault.expected


def test_files_are_found_by_name(tmp_path: Path) -> None:
    """Every input needs exactly one of the files named."""
    mapping = parse(HEAD + TOUCH)
    files = [tmp_path / name for name in ("touches-1.csv", "touches-2.csv", "people.csv")]
    with pytest.raises(WrongFiles, match=r"touches\*\.csv.*touches-1\.csv, .*touches-2\.csv"):
        assign(mapping, files)
    with pytest.raises(WrongFiles, match="none"):
        assign(mapping, files[:1])


def dry_run(*arguments: str) -> Result:
    """The command, sending nothing."""
    return CliRunner().invoke(command, ["--mapping", str(OLIST), "--dry-run", *arguments])


def test_absent_data_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without files and without the data folder, the command says what to set."""
    monkeypatch.setenv("LEADLOG_DATA", str(tmp_path / "nowhere"))
    result = dry_run()
    assert result.exit_code == 2
    assert "LEADLOG_DATA" in result.stderr
    assert "olist_funnel" in result.stderr


@pytest.fixture(scope="module")
def olist() -> Path:
    """The folder of the Olist files."""
    folder = settings.data_folder() / "olist_funnel"
    if not folder.is_dir():
        # Its licence forbids to ship the data, so a machine may lack it without anything being wrong.
        pytest.skip(f"no Olist data in {folder}: set LEADLOG_DATA")
    return folder


@pytest.fixture(scope="module")
def olist_events(olist: Path) -> list[Record]:
    """The events of the Olist funnel."""
    mapping = parse(OLIST.read_text())
    files, _ = assign(mapping, sorted(olist.glob("*.csv")))
    records, faults = asyncio.run(_all_of(Import(mapping, files)))
    assert faults == []
    return records


def read(olist: Path, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file, read with nothing but the standard library."""
    with (olist / f"olist_{name}_dataset.csv").open(newline="") as file:
        return list(DictReader(file))


def test_olist_leads_and_wins_per_origin(olist: Path, olist_events: list[Record]) -> None:
    """8,000 leads, 842 won, and as many wins per origin as a group-by over the files gives."""
    origin = {row["mql_id"]: row["origin"] or "no_origin" for row in read(olist, "marketing_qualified_leads")}
    expected = Counter(origin[row["mql_id"]] for row in read(olist, "closed_deals"))
    channel = {each.subject_id: each.channel for each in olist_events if isinstance(each, TouchRecorded)}
    won = Counter(channel[each.subject_id] for each in olist_events if isinstance(each, OpportunityWon))
    assert (len(channel), won.total(), len(olist_events)) == (8_000, 842, 22_542)
    assert won == expected


def test_olist_amounts_and_reviewers_are_those_of_the_file(olist: Path, olist_events: list[Record]) -> None:
    """The declared revenue is the amount, to the cent, outlier included; each acceptance names its SDR."""
    deals = read(olist, "closed_deals")
    amounts = [each.amount_minor for each in olist_events if isinstance(each, OpportunityWon)]
    assert sum(amounts) == sum(round(float(deal["declared_monthly_revenue"]) * 100) for deal in deals)
    assert max(amounts) == 50_000_000_00
    reviewers = Counter(each.actor.id for each in olist_events if isinstance(each, HandoffAccepted))
    assert reviewers == Counter(deal["sdr_id"] for deal in deals)


def test_olist_folds_with_the_one_fault_that_is_explained(olist_events: list[Record]) -> None:
    """8,000 journeys: 842 customers, the others MQL; one fault, the lead won before its first contact."""
    default = (Path(projections.__file__).parent / "default.yaml").read_text()
    rules = Rules((Entry(None, definition.parse(default)),), ())
    faults: list[tuple[str, str]] = []
    stages: Counter[str] = Counter()
    for history in journeys(olist_events).values():
        rows = journey.rows(journey.fold(history, rules), rules)
        stages.update(str(lead[1]) for lead in rows["lead_state"])
        faults += [(str(fault[1])[:18], str(fault[4])) for fault in rows["fault"]]
    assert stages == {"MQL": 7_158, "Customer": 842}
    assert faults == [("olist:mql:b91cf881", "move_without_reason")]


def test_olist_events_have_ids_of_their_own(olist_events: list[Record]) -> None:
    """No two events share an id, so nothing is taken for a duplicate or a conflict."""
    assert len({each.event_id for each in olist_events}) == len(olist_events)


def test_olist_reaches_the_topics(topics: Addresses, olist: Path, tmp_path: Path) -> None:
    """The command sends every event and says how many."""
    addresses = {f"LEADLOG_{name.upper()}": value for name, value in topics._asdict().items()}
    environment = os.environ | addresses | {"LEADLOG_STATE": str(tmp_path), "LEADLOG_DATA": str(olist.parent)}
    ended = subprocess.run(
        [LEADLOG, "import", "--mapping", OLIST, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["bad_rows"], summary["events"]) == (8_842, 0, 22_542)
    assert sum(asyncio.run(end_offsets(topics.kafka_bootstrap, INPUT_TOPICS)).values()) == 22_542
