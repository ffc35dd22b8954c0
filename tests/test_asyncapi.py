"""The AsyncAPI document is valid and says what is: topics, settings, records, keys, headers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import asyncapi, ids
from schemas.topics import TOPICS
from schemas.wire import headers
from services.projector.batch import rejection
from services.projector.decoding import Reject
from services.projector.delivery import Record
from services.rejections import REPAIRS_HEADER, Origin
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


@pytest.mark.parametrize("name", sorted(set(MESSAGES) - {"Rejected"}))
def test_headers_and_keys_are_those_that_we_send(name: str) -> None:
    """Each header of an event is described, and one that never changes with its value."""
    trait = DOCUMENT["components"]["messageTraits"]["event"]
    described = {**trait["headers"]["properties"], **MESSAGES[name]["headers"]["properties"]}
    sent = {key: value.decode() for key, value in headers(fullest(name), traceparent="00-1-2-3")}
    assert set(described) == set(sent) | {REPAIRS_HEADER}
    constant = {key: each["const"] for key, each in described.items() if "const" in each}
    assert constant == {key: sent[key] for key in constant}
    assert trait["bindings"]["kafka"]["key"]["type"] == "string"


def test_headers_of_a_rejection_are_those_that_we_send() -> None:
    """What the outbox sends, with its `ce_id`."""
    refused = Reject(Record("lead.events", 0, 0, 0, None, None, ()), "reason", "", Origin(None, None, None))
    sent = set(yaml.safe_load(rejection(refused)[4])) | {"ce_id"}
    assert set(MESSAGES["Rejected"]["headers"]["properties"]) == sent
