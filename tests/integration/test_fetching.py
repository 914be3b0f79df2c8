"""Whole batches are fetched as columns that say what the usual client says of the same records, message by message."""

import gc
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from compose.embedded.stack import Stack
from shared import fetching
from shared.fetching import ColumnConsumer, Fetched
from shared.kafka import ensure_topics
from shared.reading import headers_of
from shared.settings import KafkaSettings
from tests import latin_client

pytestmark = pytest.mark.stack

PARTITIONS = 3
TURNS = 100  # of 0.2 s
TEXTS = [None, b"", b"a", b"\x00\xff" * 500]
HEADERS: list[Any] = [[], [("a", b"1"), ("a", b"2")], [("a", None), ("\u00e9", b"")]]
log = logging.getLogger(__name__)
Record = tuple[Any, ...]


@pytest.fixture
async def topics(stack: Stack) -> list[str]:
    names = [f"fetching-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    await ensure_topics(KafkaSettings(), [NewTopic(name, PARTITIONS, replication_factor=1) for name in names])
    return names


@pytest.fixture(params=["by C", "by Python"])
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by Python":
        monkeypatch.setattr(fetching, "native", lambda _: None)


@contextmanager
def member(group: str = "", **settings: Any) -> Iterator[ColumnConsumer]:
    given = {"group.id": group or uuid.uuid4().hex, "group.protocol": "consumer", "auto.offset.reset": "earliest"}
    ours = ColumnConsumer(KafkaSettings().librdkafka() | given | {"enable.auto.commit": False} | settings, log)
    try:
        yield ours
    finally:
        ours.close()


def places_of(topics: list[str], offset: int = OFFSET_BEGINNING) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, offset) for topic in topics for partition in range(PARTITIONS)]


def write(topics: list[str], rounds: int = 1) -> int:
    producer, count = Producer(KafkaSettings().librdkafka()), 0
    for _ in range(rounds):
        for place in places_of(topics):
            for key in TEXTS:
                for value, headers in zip(TEXTS, [*HEADERS, []], strict=True):
                    producer.produce(place.topic, value, key, partition=place.partition, headers=headers)
                    count += 1
    assert producer.flush(20) == 0
    return count


def fetched(ours: ColumnConsumer, count: int) -> list[Fetched]:
    found = list[Fetched]()
    for _ in range(TURNS):
        if sum(map(len, found)) >= count:
            return found
        found += ours.fetch(50, 0.2)
    raise AssertionError(f"{sum(map(len, found))} of {count}")


def until(ours: ColumnConsumer, reached: Callable[[], bool]) -> None:
    for _ in range(TURNS):
        if reached():
            return
        ours.fetch(50, 0.2)
    raise AssertionError("not reached")


def records_of(blocks: list[Fetched]) -> list[Record]:
    return sorted(
        (block.topic, partition, offset, block.timestamp_ms(row), key, value, [*block.headers(row)])
        for block in blocks
        for row, (partition, offset, key, value) in enumerate(
            zip(block.partitions.tolist(), block.offsets.tolist(), block.keys, block.values, strict=True)
        )
    )


def records_of_the_usual_client(topics: list[str], count: int) -> list[Record]:
    usual = Consumer(KafkaSettings().librdkafka() | {"group.id": uuid.uuid4().hex})
    usual.assign(places_of(topics))
    messages = list[Any]()
    while len(messages) < count:
        messages += usual.consume(count, 0.2)
    usual.close()
    return sorted(
        (m.topic(), m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), [*headers_of(m)]) for m in messages
    )


@pytest.mark.usefixtures("twin")
def test_it_says_what_the_usual_client_says(topics: list[str]) -> None:
    count = write(topics)

    with member() as ours:
        ours.incremental_assign(places_of(topics))
        found = records_of(fetched(ours, count))

    assert len(found) == count
    assert found == records_of_the_usual_client(topics, count)


def test_a_text_can_be_asked_for_alone_and_some_can_be_chosen(topics: list[str]) -> None:
    write(topics[:1])

    with member() as ours:
        ours.incremental_assign(places_of(topics[:1]))
        block = fetched(ours, 1)[0]

    assert [block.values[row] for row in range(len(block))] == [*block.values]
    chosen = block.values.where(block.offsets % 2 == 1)
    assert [*chosen] == [value for value, odd in zip(block.values, block.offsets % 2, strict=True) if odd]
    assert chosen.bytes == sum(len(value or b"") for value in chosen)


