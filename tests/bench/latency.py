"""From the intended moment of sending to a committed prediction in a reader's hands, in an open loop.

Events are sent at a fixed rate whatever comes back, and each is timed from the moment it should have been sent, so a
system that stalls is charged for all that waited (no coordinated omission). The ceiling is a bare loop, in turns.
"""

import asyncio
import gc
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from numpy.typing import NDArray

from schemas.specs import StreamSpec
from schemas.topics import DATA, PREDICTIONS
from tests.bench.bare import Bare
from tests.bench.figures import Figure, Say
from tests.bench.scorer import FEATURES, Bench, boosted, events_of, running_bench, stream_of
from tests.scoring_world import scorers

TURNS = 3
SECONDS = 15.0
WARM_UP_SECONDS = 3.0
RATE = 500.0
_CLIENTS_LINGER = 5.0  # ms, librdkafka's own
_OVERLOAD = 150_000.0
_FASTER = 1.3
_KEPT_UP = 0.98
_LOOK_SECONDS = 4.0
_BACKLOG_MS = 500.0
_TICK_SECONDS = 0.001
_DRAIN_SECONDS = 120.0
Millis = NDArray[np.float64]
STREAMS = {
    "exactly_once": stream_of("exact", FEATURES),
    "at_least_once": stream_of("quick", FEATURES, guarantee="at_least_once"),
}


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """At 500 events/s for both guarantees, and exactly once at 80 % of saturation."""
    figures = []
    async with running_bench(say) as bench:
        for guarantee, stream in STREAMS.items():
            await bench.serve(stream, {stream.stream: boosted(stream)})
            ours, ceiling = await _turns(bench, stream)
            figures += _beside(guarantee, ours, ceiling)
        figures += await _near_saturation(bench, STREAMS["exactly_once"])
    return figures


def _beside(guarantee: str, ours: Millis, ceiling: Millis) -> list[Figure]:
    return [
        Figure(
            what=f"{guarantee}, {RATE:.0f} events/s, p{percent}",
            unit="ms",
            ours=float(np.percentile(ours, percent)),
            ceiling=float(np.percentile(ceiling, percent)),
            bound="<= 1.3",
        )
        for percent in (50, 99)
    ]


async def _turns(bench: Bench, stream: StreamSpec) -> tuple[Millis, Millis]:
    """The scorer and the bare loop one after the other, so that noise meets both."""
    ours, ceiling = [], []
    for turn in range(TURNS):
        with _bare(stream):
            ceiling.append(await asyncio.to_thread(_delays, bench, stream, f"bare-{stream.stream}", RATE))
        with _scorer(bench):
            ours.append(await asyncio.to_thread(_delays, bench, stream, stream.stream, RATE))
        medians = [float(np.median(delays[-1])) for delays in (ours, ceiling)]
        bench.say(f"{stream.guarantee}, turn {turn + 1} of {TURNS}: {medians[0]:.1f} of {medians[1]:.1f} ms")
    return np.concatenate(ours), np.concatenate(ceiling)


class _Turn(NamedTuple):
    """One rate that was kept up with, and percentiles in ms at 80 % of it and, beside, at rest."""

    saturation: float
    p50: float
    p99: float
    calm: float

    @property
    def ratio(self) -> float:
        return self.p99 / self.calm


