"""A scorer's transactions in a real broker: one that answers keep waiting, and one that could not be committed."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.cimpl import NewTopic

from compose.embedded.stack import Stack
from services.deployer.committing import Package
from services.deployer.deliveries import Deliveries
from services.deployer.predictions import Output
from services.deployer.transactions import Transactions
from shared.errors import Fatal
from shared.kafka import ensure_topics
from shared.reading import Reader
from shared.settings import KafkaSettings

pytestmark = pytest.mark.stack
TIMEOUT_SECONDS = 2


@pytest.fixture
async def topic(stack: Stack) -> str:
    name = f"transactions-{uuid.uuid4().hex[:8]}"
    await ensure_topics(KafkaSettings(), [NewTopic(name, 1, replication_factor=1)])
    return name


@pytest.fixture
def consumer(topic: str) -> Iterator[Consumer]:
    made = member(topic, group=topic)
    yield made
    made.close()


@pytest.fixture
def transactions(topic: str) -> Iterator[Transactions]:
    made = Transactions(KafkaSettings(), slot=slot_of(topic), timeout_seconds=TIMEOUT_SECONDS)
    made.open()
    yield made
    made.close()


def slot_of(topic: str) -> int:
    return int(topic[-4:], 16) + 1000


def small_only(topic: str) -> ConfigResource:
    entry = ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET)
    return ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])


def package(topic: str, group: Any, offset: int, *, full: bool = False) -> Package:
    return Package(envelopes=[], offsets=[TopicPartition(topic, 0, offset)], group=group, full=full)


def member(topic: str, group: str) -> Consumer:
    """A consumer that has joined its group, so that the client knows the group's coordinator."""
    settings = {"group.id": group, "group.protocol": "consumer", "isolation.level": "read_committed"}
    made = Consumer(KafkaSettings().librdkafka() | settings)
    made.subscribe([topic])
    deadline = time.monotonic() + 30
    while not made.assignment():
        assert time.monotonic() < deadline
        made.poll(0.1)
    return made


def of_a_member_that_left(topic: str) -> Any:
    left = member(topic, group=f"{topic}-left")
    group = left.consumer_group_metadata()
    left.close()
    return group


def output(topic: str, value: bytes) -> Output:
    return (topic, value, b"key", 0, None, None, 0, [])


def begun(package: Package) -> None:
    """Wait until what is added to it goes to the broker."""
    until(lambda: package._produce is not None)


def given_up(package: Package) -> None:
    """Wait until the transaction that took it is to be begun again."""
    until(lambda: package._produce is None)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def answer(package: Package, output: Output) -> None:
    package.add([output])
    package.end()


def read(topic: str) -> list[bytes]:
    with Reader(KafkaSettings(), "tests") as reader:
        return [each.value() for batch in reader.read(topic, 0, *reader.spans(topic)[0]) for each in batch]


def committed(consumer: Consumer, topic: str) -> int:
    return int(consumer.committed([TopicPartition(topic, 0)], timeout=20)[0].offset)


@pytest.mark.parametrize("full", [False, True])
def test_answers_that_take_longer_than_a_transaction_may_stay_open_are_committed_once(
    transactions: Transactions, consumer: Consumer, topic: str, *, full: bool
) -> None:
    waiting = package(topic, consumer.consumer_group_metadata(), 7, full=full)
    answered = threading.Timer(2 * TIMEOUT_SECONDS, lambda: answer(waiting, output(topic, b"late")))
    answered.start()
    transactions.submit(waiting)
    begun(waiting)
    waiting.add([output(topic, b"soon")])
    answered.join()

    assert transactions.settle()
    assert read(topic) == [b"soon", b"late"]
    assert committed(consumer, topic) == 7


