"""Guards `leadlog import`: rows become the events that a mapping says, bad ones are told, nothing is guessed.

What an event must look like is guarded by test_contract, sending by test_publish.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from csv import DictReader
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from click.testing import CliRunner, Result

import projections
from projections import definition, journey
from projections.identity import journeys
from projections.rules import Entry, Rules
from schemas.content import content_hash
from schemas.instants import rfc3339
from schemas.records import (
    AttributeChanged,
    EventRetracted,
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
from services.importer import tables
from services.importer.mapping import MappingFaults, parse
from services.importer.rows import BadRow, WrongFiles, assign
from services.settings import Addresses
from tests.feeding import commands_on, given
from tests.fresh import drop_database
from tests.importing import imported, told

OLIST = Path(__file__).parent.parent / "infra" / "mappings" / "olist.yaml"
LEADLOG = Path(sys.executable).parent / "leadlog"
OLIST_DATABASE = "test_olist"
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
NO_COLUMN = "an id with a column in it, such as crm:{id}: each row is another event"
NO_EMAIL = "use the id of your system, or email-sha256: and the SHA-256 of the address in lower case"
NO_BRACE = "a column between two braces, such as {id}"
NO_FORMAT = "iso, epoch_s, epoch_ms, or a strptime format such as %d.%m.%Y %H:%M"
PEOPLE = "email;company;size\nann@x.example;Ann & Co;12\nann@x.example;Second;\n"


def make(folder: Path, mapping: str, touches: str, people: str = PEOPLE) -> tuple[list[Record], list[BadRow]]:
    """The events and bad rows of two files under a mapping."""
    (folder / "touches-2026.csv").write_bytes(touches.encode("utf-8", "surrogateescape"))
    (folder / "people.csv").write_bytes(people.encode("utf-8", "surrogateescape"))
    return imported(parse(HEAD + mapping), list(folder.glob("*.csv")))


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
        ("03/01/26 09:05:00", ', format: "%m/%d/%y %X"', 1_772_352_300),
        ("Sun Mar  1 09:05:00 2026", ", format: '%c'", 1_772_352_300),
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
    assert bad[3].cells["origin"] == r"\udcff"


def test_a_date_without_time_is_not_guessed(tmp_path: Path) -> None:
    """A date where an instant is needed is a fault unless the mapping says which time of day."""
    mapping = TOUCH.replace(', at: "00:00"', "")
    records, bad = make(tmp_path, mapping, "id,time,origin\n1,2026-03-01,x\n")
    assert (records, told(bad)) == ([], [(2, ("time",), "date_without_time")])


def test_an_amount_is_never_rounded(tmp_path: Path) -> None:
    """Money becomes minor units exactly; more decimals than it can have are a fault. Where the comma is the
    decimal one, 12.50 was taken for 1250."""
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
    amounts = ("1.234,50", "0,1", "-3", "1.234.567", "0,005", "12.50", "NaN", "9" * 30)
    rows = "id,time,origin\n" + "".join(
        f'{number},2026-03-01 10:00:00,"{amount}"\n' for number, amount in enumerate(amounts)
    )
    records, bad = make(tmp_path, mapping, rows)
    assert [record.amount_minor for record in records if isinstance(record, OpportunityWon)] == [
        123_450,
        10,
        -300,
        123_456_700,
    ]
    assert [code for *_, code in told(bad)] == [*["bad_number"] * 3, "out_of_range"]


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
    nobody = "id,time,origin\n3,2026-03-01 10:00:00,\n"
    assert make(tmp_path, mapping, nobody, PEOPLE + ";No address;\n") == ([], [])
    found = [(record.event_id, record.value) for record in records if isinstance(record, AttributeChanged)]
    assert found == [("1:Ann & Co", 12.0), ("1:Second", None)]
    inexact = make(tmp_path, mapping, rows, PEOPLE.replace(";12", ";9007199254740993"))[1]
    assert told(inexact) == [(2, ("people.size",), "out_of_range")]
    needed = mapping.replace("origin}}", "origin}, required: true}")
    records, bad = make(tmp_path, needed, rows)
    assert (len(records), told(bad)) == (2, [(3, ("origin",), "no_match")])


def test_joins_of_large_files_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that wait in a file are found as those in memory are, in their order, whatever is in the cells."""
    mapping = """
  - from: touches
    join: [{input: people, on: {email: origin}}]
    events:
      - record: LeadAssigned
        event_id: "{id}:{people.company}"
        subject_id: "crm:{id}"
        occurred_at: {column: time, at: "00:00"}
        owner_id: "{people.company}"
"""
    rows = "id,time,origin\n1,2026-03-01,ann@x.example\n2,2026-03-01,ö\n3,2026-03-01,b\n"
    people = PEOPLE + 'ö;"a;b";\nö;"c\x1fd";\nb;m\udcfcller;\n'
    few, bad = make(tmp_path, mapping, rows, people)
    monkeypatch.setattr(tables, "ROWS_IN_MEMORY", 1)
    many, also_bad = make(tmp_path, mapping, rows, people)
    assert [each.event_id for each in few] == ["1:Ann & Co", "1:Second", "2:a;b"]
    assert many == few
    assert told(bad) == told(also_bad)
    assert told(bad) == [
        (5, (), "bad_csv"),
        (4, ("id", "people.company"), "not_storable"),
        (4, ("people.company",), "not_storable"),
    ]


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