def test_headers_with_a_name_that_is_not_utf_8_are_none(topics: list[str]) -> None:
    latin_client.send(topics[0], b"key", b"value")

    with member() as ours:
        ours.incremental_assign(places_of(topics[:1]))
        [block] = fetched(ours, 1)

    assert [block.headers(0) for _ in range(100)] == [()] * 100
    assert (block.keys[0], block.values[0]) == (b"key", b"value")


@pytest.mark.usefixtures("twin")
def test_what_was_fetched_outlives_the_consumer(topics: list[str]) -> None:
    count = write(topics, rounds=20)

    with member() as ours:
        ours.incremental_assign(places_of(topics))
        blocks = fetched(ours, count)
    del ours
    gc.collect()

    assert records_of(blocks) == records_of_the_usual_client(topics, count)


def test_the_members_of_a_group_share_its_partitions_and_commit_for_all(topics: list[str]) -> None:
    group, owned = uuid.uuid4().hex, [set[tuple[str, int]](), set[tuple[str, int]]()]

    def join(ours: ColumnConsumer, mine: set[tuple[str, int]]) -> None:
        def assigned(partitions: list[TopicPartition]) -> None:
            mine.update((each.topic, each.partition) for each in partitions)
            ours.incremental_assign(partitions)

        def revoked(partitions: list[TopicPartition]) -> None:
            mine.difference_update((each.topic, each.partition) for each in partitions)

        ours.subscribe(topics, on_assign=assigned, on_revoke=revoked)

    with member(group) as first:
        join(first, owned[0])
        until(first, lambda: len(owned[0]) == len(topics) * PARTITIONS)
        with member(group) as second:
            join(second, owned[1])
            until(first, lambda: not second.fetch(50, 0.0) and len(owned[1]) > 0)
            divided = [sorted(each) for each in owned]
            first.commit([TopicPartition(*place, 7) for place in divided[0]])
            write(topics)
            theirs = fetched(second, len(divided[1]))
        until(first, lambda: len(owned[0]) == len(topics) * PARTITIONS)

    assert sorted(divided[0] + divided[1]) == sorted((each.topic, each.partition) for each in places_of(topics))
    assert {(each.topic, number) for each in theirs for number in each.partitions.tolist()} <= {*divided[1]}
    assert owned == [set(), set()]
    asking = Consumer(KafkaSettings().librdkafka() | {"group.id": group})
    assert [each.offset for each in asking.committed([TopicPartition(*place) for place in divided[0]])] == [
        7 for _ in divided[0]
    ]
    asking.close()


def test_what_a_callback_raises_is_raised_by_whoever_called_it(topics: list[str]) -> None:
    ours = ColumnConsumer(
        KafkaSettings().librdkafka() | {"group.id": uuid.uuid4().hex, "group.protocol": "consumer"}, log
    )
    raising = iter([ValueError("not now"), ValueError("nor then")])

    def refuse(_: list[TopicPartition]) -> None:
        raise next(raising)

    def assigned(partitions: list[TopicPartition]) -> None:
        ours.incremental_assign(partitions)
        refuse(partitions)

    ours.subscribe(topics, on_assign=assigned, on_revoke=refuse)
    with pytest.raises(ValueError, match="not now"):
        until(ours, lambda: False)
    assert ours.fetch(1, 0.0) == []
    with pytest.raises(ValueError, match="nor then"):
        ours.close()


def test_one_that_refuses_its_partitions_can_be_closed(topics: list[str]) -> None:
    revoked = list[TopicPartition]()

    def refuse(_: list[TopicPartition]) -> None:
        raise ValueError("not now")

    with member() as ours:
        ours.subscribe(topics, on_assign=refuse, on_revoke=revoked.extend)
        with pytest.raises(ValueError, match="not now"):
            until(ours, lambda: False)

    assert len(revoked) == len(topics) * PARTITIONS


