"""From the intended moment of sending to a committed prediction in a reader's hands, in an open loop.

Events are sent at a fixed rate whatever comes back, and each is timed from the moment it should have been sent, so a
system that stalls is charged for all that waited (no coordinated omission). The ceiling is a bare loop, in turns.
"""

import asyncio
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.specs import StreamSpec
from schemas.topics import DATA, PREDICTIONS
from shared.reading import Reader
from tests.bench.bare import Bare
from tests.bench.clients import Sent, read, running_clients, send
from tests.bench.figures import Figure, Say, middle_of
from tests.bench.scorer import FEATURES, Bench, boosted, events_of, running_bench, stream_of
from tests.scoring_world import scorers

TURNS, TURNS_AT_REST = 3, 5
PERCENTILES = (50, 99)
SECONDS = 15.0
_SUSTAINED_SECONDS = 3 * SECONDS  # what is found in a shorter look is the machine's good moments
WARM_UP_SECONDS = 3.0
RATE = 500.0
_CLIENTS_LINGER = 5.0  # ms, librdkafka's own
_OVERLOAD = 150_000.0
_FASTER = 1.3
_KEPT_UP = 0.98
_LOOK_SECONDS = 4.0
_BACKLOG_MS = 500.0
Millis = NDArray[np.float64]
Percentiles = dict[int, float]
STREAMS = {
    "exactly_once": stream_of("exact", FEATURES),
    "at_least_once": stream_of("quick", FEATURES, guarantee="at_least_once"),
}


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """At 500 events/s for both guarantees, and exactly once at 80 % of saturation."""
    async with running_bench(say) as bench:
        with running_clients() as clients:
            for stream in STREAMS.values():
                await bench.serve(stream, {stream.stream: boosted(stream)})
            figures = list[Figure]()
            for stream in STREAMS.values():
                figures += await _beside(_Sides(bench, clients, stream))
            figures += await _near_saturation(_Sides(bench, clients, STREAMS["exactly_once"]))
    return figures


@dataclass(frozen=True)
class _Sides:
    """The scorer and the bare loop on the same stream, each running for a while."""

    bench: Bench
    clients: Executor
    stream: StreamSpec

    @contextmanager
    def scorer(self) -> Iterator["_Side"]:
        with scorers(self.bench.folder) as [scorer]:
            yield _Side(self.bench, self.clients, self.stream, self.stream.stream)
            scorer.stop()

    @contextmanager
    def bare(self, *, seldom: bool = False) -> Iterator["_Side"]:
        bare = Bare(self.stream.stream, guarantee=self.stream.guarantee, seldom=seldom)
        try:
            yield _Side(self.bench, self.clients, self.stream, f"bare-{self.stream.stream}")
        finally:
            bare.stop()


@dataclass(frozen=True)
class _Side:
    """What answers the events of the stream to `output`: the scorer, or the bare loop."""

    bench: Bench
    clients: Executor
    stream: StreamSpec
    output: str

    def delays(self, rate: float, seconds: float = SECONDS) -> Millis:
        """Milliseconds of each event after the warm-up, in the order of sending."""
        self._timed(8, 1000)  # partitions are owned, versions loaded, nothing is left from before
        count = int(rate * (WARM_UP_SECONDS + seconds))
        sent, arrived = self._timed(count, rate)
        intended = sent.start + np.arange(count) / rate
        return ((arrived - intended) * 1000)[int(rate * WARM_UP_SECONDS) :]

    def saturation(self, rate: float) -> float:
        """The largest rate at which nothing waits for half a second, three times as long as is measured; from above.

        First it goes up, in looks of a few seconds, to a rate that is not kept up with, and from there each next try is
        what came out of the last. A backlog is scored in larger batches than a stream without one, and so faster; and
        this machine now and then is slower for a second by a third or more: from what is kept up with on the whole it
        goes down by tenths until no such second leaves a backlog behind.
        Source: sustainable throughput, in Karimov et al., Benchmarking Distributed Stream Data Processing Systems,
        2018.
        """
        self._timed(8, 1000)
        while (out := self._comes_out(rate)) >= _KEPT_UP * rate:
            rate *= _FASTER
        while out < _KEPT_UP * rate:
            self.bench.say(f"of {rate:,.0f} events/s {out:,.0f} come out")
            assert out > 0
            rate, out = out, self._comes_out(out)
        while (longest := float(self.delays(rate, _SUSTAINED_SECONDS).max())) > _BACKLOG_MS:
            self.bench.say(f"at {rate:,.0f} events/s one waits for {longest:,.0f} ms")
            rate *= 0.9
        return rate

    def _comes_out(self, rate: float) -> float:
        """Events a second that come out while more go in, once it is under way."""
        sent, arrived = self._timed(int(rate * (1 + _LOOK_SECONDS)), rate)
        warm = sent.start + 1
        return float(((arrived >= warm) & (arrived <= sent.ended)).sum() / (sent.ended - warm))

    def _timed(self, count: int, rate: float) -> tuple[Sent, NDArray[np.float64]]:
        """When so many events were sent, and when the prediction of each came."""
        name, kafka = self.stream.stream, self.bench.kafka.librdkafka()
        first = self.bench.fed.get(name, 0)
        self.bench.fed[name] = first + count
        numbers, topic = range(first, first + count), PREDICTIONS.of(self.output)
        with Reader(self.bench.kafka, "bench.reader") as reader:
            ends = {partition: end for partition, (_, end) in reader.spans(topic).items()}
        arrived = self.clients.submit(read, kafka, topic, ends, numbers, count / rate)
        rows = [value[value.index(b'"time"') :] for _, value in events_of(self.stream, 0, 1000)]
        linger = 0.0 if rate <= RATE else _CLIENTS_LINGER  # 5,000 requests/s, one for each event, saturate the broker
        settings = kafka | {"linger.ms": linger}
        data = DATA.of(name), self.stream.partitions
        sent = self.clients.submit(send, settings, *data, numbers=numbers, rate=rate, rows=rows)
        return sent.result(), arrived.result()