LINK = """
  - from: touches
    events:
      - record: SubjectsLinked
        each: {column: origin, split: ";"}
        event_id: "merge:{id}:{each}"
        subject_id: "crm:{id}"
        occurred_at: {column: time}
        other_subject_id: "crm:{each}"
        evidence: merged_in_crm
"""


def test_a_cell_that_lists_ids_is_an_event_for_each(tmp_path: Path) -> None:
    """One cell with several ids is as many events; an empty one is none, and the row is counted as such."""
    rows = "id,time,origin\n1,2026-03-01 10:00:00, 2;;3 \n4,2026-03-01 10:00:00,\n"
    records, bad = make(tmp_path, LINK, rows)
    assert bad == []
    links = [(each.event_id, each.other_subject_id) for each in records if isinstance(each, SubjectsLinked)]
    assert links == [("merge:1:2", "crm:2"), ("merge:1:3", "crm:3")]
    result = run_dry(tmp_path, LINK)
    assert "touches-2026.csv: 2 rows, 0 bad, 1 without an event" in result.stdout


def test_a_cell_of_several_is_an_array(tmp_path: Path) -> None:
    """An array field takes the parts of a cell."""
    mapping = """
  - from: touches
    events:
      - record: MeetingHeld
        event_id: "meet:{id}"
        subject_id: "crm:{id}"
        occurred_at: {column: time}
        meeting_id: "{id}"
        kind: demo
        attendees: {column: origin, split: ";"}
"""
    [record], _ = make(tmp_path, mapping, "id,time,origin\n1,2026-03-01 10:00:00,Ann; Bob\n")
    assert getattr(record, "attendees", None) == ["Ann", "Bob"]


def test_a_deleted_row_takes_its_event_back(tmp_path: Path) -> None:
    """Where the condition holds the event is replaced by its retraction, which needs the envelope alone."""
    retract = 'retract: [{origin: gone}, {origin: ["lost", "void"]}]'
    mapping = TOUCH.replace("        touch_type", f"        {retract}\n        touch_type")
    rows = "".join(f"{number},2026-03-01,{origin}\n" for number, origin in enumerate(["ads", "gone", "void"]))
    records, bad = make(tmp_path, mapping, "id,time,origin\n" + rows)
    assert bad == []
    assert [each.event_id for each in records] == ["t:0", "t:1:retracted", "t:2:retracted"]
    assert [
        (each.target_event_id, each.subject_id, each.reason_code)
        for each in records
        if isinstance(each, EventRetracted)
    ] == [("t:1", "crm:1", "retracted_in_source"), ("t:2", "crm:2", "retracted_in_source")]


def test_a_word_that_is_neither_true_nor_false_is_not_passed_over(tmp_path: Path) -> None:
    """`is` takes the usual ways of writing them, an empty cell is neither, and any other word is a fault."""
    mapping = TOUCH.replace("        touch_type", "        retract: {origin: {is: true}}\n        touch_type")
    mapping = mapping.replace("{column: origin, empty: no_origin}", "x")
    words = ["TRUE", "t", "1", "False", "no", "", "perhaps"]
    rows = "".join(f"{number},2026-03-01,{word}\n" for number, word in enumerate(words))
    records, bad = make(tmp_path, mapping, "id,time,origin\n" + rows)
    assert [each.event_id for each in records if isinstance(each, TouchRecorded)] == ["t:3", "t:4", "t:5"]
    assert sum(isinstance(each, EventRetracted) for each in records) == 3
    assert told(bad) == [(8, (), "bad_boolean")]


