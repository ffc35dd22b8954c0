"""Guards that the door's OpenAPI document says what the door does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import requests

from schemas.contract import to_json
from schemas.records import RECORDS
from services.ingest import openapi
from services.ingest.answers import LIMITS
from tests.door import Opened
from tests.golden_files import fullest, smallest
from tests.test_ingest import TOUCH, WRONG

ROOT = Path(__file__).parent.parent
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


def fits(name: str, value: Any) -> bool:
    """Whether a JSON value fits a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": openapi.document()["components"]}
    return bool(jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(value))


@pytest.mark.parametrize("name", RECORDS)
def test_an_event_fits_the_schema_of_its_record(name: str) -> None:
    """What the contract writes fits, whole and without what may be left out; what is not its own does not."""
    for record in (smallest(name), fullest(name)):
        event = msgspec.json.decode(msgspec.json.encode(to_json(record)))
        assert fits("Event", event)
        assert fits("Event", {field: event[field] for field in event if field != "recorded_at"})
        assert not fits("Event", event | {"colour": "red"})
        assert not fits("Event", event | {"occurred_at": 5})
        assert not fits("Event", event | {"event_id": ""})


def test_every_field_is_explained_and_the_limits_are_those_of_the_code() -> None:
    """The document is enough to write a publisher."""
    document = openapi.document()
    schemas = document["components"]["schemas"]
    for name in RECORDS:
        unexplained = [
            field for field, about in schemas[name]["properties"].items() if "description" not in about
        ]
        assert unexplained == ["record"]
    content = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    (array,) = (shape for shape in content["schema"]["oneOf"] if shape.get("type") == "array")
    assert array["maxItems"] == LIMITS.request_events
    assert fits("Event", content["example"])


@pytest.mark.servers
def test_the_answers_are_as_described(opened: Opened) -> None:
    """The door serves the document, and its bodies fit it."""
    served = requests.get(f"{opened.door.url}/openapi.json", timeout=60).json()
    assert served == msgspec.json.decode(msgspec.json.encode(openapi.document()))
    assert fits("Answer", opened.door.post([TOUCH, WRONG], opened.keys.everything).json())
    assert fits("Problem", opened.door.post(b"", opened.keys.everything).json())
    assert fits("Limits", requests.get(f"{opened.door.url}/v1/limits", timeout=60).json())


@pytest.mark.slow
@pytest.mark.servers
def test_schemathesis_finds_nothing(opened: Opened, tmp_path: Path) -> None:
    """Generated requests that fit the document, and others that do not, are answered as it says."""
    config = ROOT / "tests" / "schemathesis.toml"
    command = [str(SCHEMATHESIS), "--config-file", str(config), "run", f"{opened.door.url}/openapi.json"]
    options = ["--auth", f"{opened.keys.history}:", "--phases", "examples,fuzzing", "--max-examples", "100"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *options], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
