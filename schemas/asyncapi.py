"""The AsyncAPI 3 document and the published JSON Schemas, generated from the code: `python -m schemas.asyncapi`.

What is published is immutable: an existing file is never rewritten, a change needs a new minor or major version.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from schemas.events.base import Event
from schemas.records import CorrectionRecord, DataRecord, LabelRecord, PredictionRecord
from schemas.specs import ModelSpec, Part, StreamSpec
from schemas.topics import (
    DATA_PLANE,
    DEAD_LETTERS,
    LIFECYCLE,
    OPENLINEAGE,
    SERVICES,
    TOPIC_OF,
    DataTopic,
    LifecycleTopic,
)

HERE = Path(__file__).parent
PUBLISHED = HERE / "published"
SEAL = HERE / "published.sha256"
DOCUMENT = HERE / "asyncapi.yaml"
RECORDS: dict[str, type[Part]] = {
    "record.data": DataRecord,
    "record.label": LabelRecord,
    "record.prediction": PredictionRecord,
    "record.correction": CorrectionRecord,
    "spec.stream": StreamSpec,
    "spec.model": ModelSpec,
}
MINORS = {"record.prediction": 1, "spec.stream": 1, "spec.model": 1}  # of the others 0
Json = dict[str, Any]


def schemas() -> dict[str, Json]:
    """Every schema of today by its path below `published`."""
    events = {event.schema_path(): _schema(event, event.type_name()) for event in TOPIC_OF}
    records = {record_path(name): _schema(record, f"modelbus.{name}.v1") for name, record in RECORDS.items()}
    return dict(sorted((events | records).items()))


def record_path(name: str) -> str:
    """Where a record's or spec's JSON Schema is published, below schemas/published."""
    return f"{name}/v1.{MINORS.get(name, 0)}.json"


def _schema(model: type[Event] | type[Part], title: str) -> Json:
    schema = model.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def document() -> Json:
    """AsyncAPI 3 for both planes: a channel per topic, an operation per writer and per reader."""
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    for topic in (*LIFECYCLE, *DATA_PLANE):
        name = _channel(topic)
        said = _messages(topic)
        messages |= said
        channels[name] = {
            "address": topic.name if isinstance(topic, LifecycleTopic) else f"{topic.name}.{{owner}}",
            "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in said},
            "bindings": {"kafka": {"bindingVersion": "0.5.0"}},
        }
        if isinstance(topic, DataTopic):
            channels[name]["parameters"] = {"owner": {"description": "A stream's or a model's name."}}
        channels[name]["description"] = (
            f"Key: {topic.key}. Written by {topic.writer}; read by {', '.join(topic.readers)}."
        )
        operations[f"{topic.writer}.sends.{name}"] = _operation("send", name)
        operations |= {f"{reader}.receives.{name}": _operation("receive", name) for reader in topic.readers}
    channels["deadLetters"] = {
        "address": DEAD_LETTERS,
        "messages": {},
        "description": "Records that could not be handled, bytes untouched.",
    }
    channels["openlineage"] = {
        "address": OPENLINEAGE,
        "messages": {},
        "description": "Run events of trainings, gates and rollouts: https://openlineage.io/spec/2-0-2/OpenLineage.json",
    }
    operations["registry.sends.openlineage"] = _operation("send", "openlineage")
    operations |= {f"{service}.sends.deadLetters": _operation("send", "deadLetters") for service in SERVICES}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "modelbus",
            "version": "1.0.0",
            "description": "Both planes of modelbus. Generated; do not edit.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _channel(topic: LifecycleTopic | DataTopic) -> str:
    return f"lifecycle{topic.writer.title()}" if isinstance(topic, LifecycleTopic) else topic.name


def _messages(topic: LifecycleTopic | DataTopic) -> Json:
    if isinstance(topic, LifecycleTopic):
        return {event.type_name(): _message(event.type_name(), event.schema_path()) for event in topic.events}
    name = next(name for name, record in RECORDS.items() if record is topic.record)
    return {f"modelbus.{name}.v1": _message(f"modelbus.{name}.v1", record_path(name))}


def _message(name: str, path: str) -> Json:
    return {"name": name, "contentType": "application/json", "payload": {"$ref": f"./published/{path}"}}


def _operation(action: str, channel: str) -> Json:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def publish() -> list[Path]:
    """Write what is new; returns the schema files that were added."""
    added = []
    for path, schema in schemas().items():
        file = PUBLISHED / path
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
            added.append(file)
    if added:
        SEAL.write_text(
            "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" for name, file in _published())
        )
    DOCUMENT.write_text(rendered())
    return added


def _published() -> list[tuple[str, Path]]:
    return [(file.relative_to(PUBLISHED).as_posix(), file) for file in sorted(PUBLISHED.glob("*/*.json"))]


def rendered() -> str:
    return yaml.safe_dump(document(), sort_keys=False, width=120)


if __name__ == "__main__":
    publish()