async def _near_saturation(bench: Bench, stream: StreamSpec) -> list[Figure]:
    """What is compared is measured within minutes, for a machine is not equally fast all day; the turn in the middle.

    Saturation is what comes out while generator and reader run beside, as they do in the measurement.
    """
    turns, start = list[_Turn](), _OVERLOAD
    with _scorer(bench):
        for number in range(TURNS):
            saturation = await asyncio.to_thread(_saturation, bench, stream, start)
            start = _FASTER * saturation
            busy = await asyncio.to_thread(_delays, bench, stream, stream.stream, 0.8 * saturation)
            calm = await asyncio.to_thread(_delays, bench, stream, stream.stream, RATE)
            p50, p99, at_rest = (float(np.percentile(*each)) for each in ((busy, 50), (busy, 99), (calm, 99)))
            turns.append(_Turn(saturation, p50, p99, at_rest))
            bench.say(
                f"turn {number + 1} of {TURNS}: p99 {p99:.0f} ms at 80 % of {saturation:,.0f} events/s, "
                f"{at_rest:.0f} ms at {RATE:.0f} events/s"
            )
    turn = sorted(turns, key=lambda each: each.ratio)[TURNS // 2]
    what = f"exactly once, 80 % of {turn.saturation:,.0f} events/s"
    against = f"{what}, p99, against p99 at {RATE:.0f}/s"
    return [
        Figure(what=f"{what}, p50", unit="ms", ours=turn.p50),
        Figure(what=against, unit="ms", ours=turn.p99, ceiling=turn.calm, bound="<= 5"),
    ]


@contextmanager
def _bare(stream: StreamSpec) -> Iterator[None]:
    bare = Bare(stream.stream, guarantee=stream.guarantee)
    try:
        yield
    finally:
        bare.stop()


@contextmanager
def _scorer(bench: Bench) -> Iterator[None]:
    with scorers(bench.folder) as [scorer]:
        yield
        scorer.stop()


def _delays(bench: Bench, stream: StreamSpec, output: str, rate: float) -> Millis:
    """Milliseconds of each event after the warm-up, in the order of sending."""
    _timed(bench, stream, output, 8, 1000)  # partitions are owned, versions loaded, nothing is left from before
    count = int(rate * (WARM_UP_SECONDS + SECONDS))
    (start, _), arrived = _timed(bench, stream, output, count, rate)
    intended = start + np.arange(count) / rate
    return ((arrived - intended) * 1000)[int(rate * WARM_UP_SECONDS) :]


def _saturation(bench: Bench, stream: StreamSpec, rate: float) -> float:
    """The largest rate at which nothing waits for half a second for as long as is measured, found from above.

    First each next try is what came out of the last, for a few seconds. A backlog is scored in larger batches than a
    stream without one, and so faster; and this machine now and then is slower for a second by a third or more: from
    what is kept up with on the whole it goes down by tenths until no such second leaves a backlog behind.
    Source: sustainable throughput, in Karimov et al., Benchmarking Distributed Stream Data Processing Systems, 2018.
    """
    _timed(bench, stream, stream.stream, 8, 1000)
    while (out := _comes_out(bench, stream, rate)) < _KEPT_UP * rate:
        bench.say(f"of {rate:,.0f} events/s {out:,.0f} come out")
        assert out > 0
        rate = out
    while (longest := float(_delays(bench, stream, stream.stream, rate).max())) > _BACKLOG_MS:
        bench.say(f"at {rate:,.0f} events/s one waits for {longest:,.0f} ms")
        rate *= 0.9
    return rate


def _comes_out(bench: Bench, stream: StreamSpec, rate: float) -> float:
    """Events a second that come out while more go in, once it is under way."""
    (start, sent), arrived = _timed(bench, stream, stream.stream, int(rate * (1 + _LOOK_SECONDS)), rate)
    warm = start + 1
    return float(((arrived >= warm) & (arrived <= sent)).sum() / (sent - warm))


def _timed(
    bench: Bench, stream: StreamSpec, output: str, count: int, rate: float
) -> tuple[tuple[float, float], Millis]:
    """When the first of so many events was due and the last was sent, and when the prediction of each came."""
    first = bench.fed.get(stream.stream, 0)
    bench.fed[stream.stream] = first + count
    gc.collect()
    gc.disable()  # a look for cycles among so many events would be counted as the delay of some
    try:
        with closing(_Reader(bench, output)) as reader:
            sending = _send(bench, stream, range(first, first + count), rate)
            return sending, reader.take(first, count)
    finally:
        gc.enable()


def _send(bench: Bench, stream: StreamSpec, numbers: range, rate: float) -> tuple[float, float]:
    """Send at the rate, in ticks of a millisecond; returns when the first was due, and when the last was sent.

    Entities are the events' numbers.
    """
    rows = [value.partition(b'"time"')[2] for _, value in events_of(stream, 0, 1000)]
    events = [
        (b"%d" % each, b'{"id":"e%d","entity":"%d","time"%s' % (each, each, rows[each % 1000])) for each in numbers
    ]
    linger = 0.0 if rate <= RATE else _CLIENTS_LINGER  # 5,000 requests/s, one for each event, saturate the broker
    producer = Producer(bench.kafka.librdkafka() | {"linger.ms": linger, "queue.buffering.max.messages": 2_000_000})
    topic, partitions = DATA.of(stream.stream), stream.partitions
    start, sent = time.perf_counter() + 0.05, 0
    while sent < len(events):
        due = max(0, min(len(events), int((time.perf_counter() - start) * rate) + 1))  # before the start it is none
        for key, value in events[sent:due]:
            producer.produce(topic, value, key, int(key) % partitions)
        producer.poll(0)
        sent = max(sent, due)
        time.sleep(max(0.0, min(_TICK_SECONDS, start + sent / rate - time.perf_counter())))
    ended = time.perf_counter()
    assert producer.flush(30) == 0
    return start, ended


class _Reader:
    """A consumer of committed records in a thread of its own, that notes when each number came."""

    def __init__(self, bench: Bench, output: str) -> None:
        settings = {"group.id": "bench.reader", "enable.auto.commit": False, "isolation.level": "read_committed"}
        self._consumer = Consumer(bench.kafka.librdkafka() | settings | {"fetch.wait.max.ms": 50})
        self._arrived: dict[int, float] = {}
        self._done = threading.Event()
        self._assign(PREDICTIONS.of(output))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _assign(self, topic: str) -> None:
        """From the end on: what is there already is not read."""
        partitions = self._consumer.list_topics(topic, timeout=20).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, each, self._end(topic, each)) for each in partitions])

    def _end(self, topic: str, partition: int) -> int:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while True:
            try:
                return int(self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)[1])
            except KafkaException:  # a topic that is new has no leader yet
                if time.monotonic() > deadline:
                    raise

    def _read(self) -> None:
        while not self._done.is_set():
            if (first := self._consumer.poll(0.05)) is not None:
                messages = [first, *self._consumer.consume(10_000, 0)]
                now = time.perf_counter()
                self._arrived.update((int(each.key()), now) for each in messages if each.error() is None)

    def take(self, first: int, count: int) -> NDArray[np.float64]:
        """When each of so many numbers from the first on came, in their order; waits for the last.

        Raises:
            TimeoutError: some do not come.
        """
        deadline = time.monotonic() + _DRAIN_SECONDS
        wanted = range(first, first + count)
        while not all(map(self._arrived.__contains__, wanted)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._arrived)} came, not all of {wanted}")
            time.sleep(0.05)
        return np.array([self._arrived[number] for number in wanted])

    def close(self) -> None:
        """Stop reading."""
        self._done.set()
        self._thread.join()
        self._consumer.close()
