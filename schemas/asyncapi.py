"""The topics as an AsyncAPI 3.1 document, for publishers that write to Kafka themselves.

Promises: names every topic with its settings and every record with its schema, key and headers, from the same
sources as the code. Leaves fields to the `.avsc` files, which it refers to.

Run `python -m schemas.asyncapi` after a topic, a record or a header was changed.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from schemas.records import RECORDS
from schemas.topics import DERIVED, DERIVED_RECORDS, INPUT_TOPICS, REJECTED, TOPIC_OF_ANY, TOPICS, Topic

FILE = Path(__file__).with_name("asyncapi.yaml")

Object = dict[str, Any]

ABOUT = """\
One history of every lead. Publishers write events to the three input topics; leadlog reads them, puts what it
cannot take on `lead.rejected`, and tells other systems on `lead.derived` what it concluded.

A record is Avro in Confluent's wire format (a zero byte, the schema id as big-endian int32, the body). All
schemas are in the registry under TopicRecordName subjects, such as `lead.events-leadlog.TouchRecorded`: a
serializer looks them up and registers none. Write with acks=all and idempotence, never in a transaction, and
with the default partitioner of Kafka's Java client (librdkafka: `partitioner=murmur2_random`).

`schemas/README.md` has a publisher in Python and the settings of one in Java. `leadlog status --json` tells
the addresses of a running stack.
"""

TOPIC_ABOUT = {
    "lead.events": "Everything that happened to a lead.",
    "lead.identity": "Who is the same person; erasure.",
    "lead.reference": "Campaigns, definitions, business calendars: facts that are not about one lead.",
    DERIVED: "What follows from the events, told at least once: stages entered, SLA clocks.",
    REJECTED: "Every record that could not be read, or lay in the wrong place, byte for byte.",
}

BASE: Object = {"ce_specversion": {"const": "1.0"}, "content-type": {"const": "application/avro"}}
CLOUD_EVENT: Object = BASE | {
    "ce_id": {"description": "The event_id. Names the event when its content cannot be read."},
    "ce_source": {"description": "The source. Rejections are found by it when the content cannot be read."},
    "ce_time": {"format": "date-time", "description": "The instant occurred_at."},
    "ce_subject": {"description": "The subject_id."},
    "traceparent": {"description": "W3C trace context, where there is one."},
    "leadlog_repairs": {"description": "The rejected record that this event stands for: its place."},
}
"""Headers of every event, but for `ce_type`. CloudEvents 1.0 in binary mode; none is required."""

CONCLUSION: Object = BASE | {
    "ce_id": {"description": "The event_id: the same when a conclusion is told twice."},
    "ce_source": {"const": "leadlog"},
    "ce_time": {"format": "date-time", "description": "The instant occurred_at."},
    "ce_subject": {"description": "The journey_id."},
}
"""Headers on `lead.derived`, but for `ce_type`."""

REJECTION: Object = {
    "ce_id": {"description": "topic-partition-offset of the record: the same when it is sent twice."},
    "reason": {"description": "Code, such as not_avro, unknown_schema, bad_value, wrong_key, wrong_topic."},
    "message": {"description": "What is wrong, for people."},
    "topic": {"description": "Where the record lies."},
    "partition": {"description": "Where the record lies."},
    "offset": {"description": "Where the record lies."},
    "left_out": {
        "description": "Size of key and value that are too large to be sent beside this: neither is here."
    },
}
"""Headers on `lead.rejected`."""


def document() -> Object:
    """The whole document."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "leadlog",
            "version": version("leadlog"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/avro",
        "servers": {"local": _server()},
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            **{f"read {topic}": _operation("receive", topic) for topic in INPUT_TOPICS},
            "conclude": _operation("send", DERIVED),
            "reject": _operation("send", REJECTED),
        },
        "components": {
            "messages": {
                **{name: _message(name, "event") for name in RECORDS},
                **{name: _message(name, "conclusion") for name in DERIVED_RECORDS},
                "Rejected": _rejected(),
            },
            "messageTraits": {
                "event": _trait(CLOUD_EVENT, "The subject_id of the event, in UTF-8."),
                "conclusion": _trait(CONCLUSION, "The journey_id, in UTF-8."),
            },
        },
    }


def _server() -> Object:
    registry = {
        "schemaRegistryUrl": "http://127.0.0.1:8081/apis/ccompat/v7",
        "schemaRegistryVendor": "apicurio",
        "bindingVersion": "0.5.0",
    }
    return {
        "host": "127.0.0.1:9092",
        "protocol": "kafka",
        "description": "The local stack, if its usual ports were free.",
        "bindings": {"kafka": registry},
    }


def _channel(topic: Topic) -> Object:
    names = [name for name, there in TOPIC_OF_ANY.items() if there == topic.name] or ["Rejected"]
    return {
        "address": topic.name,
        "description": TOPIC_ABOUT[topic.name],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": _topic_binding(topic)},
    }


def _topic_binding(topic: Topic) -> Object:
    numbers = {name: int(value) for name, value in topic.settings.items() if value.lstrip("-").isdigit()}
    configuration = {**topic.settings, **numbers, "cleanup.policy": [topic.settings["cleanup.policy"]]}
    return {"partitions": topic.partitions, "topicConfiguration": configuration, "bindingVersion": "0.5.0"}


def _operation(action: str, topic: str) -> Object:
    return {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}


def _message(name: str, trait: str) -> Object:
    return {
        "name": name,
        "traits": [{"$ref": f"#/components/messageTraits/{trait}"}],
        "headers": _headers({"ce_type": {"const": f"leadlog.{name}"}}),
        "payload": {
            "schemaFormat": "application/vnd.apache.avro+json;version=1.9.0",
            "schema": {"$ref": f"./avro/{TOPIC_OF_ANY[name]}/{name}.avsc"},
        },
    }


def _trait(headers: Object, key: str) -> Object:
    binding = {
        "key": {"type": "string", "description": key},
        "schemaIdLocation": "payload",
        "schemaIdPayloadEncoding": "confluent",
        "schemaLookupStrategy": "TopicRecordNameStrategy",
        "bindingVersion": "0.5.0",
    }
    return {"headers": _headers(headers), "bindings": {"kafka": binding}}


def _rejected() -> Object:
    return {
        "name": "Rejected",
        "contentType": "application/octet-stream",
        "headers": _headers(REJECTION),
        "bindings": {"kafka": {"key": {"description": "The record's own."}, "bindingVersion": "0.5.0"}},
    }


def _headers(about: Object) -> Object:
    properties = {name: {"type": "string", **each} for name, each in about.items()}
    return {"type": "object", "properties": properties}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def as_yaml() -> str:
    """The document as the file has it."""
    return yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    FILE.write_text(as_yaml())
