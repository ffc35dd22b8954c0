"""The AsyncAPI document is valid and says what is: topics, settings, records, keys, headers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from schemas import asyncapi, derived, ids
from schemas.records import RECORDS
from schemas.topics import MAX_MESSAGE_BYTES, TOPICS
from schemas.wire import headers
from services.projector.batch import rejection
from services.projector.decoding import Origin, Reject
from services.projector.delivery import Record
from services.rejections import REPAIRS_HEADER
from tests.golden_files import fullest

OFFICIAL = Path(__file__).parent / "schemas" / "asyncapi-3.1.0.json"
DOCUMENT: dict[str, Any] = yaml.safe_load(asyncapi.FILE.read_text())
MESSAGES = DOCUMENT["components"]["messages"]


def valid(document: Path) -> bool:
    """Whether a document follows AsyncAPI's own schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(OFFICIAL), str(document)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_document_follows_asyncapis_own_schema(tmp_path: Path) -> None:
    """The file is valid; one with a number of partitions that is none is not."""
    assert valid(asyncapi.FILE)
    wrong = tmp_path / "asyncapi.yaml"
    wrong.write_text(asyncapi.FILE.read_text().replace("partitions: 12", "partitions: none"))
    assert not valid(wrong)


def test_the_file_is_the_one_that_the_code_makes() -> None:
    """After a change of topics, records or headers: `python -m schemas.asyncapi`."""
    assert asyncapi.FILE.read_text() == asyncapi.as_yaml()


def test_every_avro_file_is_a_message_of_its_topic_and_nothing_else_is() -> None:
    """The folders of `.avsc` files are the channels; each message refers to its file."""
    files = {
        topic.name: {file.stem for file in (ids.FOLDER / "avro" / topic.name).glob("*.avsc")}
        for topic in TOPICS
    }
    channels = {name: set(channel.get("messages", ())) for name, channel in DOCUMENT["channels"].items()}
    assert channels == files | {"lead.rejected": {"Rejected"}}
    for topic, names in files.items():
        for name in names:
            reference = MESSAGES[name]["payload"]["schema"]["$ref"]
            assert (
                asyncapi.FILE.parent / reference
            ).resolve() == ids.FOLDER / "avro" / topic / f"{name}.avsc"


def test_topics_have_the_settings_that_deployment_gives_them() -> None:
    """Partitions and configuration of each topic, by Kafka's names."""
    for topic in TOPICS:
        told = DOCUMENT["channels"][topic.name]["bindings"]["kafka"]
        configuration = told["topicConfiguration"]
        configuration["cleanup.policy"] = ",".join(configuration["cleanup.policy"])
        assert told["partitions"] == topic.partitions
        assert {name: str(value) for name, value in configuration.items()} == topic.settings


def described(name: str) -> dict[str, Any]:
    """The headers of a message, those of its trait included."""
    (trait,) = [each["$ref"].rpartition("/")[2] for each in MESSAGES[name]["traits"]]
    common: dict[str, Any] = DOCUMENT["components"]["messageTraits"][trait]["headers"]["properties"]
    own: dict[str, Any] = MESSAGES[name]["headers"]["properties"]
    return common | own


def constants(name: str) -> dict[str, str]:
    """The headers of a message whose value never changes."""
    return {key: each["const"] for key, each in described(name).items() if "const" in each}


@pytest.mark.parametrize("name", RECORDS)
def test_headers_of_events_are_those_that_we_send(name: str) -> None:
    """Each is described, and one that never changes with its value."""
    sent = {key: value.decode() for key, value in headers(fullest(name), traceparent="00-1-2-3")}
    assert set(described(name)) == set(sent) | {REPAIRS_HEADER}
    assert constants(name).items() <= sent.items()


@pytest.mark.parametrize("name", derived.STRUCTS)
def test_headers_of_conclusions_are_those_that_we_send(name: str) -> None:
    """Each is described, and one that never changes with its value."""
    sent = derived.headers(conclusion(name)) | {"ce_id": "of the outbox"}
    assert set(described(name)) == set(sent)
    assert constants(name).items() <= sent.items()


def conclusion(name: str) -> derived.Derived:
    """A conclusion of this kind."""
    fields = msgspec.structs.fields(derived.STRUCTS[name])
    values: dict[Any, Any] = {str: "x", bool: True, float: 0.5}
    return derived.STRUCTS[name](**{each.name: values.get(each.type, 0) for each in fields})


def test_headers_of_a_rejection_are_those_that_we_send() -> None:
    """What the outbox sends, with its `ce_id`: most of it for the largest record."""
    largest = Record("lead.events", 0, 0, 0, None, b"x" * int(MAX_MESSAGE_BYTES), ())
    refused = Reject(largest, "reason", "", Origin(None, None, None))
    sent = set(rejection(refused).headers) | {"ce_id"}
    assert set(MESSAGES["Rejected"]["headers"]["properties"]) == sent
