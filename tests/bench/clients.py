"""A generator that keeps to its times whatever comes back, and a reader that notes when each event's prediction came.

Each is a process of its own that goes before all others where that is permitted, as if on a machine of its own, so that
a system is not charged for what its clients wait for a processor.
"""

import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from numpy.typing import NDArray

Settings = Mapping[str, Any]  # of the client
Seconds = NDArray[np.float64]
_FIRST = -15  # nice
_TICK_SECONDS = 0.001
_AHEAD_SECONDS = 0.05
_DRAIN_SECONDS = 120.0
_READING = {
    "group.id": "bench.reader",
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 50,
}


class Sent(NamedTuple):
    """When the first event was due, and when the last was sent; seconds of the clock that all processes share."""

    start: float
    ended: float


@contextmanager
def running_clients() -> Iterator[ProcessPoolExecutor]:
    """Processes for one `send` and one `read` at a time."""
    with ProcessPoolExecutor(2, get_context("spawn"), _go_first) as pool:
        yield pool


def _go_first() -> None:
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST)
    gc.disable()  # a look for cycles among so many events would be counted as the delay of some


def send(
    settings: Settings, topic: str, partitions: int, *, numbers: range, rate: float, rows: Sequence[bytes]
) -> Sent:
    """Send events of these numbers at a rate a second, in ticks of a millisecond.

    Ids and entities are the numbers; what follows these two fields comes from `rows`, in turn.
    """
    producer = Producer(dict(settings) | {"queue.buffering.max.messages": 2_000_000})
    start, sent = time.perf_counter() + _AHEAD_SECONDS, 0
    while sent < len(numbers):
        due = min(len(numbers), max(0, int((time.perf_counter() - start) * rate) + 1))  # before the start it is none
        for each in numbers[sent:due]:
            value = b'{"id":"e%d","entity":"%d",%s' % (each, each, rows[each % len(rows)])
            producer.produce(topic, value, b"%d" % each, each % partitions)
        producer.poll(0)
        sent = due
        time.sleep(max(_TICK_SECONDS, start + sent / rate - time.perf_counter()))
    ended = time.perf_counter()
    assert producer.flush(30) == 0
    return Sent(start, ended)


def read(settings: Settings, topic: str, places: Mapping[int, int], numbers: range, seconds: float) -> Seconds:
    """When the committed record keyed by each number came, in their order; partitions are read from `places` on.

    Raises:
        TimeoutError: some do not come within so many seconds and two minutes.
    """
    deadline, arrived = time.monotonic() + seconds + _DRAIN_SECONDS, np.full(len(numbers), np.nan)
    with closing(Consumer(dict(settings) | _READING)) as consumer:
        consumer.assign([TopicPartition(topic, *place) for place in places.items()])
        missing = len(numbers)
        while missing:
            if (first := consumer.poll(0.05)) is not None:
                messages, now = [first, *consumer.consume(10_000, 0)], time.perf_counter()
                keys = [int(each.key() or b"") for each in messages if each.error() is None]
                came = np.unique(np.array(keys, np.int64)) - numbers.start
                came = came[came >= 0]  # what was sent before may be answered only now
                missing -= int(np.isnan(arrived[came]).sum())
                arrived[came] = now
            if time.monotonic() > deadline:
                raise TimeoutError(f"of {numbers} {missing} did not come")
    return arrived