async def _beside(sides: _Sides) -> list[Figure]:
    """The scorer and the bare loop one after the other, so that noise meets both; of each percentile the turn between.

    The first turn warms the broker up and does not count. Without transactions there is another loop to be beside,
    which commits its offsets as seldom as the scorer.
    """
    turns, seldom = list[tuple[Percentiles, Percentiles]](), list[tuple[Percentiles, Percentiles]]()
    for number in range(1 + TURNS_AT_REST):
        with sides.bare() as side:
            ceiling = await asyncio.to_thread(side.delays, RATE)
        with sides.scorer() as side:
            ours = await asyncio.to_thread(side.delays, RATE)
        turns.append((_percentiles(ours), _percentiles(ceiling)))
        if sides.stream.guarantee == "at_least_once":
            with sides.bare(seldom=True) as side:
                seldom.append((turns[-1][0], _percentiles(await asyncio.to_thread(side.delays, RATE))))
        told = ", ".join(f"p{p} {turns[-1][0][p]:.1f} of {turns[-1][1][p]:.1f} ms" for p in PERCENTILES)
        sides.bench.say(f"{sides.stream.guarantee}, turn {number} of {TURNS_AT_REST}: {told}")
    what = f"{sides.stream.guarantee}, {RATE:.0f} events/s"
    against = f"{what}, against offsets committed as seldom"
    figures = [_between(f"{what}, p{percent}", percent, turns[1:], most=1.3) for percent in PERCENTILES]
    return figures + [_between(f"{against}, p{percent}", percent, seldom[1:]) for percent in PERCENTILES if seldom]


def _percentiles(delays: Millis) -> Percentiles:
    return {percent: float(np.percentile(delays, percent)) for percent in PERCENTILES}


def _between(
    what: str, percent: int, turns: Sequence[tuple[Percentiles, Percentiles]], most: float | None = None
) -> Figure:
    pairs = [(ours[percent], ceiling[percent]) for ours, ceiling in turns]
    ours, ceiling = middle_of(pairs, lambda pair: pair[0] / pair[1])
    return Figure(what=what, unit="ms", ours=ours, ceiling=ceiling, most=most)


class _Turn(NamedTuple):
    """One rate that was kept up with, and percentiles in ms at 80 % of it and, beside, at rest."""

    saturation: float
    p50: float
    p99: float
    calm: float

    @property
    def ratio(self) -> float:
        return self.p99 / self.calm


async def _near_saturation(sides: _Sides) -> list[Figure]:
    """What is compared is measured within minutes, for a machine is not equally fast all day; the turn in the middle.

    Saturation is what comes out while generator and reader run beside, as they do in the measurement. To find it once
    and not to count it warms the broker up, which takes it half a minute under load.
    """
    turns = list[_Turn]()
    with sides.scorer() as side:
        saturation = await asyncio.to_thread(side.saturation, _OVERLOAD)
        for number in range(TURNS):
            saturation = await asyncio.to_thread(side.saturation, _FASTER * saturation)
            busy = await asyncio.to_thread(side.delays, 0.8 * saturation)
            calm = await asyncio.to_thread(side.delays, RATE)
            p50, p99, at_rest = (float(np.percentile(*each)) for each in ((busy, 50), (busy, 99), (calm, 99)))
            turns.append(_Turn(saturation, p50, p99, at_rest))
            sides.bench.say(
                f"turn {number + 1} of {TURNS}: p99 {p99:.0f} ms at 80 % of {saturation:,.0f} events/s, "
                f"{at_rest:.0f} ms at {RATE:.0f} events/s"
            )
    turn = middle_of(turns, lambda each: each.ratio)
    what = f"exactly once, 80 % of {turn.saturation:,.0f} events/s"
    against = f"{what}, p99, against p99 at {RATE:.0f}/s"
    return [
        Figure(what=f"{what}, p50", unit="ms", ours=turn.p50),
        Figure(what=against, unit="ms", ours=turn.p99, ceiling=turn.calm, most=5),
    ]
