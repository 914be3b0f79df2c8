"""The monitor beside the scorer at saturation: one process reads data, predictions and labels of the 12-float stream.

The scorer's answers are the predictions that the monitor reads. Each has the machine to itself; what an event costs the
monitor is its own processor time, decoding, join, windows, drift and snapshots together.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
from confluent_kafka import Producer

from schemas.events.registry import ModelApplied, StreamApplied
from schemas.specs import FloatFeature
from schemas.topics import LABELS
from shared.reference import binned, feature_reference, with_blocks
from tests.bench.figures import Figure, Say
from tests.bench.scorer import FEATURES, STREAM, Bench, Event, boosted, events_of, model_of, put, running_bench
from tests.scoring_world import ROOT, World, free_port

_STEP = timedelta(milliseconds=72)  # between events: 50,000 wait for their labels
_START = datetime(2013, 1, 1, tzinfo=UTC)
_LIMIT_SECONDS = 600
_SAMPLE_SECONDS = 0.1
SAID = {"revision": 1, "actor": "bench", "reason": "bench"}


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Events a second of either, and what one costs the monitor."""
    count = arguments.events // 3
    async with running_bench(say, "postgres") as bench:
        await _declare(bench)
        await bench.feed(STREAM, _timed(count))
        scored = await bench.scored(STREAM)
        say(f"scored {scored:,.0f} events/s")
        await asyncio.to_thread(_label, bench, count)
        with monitor(bench.folder) as process:
            rate, cost = await asyncio.to_thread(_watched, process, count)
        say(f"monitored {rate:,.0f} events/s, {cost:.1f} µs of processor time each")
    return [
        Figure(what="monitor beside scorer, 12 floats", unit="events/s", ours=rate, ceiling=scored, bound=">= 1"),
        Figure(what="an event with its prediction and label", unit="µs", ours=cost),
    ]  # fmt: skip


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


def _timed(count: int) -> Iterator[Event]:
    """The usual events, one after the other in time."""
    for number, (key, value) in enumerate(events_of(STREAM, 0, count)):
        yield key, value.replace(b"2013-01-01T00:00:00Z", _at(number).encode())


def _label(bench: Bench, count: int) -> None:
    """Half an hour after each event."""
    producer = Producer(bench.kafka.librdkafka() | {"linger.ms": 20, "partitioner": "murmur2_random"})
    for number in range(count):
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

    def joined(self) -> float:
        """Predictions of all models that have their label."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        except httpx.TransportError:
            return 0.0
        found = (line for line in text.splitlines() if line.startswith("modelbus_monitor_joined{"))
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def processor_seconds(self) -> float:
        """Spent so far, in user and system mode."""
        spent = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")


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


def _watched(watched: Watched, count: int) -> tuple[float, float]:
    """Events a second, and µs of processor time for each, from the first that is joined to the last."""
    seen: list[tuple[float, float, float]] = []
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not seen or seen[-1][1] < count:
        if time.monotonic() > deadline or watched.process.poll() is not None:
            raise TimeoutError(f"the monitor: {seen[-1:]} of {count}\n{watched.log.read_text()[-3000:]}")
        joined = watched.joined()
        if joined > (seen[-1][1] if seen else 0):
            seen.append((time.perf_counter(), joined, watched.processor_seconds()))
        time.sleep(_SAMPLE_SECONDS)
    (began, first, before), (ended, last, after) = seen[0], seen[-1]
    return (last - first) / (ended - began), (after - before) / (last - first) * 1e6
