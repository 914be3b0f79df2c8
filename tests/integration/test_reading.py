"""A stretch of a partition is read as consumers read it: nothing aborted, nothing left out, not past its end."""

import threading
import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic

from compose.embedded.stack import Stack
from shared.kafka import ensure_topics
from shared.reading import Reader, headers_of
from shared.settings import KafkaSettings
from tests import latin_client

pytestmark = pytest.mark.stack


@pytest.fixture
async def topic(stack: Stack) -> str:
    name = f"reading-{uuid.uuid4().hex[:8]}"
    await ensure_topics(KafkaSettings(), [NewTopic(name, 1, replication_factor=1)])
    return name


def writer() -> Producer:
    producer = Producer(KafkaSettings().librdkafka() | {"transactional.id": uuid.uuid4().hex})
    producer.init_transactions(20)
    return producer


def write(producer: Producer, topic: str, values: range, *, commit: bool = True) -> None:
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, str(value))
    assert producer.flush(20) == 0  # what is aborted stands in the log, too
    (producer.commit_transaction if commit else producer.abort_transaction)(20)


def values(reader: Reader, topic: str, start: int, end: int) -> list[int]:
    return [int(message.value()) for batch in reader.read(topic, 0, start, end) for message in batch]


def test_what_was_aborted_is_not_read_and_an_end_of_aborted_records_is_an_end(topic: str) -> None:
    producer = writer()
    write(producer, topic, range(500))
    write(producer, topic, range(500, 900), commit=False)
    write(producer, topic, range(900, 1000))
    write(producer, topic, range(1000, 1100), commit=False)

    with Reader(KafkaSettings(), "tests") as reader:
        span = reader.spans(topic)[0]

        assert values(reader, topic, *span) == [*range(500), *range(900, 1000)]
        assert values(reader, topic, 100, 200) == list(range(100, 200))
        assert values(reader, topic, 200, 200) == []


@pytest.mark.parametrize("least", [0, 1, 250, 499, 500, 950, 999, 1000])
def test_the_first_record_from_which_on_something_holds_is_found_between_aborted_ones(topic: str, least: int) -> None:
    producer = writer()
    write(producer, topic, range(500))
    write(producer, topic, range(500, 900), commit=False)
    write(producer, topic, range(900, 1000))

    with Reader(KafkaSettings(), "tests") as reader:
        span = reader.spans(topic)[0]
        start = reader.first(topic, 0, span, lambda message: int(message.value()) >= least)

        assert values(reader, topic, start, span[1]) == [
            each for each in (*range(500), *range(900, 1000)) if each >= least
        ]


def test_a_transaction_that_is_open_below_the_end_is_waited_for(topic: str) -> None:
    producer = writer()
    producer.begin_transaction()
    producer.produce(topic, "1")
    producer.flush(20)

    with Reader(KafkaSettings(), "tests") as reader:
        span = reader.spans(topic)[0]
        committing = threading.Timer(1, producer.commit_transaction, (20,))
        committing.start()
        found = values(reader, topic, *span)
        committing.join()

    assert (span, found) == ((0, 1), [1])


def test_headers_with_a_name_that_is_not_utf_8_are_none_however_often_they_are_asked_for(topic: str) -> None:
    latin_client.send(topic, b"key", b"value")

    with Reader(KafkaSettings(), "tests") as reader:
        [record] = [each for batch in reader.read(topic, 0, 0, 1) for each in batch]

    assert [headers_of(record) for _ in range(100)] == [()] * 100
