"""When a scorer without transactions commits offsets."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.deployer.committing import Package
from services.deployer.deliveries import Deliveries
from shared.settings import KafkaSettings


class Consumer:
    """Takes note of offsets, and refuses them when told to."""

    def __init__(self) -> None:
        self.committed: list[list[tuple[int, str]]] = []
        self.refuses = False
        self.stale = 0  # so many times more

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        assert offsets
        assert not asynchronous
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID))
        if self.stale:
            self.stale -= 1
            raise KafkaException(KafkaError(KafkaError.STALE_MEMBER_EPOCH))
        self.committed.append([(each.offset, each.metadata) for each in offsets])
        return offsets


def place(offset: int, fence: str = "1") -> TopicPartition:
    return TopicPartition("data.s", 0, offset, fence)


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture(params=["submit", "commit_here"])
def deliveries(
    consumer: Consumer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deliveries]:
    """By either thread."""
    stub: Any = consumer
    made = Deliveries(KafkaSettings(bootstrap_servers="127.0.0.1:1"), consumer=stub, timeout_seconds=1)
    monkeypatch.setattr(made, "submit", getattr(made, request.param))
    yield made
    made.close()


def delivered(deliveries: Deliveries, offsets: list[TopicPartition], **more: list[TopicPartition]) -> bool:
    package = Package(envelopes=[], offsets=offsets, **more)
    package.end()
    deliveries.submit(package)
    return deliveries.settle()


def test_offsets_wait_for_their_time_or_for_a_drain(deliveries: Deliveries, consumer: Consumer) -> None:
    assert all(delivered(deliveries, [place(offset)]) for offset in (10, 20, 30))
    assert consumer.committed == [[(10, "1")]]
    assert deliveries.drain()
    assert deliveries.drain()
    assert consumer.committed == [[(10, "1")], [(30, "1")]]


def test_offsets_are_committed_again_while_the_members_epoch_moves_on(
    deliveries: Deliveries, consumer: Consumer
) -> None:
    consumer.stale = 2

    assert delivered(deliveries, [place(10)])
    assert consumer.committed == [[(10, "1")]]


def test_an_epoch_that_stays_stale_is_a_refusal(
    deliveries: Deliveries, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.deployer.deliveries._STALE_SECONDS", 0.05)
    consumer.stale = 1_000_000

    assert not delivered(deliveries, [place(10)])


def test_a_package_without_offsets_is_not_refused(deliveries: Deliveries, consumer: Consumer) -> None:
    assert delivered(deliveries, [])
    assert consumer.committed == []


def test_no_place_is_committed_after_a_newer_fence(deliveries: Deliveries, consumer: Consumer) -> None:
    delivered(deliveries, [place(10)])
    delivered(deliveries, [place(20)])
    delivered(deliveries, [place(30, "2")], fence=[place(20, "2")])
    deliveries.drain()
    assert consumer.committed == [[(10, "1")], [(20, "2")], [(30, "2")]]


def test_offsets_of_lost_partitions_are_never_committed(deliveries: Deliveries, consumer: Consumer) -> None:
    delivered(deliveries, [place(10)])
    delivered(deliveries, [place(20)])
    deliveries.forget([("data.s", 0)])
    assert deliveries.drain()
    assert consumer.committed == [[(10, "1")]]


def test_refused_offsets_are_said_and_not_asked_for_again(deliveries: Deliveries, consumer: Consumer) -> None:
    delivered(deliveries, [place(10)])
    delivered(deliveries, [place(20)])
    consumer.refuses = True
    assert not deliveries.drain()
    consumer.refuses = False
    assert deliveries.drain()
    assert consumer.committed == [[(10, "1")]]
