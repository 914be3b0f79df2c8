"""What is published stays as it is, versions understand each other, and the map agrees with the land."""

import hashlib
import json
import re
from itertools import combinations
from pathlib import Path

import jsonschema
import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema

from schemas import asyncapi, envelope
from schemas.compatibility import breaks
from schemas.events.base import Event
from schemas.topics import DATA_PLANE, DEAD_LETTERS, EVENT_OF, LATEST_MAJOR, LIFECYCLE, SERVICES, TOPIC_OF
from tests.contract.examples import example

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
CHECKSUMS = ROOT / "schemas" / "published.sha256"
EVENTS = sorted(TOPIC_OF, key=lambda event: event.schema_path())
FILES = sorted(asyncapi.PUBLISHED.glob("*/*.json"))
_VERSION = re.compile(r"v(\d+)\.(\d+)")


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def version_of(path: Path) -> tuple[int, int]:
    match = _VERSION.fullmatch(path.stem)
    assert match, path
    return int(match[1]), int(match[2])


def test_what_the_code_says_today_is_what_is_published() -> None:
    for path, schema in asyncapi.schemas().items():
        published = asyncapi.PUBLISHED / path
        assert published.exists(), f"{path}: not published; run `python -m schemas.asyncapi`"
        assert json.loads(published.read_text()) == schema, (
            f"{path}: changed after it was published; it needs a new version"
        )


def test_no_published_schema_was_ever_changed_or_withdrawn() -> None:
    sealed = dict(reversed(line.split("  ")) for line in CHECKSUMS.read_text().splitlines())

    found = {name_of(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES}

    assert found == sealed


def test_versions_of_one_major_understand_each_other_both_ways() -> None:
    for one, other in combinations(FILES, 2):
        if one.parent == other.parent and version_of(one)[0] == version_of(other)[0]:
            older, newer = sorted((one, other), key=version_of)

            assert breaks(json.loads(older.read_text()), json.loads(newer.read_text())) == [], name_of(newer)


def test_there_is_an_additive_minor_and_a_second_major_to_prove_it() -> None:
    published = {name_of(path) for path in FILES}

    assert {"training.progressed/v1.0.json", "training.progressed/v1.1.json"} <= published
    assert {"alert.raised/v1.0.json", "alert.raised/v2.0.json"} <= published


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_published_version_has_a_golden_file_that_keeps_its_schema(path: Path) -> None:
    golden = json.loads((GOLDEN / path.parent.name / path.name).read_text())

    jsonschema.validate(golden, json.loads(path.read_text()))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.json")), ids=name_of)
def test_golden_files_still_decode(path: Path) -> None:
    name, (major, _) = path.parent.name, version_of(path)
    if name.startswith(("record.", "spec.")):
        asyncapi.RECORDS[name].model_validate_json(path.read_text())
        return
    headers = [
        ("ce_type", f"modelbus.{name}.v{major}".encode()),
        ("ce_id", b"1"),
        ("ce_source", b"test"),
        ("ce_time", b"2013-01-01T00:00:00Z"),
    ]

    said = envelope.read(headers, path.read_bytes())

    assert said is not None
    assert type(said.event) is EVENT_OF[name, LATEST_MAJOR[name]]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.schema_path())
def test_an_event_survives_the_wire(event: type[Event]) -> None:
    made = event.model_validate(example(event.model_json_schema()))

    assert event.decode(made.encode()) == made
    assert made.key == str(getattr(made, event.key_field))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.schema_path())
def test_readers_ignore_what_a_later_minor_adds_and_writers_may_not_say_it(event: type[Event]) -> None:
    payload = example(event.model_json_schema()) | {"said_by_a_later_minor": 1}

    assert event.decode(json.dumps(payload).encode())
    with pytest.raises(ValueError, match="said_by_a_later_minor"):
        event.model_validate(payload)


def test_an_unknown_major_stops_the_reader_and_an_unknown_event_is_passed_over() -> None:
    said = [("ce_id", b"1"), ("ce_source", b"test"), ("ce_time", b"2013-01-01T00:00:00Z")]

    with pytest.raises(envelope.UnknownMajor):
        envelope.read([*said, ("ce_type", b"modelbus.model.trained.v9")], b"{}")
    assert envelope.read([*said, ("ce_type", b"modelbus.model.praised.v1")], b"{}") is None


def test_an_alert_of_the_first_major_is_read_as_one_of_the_second() -> None:
    golden = (GOLDEN / "alert.raised" / "v1.0.json").read_bytes()
    headers = {
        "ce_type": "modelbus.alert.raised.v1",
        "ce_id": "1",
        "ce_source": "test",
        "ce_time": "2013-01-01T00:00:00Z",
    }

    said = envelope.read([(name, value.encode()) for name, value in headers.items()], golden)

    assert said is not None
    assert said.event.model_dump()["features"] == (json.loads(golden)["feature"],)


def test_a_change_that_breaks_readers_is_seen() -> None:
    old = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

    assert breaks(old, {**old, "properties": {"a": {"type": "string"}}})
    assert breaks(old, {**old, "properties": {}, "required": []})
    assert breaks(old, {**old, "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}})
    assert breaks(old, {**old, "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}}}) == []


def test_every_event_has_one_topic_and_every_lifecycle_topic_one_writer() -> None:
    said = [event for topic in LIFECYCLE for event in topic.events]

    assert len(said) == len(set(said))
    assert sorted(topic.writer for topic in LIFECYCLE) == sorted(SERVICES)


def test_the_asyncapi_document_is_the_one_the_code_generates() -> None:
    assert asyncapi.DOCUMENT.read_text() == asyncapi.rendered()


def test_the_asyncapi_document_is_one_by_the_standard() -> None:
    ApplicationSchema.model_validate(asyncapi.document())


def test_the_topic_table_in_the_map_agrees_with_the_code() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| ([\w, ]+) \| ([\w, ]+) \|", _map(), re.MULTILINE)

    table = {name: (key, writer, readers.split(", ")) for name, key, writer, readers in rows}
    lifecycle = {topic.name: (topic.key, topic.writer, list(topic.readers)) for topic in LIFECYCLE}
    data = {f"{topic.name}.<owner>": (topic.key, topic.writer, list(topic.readers)) for topic in DATA_PLANE}

    assert table == lifecycle | data


def test_the_map_names_every_event_beside_its_topic() -> None:
    for topic in LIFECYCLE:
        row = next(line for line in _map().splitlines() if line.startswith(f"| `{topic.name}`"))

        assert {event.event for event in topic.events} == set(re.findall(r"[a-z]+\.[a-z]+", row.split("|")[5]))


def _map() -> str:
    return (ROOT / "schemas" / "README.md").read_text()


def test_no_topic_is_named_outside_topics_py() -> None:
    families = "|".join(family.name for family in DATA_PLANE)
    topic = re.compile(rf"""["'](?:(?:{families})\.(?:["']|{{)|lifecycle\.|{DEAD_LETTERS}["'])""")
    sources = [path for folder in ("shared", "services", "schemas") for path in (ROOT / folder).rglob("*.py")]
    sources += [path for path in (ROOT / "cli").rglob("*.py") if path.name != "main.py"]  # a command has a topic's name

    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if topic.search(line.partition("#")[0]) and path.name != "topics.py" and ">>>" not in line
    ]

    assert named == []