@pytest.mark.parametrize("full", [False, True])
def test_a_transaction_that_is_begun_again_is_refused_when_the_partitions_have_moved_meanwhile(
    transactions: Transactions, consumer: Consumer, topic: str, *, full: bool
) -> None:
    waiting = package(topic, consumer.consumer_group_metadata(), 7, full=full)
    transactions.submit(waiting)
    begun(waiting)
    waiting.add([output(topic, b"soon")])
    given_up(waiting)
    consumer.unsubscribe()
    moved = member(topic, group=topic)
    answer(waiting, output(topic, b"late"))

    assert not transactions.settle()
    assert read(topic) == []
    moved.close()


def test_nothing_is_left_of_what_was_handed_over_while_its_offsets_were_refused(
    transactions: Transactions, consumer: Consumer, topic: str
) -> None:
    refused = package(topic, of_a_member_that_left(topic), 1, full=True)
    handed = threading.Event()
    put, send = transactions.put_outputs, transactions._send_offsets

    def put_outputs(outputs: Iterable[Output]) -> None:
        put(outputs)
        handed.set()

    def send_offsets(package: Package) -> None:
        assert handed.wait(20)
        send(package)

    transactions.put_outputs, transactions._send_offsets = put_outputs, send_offsets  # type: ignore[method-assign]
    refused.add([output(topic, b"early")] * 5000)
    transactions.submit(refused)
    refused.end(20)

    assert not transactions.settle()
    transactions.put_outputs, transactions._send_offsets = put, send  # type: ignore[method-assign]
    again = package(topic, consumer.consumer_group_metadata(), 2, full=True)
    answer(again, output(topic, b"again"))
    transactions.submit(again)
    assert transactions.settle()
    assert read(topic) == [b"again"]
    assert committed(consumer, topic) == 2


def test_a_batch_whose_scoring_fails_leaves_nothing(transactions: Transactions, consumer: Consumer, topic: str) -> None:
    failing = package(topic, consumer.consumer_group_metadata(), 7)
    transactions.submit(failing)
    begun(failing)
    failing.add([output(topic, b"part")])

    with pytest.raises(Fatal, match="no end"):
        transactions.settle()
    successor = Transactions(KafkaSettings(), slot=slot_of(topic), timeout_seconds=TIMEOUT_SECONDS)
    successor.open()
    failing.end()  # as it never would; its transactional id is its successor's

    behind = package(topic, consumer.consumer_group_metadata(), 1)
    answer(behind, output(topic, b"whole"))
    successor.submit(behind)
    assert successor.settle()
    assert read(topic) == [b"whole"]
    assert committed(consumer, topic) == 1
    successor.close()


def test_what_a_broker_refuses_is_not_delivered(consumer: Consumer, topic: str) -> None:
    admin = AdminClient(KafkaSettings().librdkafka())
    admin.incremental_alter_configs([small_only(topic)])[small_only(topic)].result(20)
    deliveries = Deliveries(KafkaSettings(), consumer=consumer, timeout_seconds=10)
    refused = Package(envelopes=[], offsets=[TopicPartition(topic, 0, 1)])
    answer(refused, output(topic, b"x" * 10_000))
    deliveries.submit(refused)

    with pytest.raises(Fatal, match="too large"):
        deliveries.settle()
    assert committed(consumer, topic) < 0
    deliveries.close()


@pytest.mark.parametrize("full", [False, True])
def test_nothing_that_was_consumed_after_an_aborted_package_is_committed_before_it(
    transactions: Transactions, consumer: Consumer, topic: str, *, full: bool
) -> None:
    group = consumer.consumer_group_metadata()
    aborted, behind = package(topic, of_a_member_that_left(topic), 1, full=full), package(topic, group, 2, full=full)
    answer(aborted, output(topic, b"aborted"))
    answer(behind, output(topic, b"behind"))
    transactions.submit(aborted)
    transactions.submit(behind)

    assert not transactions.settle()
    assert not transactions.settle()
    assert read(topic) == []
    assert committed(consumer, topic) < 0

    again = package(topic, group, 2)
    answer(again, output(topic, b"again"))
    transactions.submit(again)
    assert transactions.settle()
    assert read(topic) == [b"again"]
    assert committed(consumer, topic) == 2