def test_an_id_with_a_gap_is_none(tmp_path: Path) -> None:
    """An empty cell in an id is a fault of the row: all rows like it would be one event, or one person."""
    mapping = TOUCH.replace('subject_id: "crm:{id}"', 'subject_id: "crm:{id}:{origin}"')
    records, bad = make(tmp_path, mapping, "id,time,origin\n1,2026-03-01,\n,2026-03-01,\n2,2026-03-01,x\n")
    assert [each.subject_id for each in records] == ["crm:2:x"]
    assert told(bad) == [
        (2, ("id", "origin"), "gap_in_id"),
        (3, ("id",), "missing_field"),
        (3, ("id", "origin"), "missing_field"),
    ]


def test_a_text_of_empty_cells_is_empty(tmp_path: Path) -> None:
    """A template with nothing to fill in leaves its field out, whatever stands around the cells."""
    mapping = TOUCH + '        campaign_id: "campaign-{campaign}"\n'
    rows = "id,time,origin,campaign\n1,2026-03-01,x,\n2,2026-03-01,x,7\n"
    records, _ = make(tmp_path, mapping, rows)
    found = [each.campaign_id for each in records if isinstance(each, TouchRecorded)]
    assert found == [None, "campaign-7"]


def test_a_file_may_be_optional(tmp_path: Path) -> None:
    """Without an optional file its rows and joins are left out, and the command says so."""
    mapping = """
  - from: touches
    join: [{input: people, on: {email: origin}}]
    events:
      - record: LeadAssigned
        event_id: "{id}"
        subject_id: "crm:{id}"
        occurred_at: {column: time}
        owner_id: {column: people.company, empty: nobody}
"""
    text = HEAD.replace('delimiter: ";"', 'delimiter: ";", optional: true') + mapping
    (tmp_path / "touches-2026.csv").write_text("id,time,origin\n1,2026-03-01 10:00:00,ann@x.example\n")
    [record], bad = imported(parse(text), list(tmp_path.glob("*.csv")))
    assert (bad, getattr(record, "owner_id", None)) == ([], "nobody")
    (tmp_path / "mapping.yaml").write_text(text)
    result = run_dry(tmp_path)
    assert result.exit_code == 0
    assert "no file for people (people.csv), which is optional" in result.stderr


def test_a_row_of_the_future_is_bad(tmp_path: Path) -> None:
    """A mistyped year is told at the column it stands in: an event is recorded when it occurred, and that
    cannot be yet to come."""
    records, bad = make(tmp_path, TOUCH, "id,time,origin\n1,2206-03-01,x\n2,2026-03-01,x\n")
    assert (len(records), told(bad)) == (1, [(2, ("time",), "from_the_future")])


def test_the_same_file_gives_the_same_events(tmp_path: Path) -> None:
    """Imported twice, each event is an equal copy of the first, recorded at the same time."""
    first, again = (make(tmp_path, TOUCH, "id,time,origin\n1,2026-03-01,x\n2,2026-03-02,\n")[0] for _ in "ab")
    assert [(content_hash(record), record.recorded_at) for record in first] == [
        (content_hash(record), record.recorded_at) for record in again
    ]


def test_the_mappings_of_the_project_are_sound() -> None:
    """Those that ship, and the one in their README, fit the contract."""
    example = (OLIST.parent / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    files = sorted(OLIST.parent.glob("*.yaml"))
    assert [parse(file.read_text()).name for file in files] == [file.stem for file in files]
    assert parse(example).name == "newsletter"


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


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ('occurred_at: "yesterday"', "a time as iso"),
        ("occurred_at: {column: time, empty: 5}", "text; quote it if it is text"),
        ('channel: "{each}"', "a column; {each} stands for a part of the cell that `each` names"),
        ("event_id: constid", NO_COLUMN),
        ('subject_id: "crm:{id"', NO_BRACE),
        ('channel: "{origin}{"', NO_BRACE),
        ('occurred_at: {column: time, format: "%d.%m.%Q"}', NO_FORMAT),
        ("occurred_at: {column: time, format: [epoch_ms, isoo]}", NO_FORMAT),
        ("direction: inbund", "one of inbound, outbound; did you mean 'inbound'?"),
        ("direction: {column: origin, map: {a: inbound, b: both}}", "one of inbound, outbound"),
        ("direction: {column: origin, else: both}", "one of inbound, outbound"),
        ("channel: 5", "a text"),
        ("channel: {column: origin, empty: 5}", "a text"),
        ("subject_id: ann@x.example", f"an opaque id; {NO_EMAIL}"),
    ],
)
def test_what_could_never_be_right_is_a_fault_of_the_mapping(wrong: str, expected: str) -> None:
    """What stands in the mapping itself is told with its line before any row. An id without a column, or an
    open brace, made one event of all rows; a wrong word made every row bad."""
    field = wrong.partition(":")[0]
    lines = [
        f"        {wrong}" if line.strip().startswith(f"{field}:") else line for line in TOUCH.splitlines()
    ]
    with pytest.raises(MappingFaults) as told_of:
        parse(HEAD + "\n".join(lines))
    assert [fault.expected for fault in told_of.value.faults] == [expected]


