"""What stands in topics and tables, read past the proxies by a plain read_committed client that knows no service."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from schemas.envelope import read
from schemas.events.deployer import RolloutSwitched
from schemas.events.ingestor import Kind
from schemas.topics import DATA, DEAD_LETTERS, DEPLOYER, PREDICTIONS, SHADOW
from shared.reading import take
from shared.settings import KafkaSettings, S3Settings
from shared.tables import NoTable, Tables
from tests.chaos.feed import NUMBER, Event
from tests.chaos.judge import Answer, Evidence, Letter, ModelEvidence, Place, Rollout

SCORERS = "modelbus.scorer"
_READ_SECONDS = 300


class _Said(msgspec.Struct, gc=False):
    """Of a prediction record, what is judged."""

    event_id: str
    version: int
    arm: str
    revision: int
    partition: int
    offset: int


class Asked(NamedTuple):
    """What stands in the stream's topic: event numbers by place, and when they came (Unix ms)."""

    numbers: dict[Place, int]
    times: dict[Place, int]


def gathered(sent: Sequence[Event], asked: Asked, stream: str, rollouts: Mapping[str, Sequence[Rollout]]) -> Evidence:
    """All evidence; `rollouts` are each model's revisions from 1 on."""
    models = {
        model: ModelEvidence(
            answers=answers(PREDICTIONS.of(model)),
            shadows=answers(SHADOW.of(model)),
            rows=rows("predictions", model),
            rollouts=dict(enumerate(told, start=1)),
            switches=switches(model),
        )
        for model, told in rollouts.items()
    }
    return Evidence(
        sent=sent, asked=asked.numbers, letters=letters(DATA.of(stream)), rows=rows("data", stream), models=models
    )


def asked(stream: str) -> Asked:
    numbers, times = {}, {}
    for message in _records(DATA.of(stream)):
        place = message.partition(), message.offset()
        numbers[place] = int(dict(message.headers())[NUMBER])
        times[place] = message.timestamp()[1]
    return Asked(numbers, times)


def answers(topic: str) -> list[Answer]:
    """A model's predictions or shadow scores, each partition's in order."""
    decoder = msgspec.json.Decoder(_Said)
    found = []
    for message in _records(topic):
        said, stands = decoder.decode(message.value()), (message.partition(), message.offset())
        place = said.partition, said.offset
        found.append(
            Answer(stands, place, said.event_id, said.version, said.arm, said.revision, message.timestamp()[1])
        )
    return found


def letters(topic: str) -> list[Letter]:
    """The dead letters of one origin topic."""
    found = []
    for message in _records(DEAD_LETTERS):
        headers = {name: value.decode() for name, value in message.headers()}
        if headers["dlq-origin-topic"] == topic:
            origin = int(headers["dlq-origin-partition"]), int(headers["dlq-origin-offset"])
            number = int(headers.get(NUMBER, -1))
            found.append(Letter(origin, headers["dlq-reason"], number, message.key(), message.value()))
    return found


def switches(model: str) -> dict[Place, int]:
    """The revision that each partition is served under from an input place on."""
    found: dict[Place, int] = defaultdict(int)
    for message in _records(DEPLOYER.name):
        said = read(message.headers(), message.value())
        if said and isinstance(said.event, RolloutSwitched) and said.event.model == model:
            place = said.event.partition, said.event.offset
            found[place] = max(found[place], said.event.revision)
    return dict(found)


def served(model: str) -> dict[int, int]:
    """The newest revision that each partition switched to."""
    found: dict[int, int] = {}
    for (partition, _), revision in switches(model).items():
        found[partition] = max(found.get(partition, 0), revision)
    return found


def rows(kind: Kind, owner: str) -> list[Place]:
    """Where the table's rows come from."""
    try:
        table = Tables(S3Settings()).read(kind, owner, None, ["partition", "offset"])
    except NoTable:
        return []
    return list(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))


def count_of(kind: Kind, owner: str) -> int:
    """How many rows the table has."""
    try:
        return int(Tables(S3Settings()).open(kind, owner).count())
    except NoTable:
        return 0


def unanswered(stream: str, partitions: int) -> int:
    """How many of the stream's records the scorers have not committed yet."""
    reader = _consumer(SCORERS)
    try:
        places = reader.committed([TopicPartition(DATA.of(stream), each) for each in range(partitions)], timeout=20)
        return sum(reader.get_watermark_offsets(each, timeout=20)[1] - max(0, each.offset) for each in places)
    finally:
        reader.close()


def _consumer(group: str) -> Consumer:
    return Consumer(
        KafkaSettings().librdkafka()
        | {
            "group.id": group,  # never joined
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
            "queued.max.messages.kbytes": 16 * 1024,
        }
    )


def _records(topic: str) -> Iterator[Any]:
    """Every committed record, each partition's in order."""
    reader = _consumer("chaos.judge")
    try:
        unread = set(reader.list_topics(topic, timeout=30).topics[topic].partitions)
        reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        deadline = time.monotonic() + _READ_SECONDS
        while unread:
            assert time.monotonic() < deadline, f"{topic}: the ends of {unread} do not come within reach"
            for message in take(reader, 5000, 0.2):
                if (error := message.error()) is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
    finally:
        reader.close()