def test_what_is_paused_is_not_fetched_until_it_is_resumed(topics: list[str]) -> None:
    count, places = write(topics), places_of(topics)

    with member() as ours:
        ours.incremental_assign(places)
        ours.pause(places[1:])
        some = records_of(fetched(ours, count // len(places)))
        assert ours.fetch(50, 0.5) == []
        ours.resume(places[1:])
        rest = records_of(fetched(ours, count - count // len(places)))

    assert {(record[0], record[1]) for record in some} == {(places[0].topic, places[0].partition)}
    assert sorted(some + rest) == records_of_the_usual_client(topics, count)


def test_what_was_fetched_ahead_is_forgotten_with_its_assignment(topics: list[str]) -> None:
    write(topics[:1])
    place = TopicPartition(topics[0], 0, OFFSET_BEGINNING)

    with member() as ours:
        ours.incremental_assign([place])
        assert [each.offsets.tolist() for each in ours.fetch(3, 5.0)] == [[0, 1, 2]]
        ours.incremental_unassign([place])
        ours.incremental_assign([TopicPartition(topics[0], 0, 1)])
        assert [each.offsets.tolist() for each in ours.fetch(3, 5.0)] == [[1, 2, 3]]


def test_an_error_is_logged_and_the_rest_is_fetched(topics: list[str], caplog: pytest.LogCaptureFixture) -> None:
    count = write(topics[:1])
    missing = TopicPartition(topics[0], PARTITIONS + 1, OFFSET_BEGINNING)

    with member() as ours:
        ours.incremental_assign([missing, *places_of(topics[:1])])
        found = sum(map(len, fetched(ours, count)))
        until(ours, lambda: any("Unknown partition" in each.getMessage() for each in caplog.records))

    assert found == count


def test_a_client_that_is_beyond_repair_says_so(topics: list[str]) -> None:
    """One of two that have the same name."""
    group, same = uuid.uuid4().hex, {"group.instance.id": "one"}

    def fetch_both(first: ColumnConsumer, second: ColumnConsumer) -> None:
        for _ in range(TURNS):
            first.fetch(50, 0.1)
            second.fetch(50, 0.1)

    with member(group, **same) as first, member(group, **same) as second:
        for each in (first, second):
            each.subscribe(topics, on_assign=each.incremental_assign, on_revoke=lambda _: None)
        with pytest.raises(KafkaException) as raised:
            fetch_both(first, second)

    assert cast("KafkaError", raised.value.args[0]).fatal()


def test_a_member_that_was_away_for_too_long_loses_its_partitions_and_gets_them_again(topics: list[str]) -> None:
    """The client gives them up by itself, and joins again with the next fetch."""
    owned, lost = set[tuple[str, int]](), set[tuple[str, int]]()
    every = {(each.topic, each.partition) for each in places_of(topics)}

    with member(**{"max.poll.interval.ms": 4000}) as ours:

        def assigned(partitions: list[TopicPartition]) -> None:
            owned.update((each.topic, each.partition) for each in partitions)
            ours.incremental_assign(partitions)

        def revoked(partitions: list[TopicPartition]) -> None:
            owned.difference_update((each.topic, each.partition) for each in partitions)
            lost.update((each.topic, each.partition) for each in partitions)

        ours.subscribe(topics, on_assign=assigned, on_revoke=revoked)
        until(ours, lambda: owned == every)
        time.sleep(6)  # this is what is tested
        until(ours, lambda: lost == owned == every)


def test_a_setting_that_there_is_not_is_named() -> None:
    with pytest.raises(KafkaException, match="nosuch"):
        ColumnConsumer({"nosuch": 1}, log)


def test_a_consumer_without_a_group_is_refused() -> None:
    with pytest.raises(KafkaException, match="roup"):
        ColumnConsumer({"bootstrap.servers": "127.0.0.1:1"}, log)


def test_the_client_logs_in_the_thread_that_calls_it(caplog: pytest.LogCaptureFixture) -> None:
    """In one of its own, Python might find the client to be garbage, and end it there."""
    ours = ColumnConsumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "logs"}, log)
    until(ours, lambda: any("Connection refused" in each.getMessage() for each in caplog.records))
    ours.close()

    assert {each.thread for each in caplog.records if each.name == log.name} == {threading.get_ident()}


def test_what_cannot_be_done_is_said(topics: list[str]) -> None:
    with member() as ours, pytest.raises(KafkaException, match="empty assignment"):
        ours.incremental_unassign(places_of(topics))