def test_constants_that_break_a_rule_are_told_once() -> None:
    """A wrong currency, or a reason that needs a note, was told with each row instead of its line."""
    kept = "\n".join(TOUCH.splitlines()[:7])
    reject = "HandoffRejected\n        reason_code: other\n        return_to: nurture"
    win = "OpportunityWon\n        opportunity_id: 'd{id}'\n        amount_minor: 1\n        currency: EURO"
    told = []
    for record in (reject, win, f"{reject}\n        note: '{{why}}'"):
        try:
            parse(HEAD + kept.replace("TouchRecorded", record))
        except MappingFaults as faults:
            told += [(fault.line, fault.value) for fault in faults.faults]
    assert told == [(12, "note"), (15, "EURO")]


def test_parts_of_a_cell_need_ids_of_their_own() -> None:
    """Without {each} in it, all parts had one id: all but the first were conflicts."""
    with pytest.raises(MappingFaults) as told:
        parse(HEAD + LINK.replace('"merge:{id}:{each}"', '"merge:{id}"'))
    [fault] = told.value.faults
    assert (fault.path, fault.value) == ("rows[0].events[0].event_id", '"merge:{id}"')
    assert "{each}" in fault.expected


def test_a_column_that_is_there_twice_is_not_chosen_from(tmp_path: Path) -> None:
    """Two columns of one name are a fault of the mapping that names it."""
    with pytest.raises(MappingFaults, match="a column that its file has once"):
        make(tmp_path, TOUCH, "id,time,origin,time\n1,2026-03-01,x,2026-03-02\n")


def test_a_missing_column_is_told_before_the_first_row(tmp_path: Path) -> None:
    """A column that the file does not have is a fault of the mapping, with its line and the nearest one."""
    with pytest.raises(MappingFaults) as told:
        make(tmp_path, TOUCH, "id,tme,origin\n1,2026-03-01,x\n")
    [fault] = told.value.faults
    assert fault.value == "time"
    assert "did you mean 'tme'" in fault.expected or "did you mean tme" in fault.expected


@pytest.mark.parametrize(
    ("content", "told_of"),
    [
        (b"", "is empty"),
        (b"id;time;origin\n1;2026-03-01;x\n", 'set `delimiter: ";"` of input .touches.'),
        ("id,time,origin\n".encode("utf-16"), "UTF-16.*set `encoding: utf-16`"),
        (b"\x1f\x8b\x08\x00", "gunzip"),
        (b'"id"x,time,origin\n1,2026-03-01,x\n', "first line that is no CSV"),
    ],
)
def test_what_is_no_such_csv_is_named_with_what_to_do(tmp_path: Path, content: bytes, told_of: str) -> None:
    """An empty file, another delimiter, UTF-16 or gzip ended in a list of missing columns; a quote in the
    wrong place of the first line in a traceback."""
    (tmp_path / "touches.csv").write_bytes(content)
    (tmp_path / "people.csv").write_text(PEOPLE)
    with pytest.raises(WrongFiles, match=f"touches.csv .*{told_of}"):
        imported(parse(HEAD + TOUCH), list(tmp_path.glob("*.csv")))


