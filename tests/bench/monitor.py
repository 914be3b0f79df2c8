"""The monitor beside the scorer at saturation: one process reads data, predictions and labels of the 12-float stream.

An eighth of the events is answered before, so that the monitor never waits for predictions: it reads these, and those
that the scorer goes on to write at the same time, on the same cores and with the same right to them. Where more come
than it can read it measures a sample (services/monitor/domain/sampling.py): what it took in is what joined and what it
left out. Both rates are of one span on the clock: the second half of the time in which both were at work, when the
sample has been found. Where the monitor's is below the scorer's, its backlog grew by the difference. What an event
costs it is its own processor time, decoding, join, windows, drift and snapshots together.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from confluent_kafka import Producer

from schemas.events.registry import ModelApplied, StreamApplied
from schemas.specs import FloatFeature
from schemas.topics import LABELS
from services.deployer.consuming import GROUP
from shared.reference import binned, feature_reference, with_blocks
from tests.bench.figures import Figure, Say
from tests.bench.scorer import (
    FEATURES,
    STREAM,
    Bench,
    Event,
    boosted,
    events_of,
    model_of,
    processor_seconds,
    put,
    running_bench,
)
from tests.scoring_world import ROOT, Offsets, World, free_port, scorers

_STEP = timedelta(milliseconds=144)  # between events: 50,000 wait until their label has matured
_START = datetime(2013, 1, 1, tzinfo=UTC)
_LIMIT_SECONDS = 600
_SAMPLE_SECONDS = 0.5  # asking for metrics is work too
SAID = {"revision": 1, "actor": "bench", "reason": "bench"}


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Events a second of both at once, and what one costs the monitor."""
    count = arguments.events
    async with running_bench(say, "postgres") as bench:
        await _declare(bench)
        await _fed(bench, 0, count // 8)
        alone = await bench.scored(STREAM)
        say(f"the scorer alone answers {alone:,.0f} events/s")
        unhurried = await asyncio.to_thread(_alone, bench, count // 8)
        say(f"the monitor alone reads {unhurried.monitored:,.0f} events/s, {unhurried.cost:.1f} µs each")
        await _fed(bench, count // 8, count // 4)
        await bench.scored(STREAM)
        await _fed(bench, count // 4, count)
        beside = await asyncio.to_thread(_both, bench, count)
        say(f"beside each other: scorer {beside.scored:,.0f}, monitor {beside.monitored:,.0f} events/s")
        say(f"the monitor: {beside.cost:.1f} µs of processor time an event, {beside.measured:.1%} of them measured")
    return [
        Figure(
            what="monitor beside scorer, 12 floats", unit="events/s", ours=beside.monitored, ceiling=beside.scored,
            least=1,
        ),
        Figure(what="the scorer beside it and alone", unit="events/s", ours=beside.scored, ceiling=alone),
        Figure(what="the monitor alone", unit="events/s", ours=unhurried.monitored, ceiling=alone),
        Figure(what="an event with its prediction and label, alone", unit="µs", ours=unhurried.cost),
        Figure(what="beside the scorer", unit="µs", ours=beside.cost),
        Figure(what="events that were measured, the others sampled out", unit="share", ours=beside.measured),
    ]  # fmt: skip


async def _fed(bench: Bench, first: int, end: int) -> None:
    """Events and their labels."""
    await bench.feed(STREAM, _timed(first, end))
    await asyncio.to_thread(_label, bench, first, end)


async def _declare(bench: Bench) -> None:
    """One version serves, and the monitor knows what it looked like in training."""
    artifact = bench.objects.put_now(json.dumps(_reference()).encode())
    await bench.serve(STREAM, {"bench": boosted(STREAM)}, artifact)
    model = model_of("bench", STREAM)
    world = World(stream=STREAM, models=[model], kafka=bench.kafka, objects=bench.objects, _count=100)
    world.say(StreamApplied(stream=STREAM.stream, spec=STREAM, **SAID))
    world.say(ModelApplied(model=model.model, spec=model, stream_spec=STREAM, **SAID))


def _reference() -> dict[str, object]:
    """Of 20,000 rows like those that are fed."""
    rng, number, window = np.random.default_rng(2), FloatFeature(type="float"), 2000
    columns = {name: rng.normal(size=20_000) for name in FEATURES}
    scores = rng.random(20_000)
    features = {name: with_blocks(feature_reference(number, each), each, window) for name, each in columns.items()}
    return {"features": features, "score": with_blocks(binned(scores), scores, window)}


def _timed(first: int, end: int) -> Iterator[Event]:
    """The usual events, one after the other in time."""
    for number, (key, value) in enumerate(events_of(STREAM, first, end - first), first):
        yield key, value.replace(b"2013-01-01T00:00:00Z", _at(number).encode())


def _label(bench: Bench, first: int, end: int) -> None:
    """Half an hour after each event."""
    producer = Producer(bench.kafka.librdkafka() | {"linger.ms": 20, "partitioner": "murmur2_random"})
    for number in range(first, end):
        entity, known = f"machine-{number % 4000}", _at(number + timedelta(minutes=30) // _STEP)
        said = {"id": f"e{number}", "entity": entity, "time": known, "label": number % 3 == 0}
        put(producer, LABELS.of(STREAM.stream), json.dumps(said).encode(), entity)
    assert producer.flush(60) == 0


def _at(number: int) -> str:
    return (_START + number * _STEP).isoformat()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A running monitor, seen from outside."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def predictions(self, *fates: str) -> list[float]:
        """So many predictions of all models came to each of these."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        except httpx.TransportError:
            return [0.0] * len(fates)
        names, lines = [f"modelbus_monitor_{fate}{{" for fate in fates], text.splitlines()
        return [sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)) for name in names]


@contextmanager
def monitor(folder: Path) -> Iterator[Watched]:
    """`python -m services.monitor`."""
    port = free_port()
    path = folder / "monitor.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.monitor"],
            cwd=ROOT,
            env=os.environ | {"MODELBUS_MONITOR_HTTP_PORT": str(port)},
            stderr=log,
        )
    try:
        yield Watched(process=process, port=port, log=path)
    finally:
        process.terminate()
        process.wait(30)


def _together(watched: Watched, begun: Callable[[], bool]) -> None:
    """The monitor, once it is at work, stands still until the other has begun."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    steps: list[tuple[signal.Signals, Callable[[], bool]]] = [
        (signal.SIGSTOP, lambda: watched.predictions("joined")[0] > 0),
        (signal.SIGCONT, begun),
    ]
    for signalled, reached in steps:
        while not reached():
            assert time.monotonic() < deadline
            time.sleep(_SAMPLE_SECONDS)
        watched.process.send_signal(signalled)


class Sample(NamedTuple):
    """What both had done at a moment."""

    at: float
    committed: int
    taken: float
    left_out: float
    processor_seconds: float


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Events a second of both while both were at work, what one cost the monitor in µs, and the share it measured."""

    scored: float
    monitored: float
    cost: float
    measured: float


def _alone(bench: Bench, count: int) -> Beside:
    with monitor(bench.folder) as watched:
        seen = list(_samples(watched, count, lambda: 0))
    return _between([each for each in seen if each.taken])


def _both(bench: Bench, count: int) -> Beside:
    offsets = Offsets(bench.kafka, GROUP, [STREAM])
    start = offsets.total()
    with monitor(bench.folder) as watched, scorers(bench.folder) as [scorer]:
        _together(watched, lambda: offsets.total() > start)
        seen = list(_samples(watched, count, offsets.total))
        scorer.stop()
    both = [each for each in seen if each.committed < count]
    return _between(both[len(both) // 2 :])


def _samples(watched: Watched, count: int, committed: Callable[[], int]) -> Iterator[Sample]:
    """Until the monitor has taken in so many."""
    deadline, taken = time.monotonic() + _LIMIT_SECONDS, 0.0
    while taken < count:
        if time.monotonic() > deadline or watched.process.poll() is not None:
            raise TimeoutError(f"the monitor: {taken} of {count}\n{watched.log.read_text()[-3000:]}")
        joined, left_out = watched.predictions("joined", "sampled_out")
        taken = joined + left_out
        yield Sample(time.perf_counter(), committed(), taken, left_out, processor_seconds(watched.process.pid))
        time.sleep(_SAMPLE_SECONDS)


def _between(seen: Sequence[Sample]) -> Beside:
    """From the first to the last."""
    first, last = seen[0], seen[-1]
    seconds, taken = last.at - first.at, last.taken - first.taken
    return Beside(
        scored=(last.committed - first.committed) / seconds,
        monitored=taken / seconds,
        cost=(last.processor_seconds - first.processor_seconds) / taken * 1e6,
        measured=1 - (last.left_out - first.left_out) / taken,
    )