def test_another_encoding_is_told_and_not_hashed(tmp_path: Path) -> None:
    """The hash of wrong bytes is that of nobody; as text they were refused without saying what to do."""
    hashed = TOUCH.replace('"crm:{id}"', '"email-sha256:{origin|lower|sha256}"')
    for mapping, column in ((hashed, "subject_id"), (TOUCH, "channel")):
        records, bad = make(tmp_path, mapping, "id,time,origin\n1,2026-03-01,m\udcfcller\n")
        assert records == []
        [fault] = bad[0].faults
        assert (fault.path, "set `encoding`" in (fault.hint or "")) == (f"/{column}", True)


def test_half_a_character_ends_no_import(tmp_path: Path) -> None:
    """A file in UTF-16 that was cut within a character ended in a traceback, whatever stood before."""
    (tmp_path / "touches.csv").write_bytes("id,time,origin\n1,2026-03-01,x\n".encode("utf-16") + b"2")
    (tmp_path / "people.csv").write_text(PEOPLE)
    mapping = HEAD.replace('"touches*.csv"', '"touches*.csv", encoding: utf-16') + TOUCH
    records, bad = imported(parse(mapping), list(tmp_path.glob("*.csv")))
    assert ([record.event_id for record in records], told(bad)) == (["t:1"], [(3, (), "bad_csv")])


def test_files_are_found_by_name(tmp_path: Path) -> None:
    """Every input needs exactly one of the files named."""
    mapping = parse(HEAD + TOUCH)
    files = [tmp_path / name for name in ("touches-1.csv", "touches-2.csv", "people.csv")]
    with pytest.raises(WrongFiles, match=r"touches\*\.csv.*touches-1\.csv, .*touches-2\.csv"):
        assign(mapping, files)
    with pytest.raises(WrongFiles, match="none"):
        assign(mapping, files[:1])
    with pytest.raises(WrongFiles, match=r"touches-1\.csv\.gz is packed"):
        assign(mapping, [tmp_path / "touches-1.csv.gz"])


def run_dry(folder: Path, mapping: str = "", *arguments: str) -> Result:
    """The command on the files of a folder, with a mapping or the one that lies there."""
    file = folder / "mapping.yaml"
    if mapping:
        file.write_text(HEAD + mapping)
    return CliRunner().invoke(command, [str(folder), "--mapping", str(file), "--dry-run", *arguments])


def test_a_dry_run_shows_the_first_faults_and_what_would_be_sent(tmp_path: Path) -> None:
    """Ten bad rows with line, cells and faults; then every file, fault and record counted."""
    good = "".join(f"{number},2026-03-01,ads\n" for number in range(3))
    rows = "id,time,origin\n" + good + "".join(f"{number},never,x\n" for number in range(11)) + "1,2\n"
    make(tmp_path, TOUCH, rows)
    result = run_dry(tmp_path, TOUCH)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "touches-2026.csv, line 5:\n"
        "  column time, TouchRecorded/occurred_at: bad_time: found 'never', expected a time as iso "
        "(say how times look with `format`)\n"
        "  the row: id: 0; time: never; origin: x\n"
    )
    assert result.stderr.count("the row: ") == 10
    assert result.stdout.splitlines()[:5] == [
        "touches-2026.csv: 15 rows, 12 bad",
        "  bad_time in time: 11",
        "  bad_csv: 1",
        "  the first 10 bad rows are shown above: --json lists all 12",
        "           3 TouchRecorded",
    ]
    assert "3 events would be on the log; 15 rows, 12 bad" in result.stdout
    as_json = run_dry(tmp_path, TOUCH, "--json")
    assert len(as_json.stderr.splitlines()) == 12
    last = json.loads(as_json.stderr.splitlines()[-1])
    assert (last["line"], last["cells"], last["faults"][0]["code"]) == (
        16,
        {"id": "1", "time": "2"},
        "bad_csv",
    )
    summary = json.loads(as_json.stdout)
    assert summary["records"] == {"TouchRecorded": 3}
    assert summary["files"] == {"touches-2026.csv": {"rows": 15, "bad": 12, "without_event": 0}}


def test_a_missing_value_is_told_as_such(tmp_path: Path) -> None:
    """Whoever forgot an id read `found None`, which is no word of a CSV file."""
    make(tmp_path, TOUCH, "id,time,origin\n,2026-03-01,x\n")
    lines = run_dry(tmp_path, TOUCH).stderr.splitlines()
    assert (
        lines[1]
        == "  column id, TouchRecorded/event_id: missing_field: expected a value; the field is required"
    )


def test_without_a_terminal_progress_is_told_in_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and then a line says how far it is, how fast, and how long it will take."""
    monkeypatch.setattr(settings, "PROGRESS_SECONDS", 0)
    rows = "".join(f"{number},2026-03-01,ads\n" for number in range(9_000))
    make(tmp_path, TOUCH, "id,time,origin\n" + rows)
    told_lines = run_dry(tmp_path, TOUCH).stderr.splitlines()
    assert len(told_lines) == 3
    assert re.fullmatch(
        r"checking test: 4,000 events, 0 refused, [\d,]+ events/s, \d\d%, \d+ s left", told_lines[0]
    )
    assert "9,000 events" in told_lines[-1]


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
    records, bad = imported(parse(OLIST.read_text()), list(olist.glob("*.csv")))
    assert bad == []
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


@pytest.fixture(scope="module")
def olist_summary(stack: Addresses, olist_events: list[Record]) -> dict[str, Any]:
    """What `leadlog summary --json` says once the import is in Postgres."""
    return asyncio.run(_summary_of(stack.postgres_dsn, olist_events))


async def _summary_of(server_dsn: str, events: list[Record]) -> dict[str, Any]:
    server = await asyncpg.connect(server_dsn)
    await drop_database(server, OLIST_DATABASE)
    await server.execute(f"create database {OLIST_DATABASE}")
    dsn = f"{server_dsn.rpartition('/')[0]}/{OLIST_DATABASE}"
    await given(dsn, events)
    models = ["--model", "first", "--model", "linear", "--model", "last_non_direct"]
    ended = await asyncio.to_thread(commands_on(dsn), "summary", "--json", *models)
    await drop_database(server, OLIST_DATABASE)
    await server.close()
    assert ended.exit_code == 0, ended.output
    summary: dict[str, Any] = json.loads(ended.stdout)
    return summary


@dataclass(frozen=True)
class OlistLead:
    """A lead as the files have it; `took` is None while it is not won."""

    origin: str
    contact: datetime
    won: datetime | None = None
    revenue: int = 0

    @property
    def took(self) -> timedelta | None:
        return self.won - self.contact if self.won else None

    @property
    def is_credited(self) -> bool:
        """Whether its one touch is at most a year before its win, and not after it."""
        return self.took is not None and timedelta(0) <= self.took <= timedelta(days=365)


@pytest.fixture(scope="module")
def olist_leads(olist: Path) -> list[OlistLead]:
    """The files, joined with nothing but the standard library. Instants are UTC."""
    deals = {row["mql_id"]: row for row in read(olist, "closed_deals")}
    leads = []
    for row in read(olist, "marketing_qualified_leads"):
        contact = datetime.fromisoformat(row["first_contact_date"]).replace(tzinfo=UTC)
        lead = OlistLead(row["origin"] or "no_origin", contact)
        if deal := deals.get(row["mql_id"]):
            won = datetime.fromisoformat(deal["won_date"]).replace(tzinfo=UTC)
            lead = replace(lead, won=won, revenue=round(float(deal["declared_monthly_revenue"]) * 100))
        leads.append(lead)
    return leads


def _eight_open_hours_after(midnight: datetime) -> datetime:
    """When the office of the default definition has been open for 8 h: Mon-Thu 9-17, Fri 9-15:30, Berlin."""
    day, left = midnight.date(), timedelta(hours=8)
    while True:
        hours = (8, 8, 8, 8, 6.5, 0, 0)[day.weekday()]
        opens = datetime(day.year, day.month, day.day, 9, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
        if left <= timedelta(hours=hours):
            return opens + left
        day, left = day + timedelta(days=1), left - timedelta(hours=hours)


@pytest.mark.slow
def test_olist_funnel_is_that_of_the_files(
    olist_summary: dict[str, Any], olist_leads: list[OlistLead]
) -> None:
    """8,000 leads, 842 of them won; whoever was won first and contacted later was never an MQL on its own."""
    won = [lead for lead in olist_leads if lead.won]
    early = [lead for lead in won if lead.won and lead.won < lead.contact]
    funnel = {row["stage_role"]: (row["reached"], row["now"]) for row in olist_summary["funnel"]}
    assert (len(olist_leads), len(won), len(early)) == (8_000, 842, 1)
    for role in ("anonymous", "known", "engaged"):
        assert funnel[role] == (len(olist_leads), 0)
    assert funnel["mql"] == (len(olist_leads), len(olist_leads) - len(won))
    for role in ("sal", "sql", "opportunity"):
        assert funnel[role] == (len(won), 0)
    assert funnel["won"] == (len(won), len(won))
    assert {funnel[role] for role in ("recycled", "nurture", "disqualified", "lost", "churned")} == {(0, 0)}
    assert olist_summary["faults"] == [{"code": "move_without_reason", "events": len(early)}]
    outcomes = {row["outcome"]: row["handoffs"] for row in olist_summary["handoffs"]}
    assert outcomes == {"accepted": len(won) - len(early), "open": len(olist_leads) - len(won)}
    assert olist_summary["acceptance"] == 1


@pytest.mark.slow
def test_olist_clocks_are_those_of_the_files(
    olist_summary: dict[str, Any], olist_leads: list[OlistLead]
) -> None:
    """A review is met if the deal was won within eight open hours of first contact; nobody ever called."""
    mqls = [lead for lead in olist_leads if not lead.won or lead.won >= lead.contact]
    decided = [lead for lead in mqls if lead.won]
    met = sum(lead.won <= _eight_open_hours_after(lead.contact) for lead in decided if lead.won)
    sla = {row["policy_id"]: row for row in olist_summary["sla"]}
    review = sla["handoff_review"]
    assert 0 < met < len(decided)
    assert (review["met"], review["breached"]) == (met, len(decided) - met)
    assert (review["overdue"], review["clocks"]) == (len(mqls) - len(decided), len(mqls))
    assert review["sla_met"] == pytest.approx(met / len(mqls))
    assert (sla["first_contact"]["overdue"], sla["first_contact"]["clocks"]) == (len(mqls), len(mqls))
    assert sla["follow_up"]["met"] == sla["follow_up"]["clocks"] == sum(1 for lead in olist_leads if lead.won)


@pytest.mark.slow
def test_olist_times_in_stage_are_those_of_the_files(
    olist_summary: dict[str, Any], olist_leads: list[OlistLead]
) -> None:
    """From first contact to win, of those that were won; too few of all to say when half of them are."""
    took = [lead.took.total_seconds() for lead in olist_leads if lead.took is not None]
    took = [seconds for seconds in took if seconds >= 0]
    stages = {row["stage_role"]: row for row in olist_summary["time_in_stage"]}
    mql, customer = stages["mql"], stages["won"]
    assert (mql["closed_visits"], mql["open_visits"]) == (len(took), sum(not x.won for x in olist_leads))
    assert mql["closed_median_seconds"] == pytest.approx(median(took))
    assert mql["median_seconds"] is mql["median_business_seconds"] is None
    assert (customer["closed_visits"], customer["open_visits"]) == (0, sum(bool(x.won) for x in olist_leads))
    assert not mql["is_small"]


@pytest.mark.slow
def test_olist_money_and_credit_are_those_of_the_files(
    olist_summary: dict[str, Any], olist_leads: list[OlistLead]
) -> None:
    """Wins and revenue per origin; a lead has one touch, so every model gives its origin everything."""
    [won] = olist_summary["opportunities"]
    assert (won["status"], won["currency"], won["adjusted_minor"]) == ("won", "BRL", 0)
    assert won["opportunities"] == sum(bool(lead.won) for lead in olist_leads)
    assert won["amount_minor"] == sum(lead.revenue for lead in olist_leads)
    money: Counter[str] = Counter()
    wins: Counter[str] = Counter()
    for lead in olist_leads:
        if lead.won:
            channel = lead.origin if lead.is_credited else "unattributed"
            wins[channel] += 1
            money[channel] += lead.revenue
    for model in ("first", "linear", "last_non_direct"):
        rows = [row for row in olist_summary["credit"] if row["model"] == model]
        assert {row["channel"]: row["deals"] for row in rows} == wins
        assert {row["channel"]: row["amount_minor"] for row in rows} == money


@pytest.mark.slow
def test_olist_is_as_fresh_as_its_last_line(
    olist_summary: dict[str, Any], olist_leads: list[OlistLead]
) -> None:
    """The last event is the last date of the files, and nothing waits."""
    last = max(max(lead.contact, lead.won or lead.contact) for lead in olist_leads)
    freshness = olist_summary["freshness"]
    assert freshness["last_event_at"] == rfc3339(int(last.timestamp()) * 1_000_000)
    assert (freshness["stale_journeys"], freshness["parked_journeys"]) == (0, 0)
    assert olist_summary["definition_version"] == "default@1"
