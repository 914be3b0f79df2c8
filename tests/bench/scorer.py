"""What the scorer's benchmarks share: a stack, streams and models on it, and what is read off from outside.

The usual workload: HistGradientBoosting of 100 iterations on 12 floats, JSON events, 4 partitions, full records.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutChanged
from schemas.events.parts import Artifact, Release
from schemas.specs import FloatFeature, Label, ModelSpec, StreamSpec, Training
from schemas.topics import DATA, PREDICTIONS
from services.deployer.consuming import GROUP
from services.trainer.domain.graphs import graph_of
from shared.kafka import control_topics, ensure_topics, model_topics, stream_topics
from shared.matrix import Inputs, signature_of
from shared.objects import Objects
from shared.reading import Reader
from shared.settings import KafkaSettings, S3Settings
from tests.bench.figures import Say
from tests.scoring_world import NOTHING, Offsets, World, changed, free_port, release_of, scorers, signed, until

LIMIT_SECONDS = 600
_SAMPLE_SECONDS = 0.02
_READ_RECORDS = 10_000
Event = tuple[str, bytes]  # key, value


def stream_of(name: str, features: Sequence[str], **fields: Any) -> StreamSpec:
    """A stream of floats."""
    return StreamSpec(
        stream=name,
        entity="machine",
        partitions=4,
        features={feature: FloatFeature(type="float") for feature in features},
        label=Label(type="bool", delay=timedelta(hours=1)),
        **fields,
    )


def model_of(name: str, stream: StreamSpec) -> ModelSpec:
    """A model on all of a stream's features."""
    return ModelSpec(
        model=name,
        stream=stream.stream,
        owner="bench",
        task="multiclass" if stream.label.values else "binary",
        features=tuple(stream.features),
        training=Training(window=timedelta(days=1), min_rows=100, estimators=("hist_gradient_boosting",)),
    )


FEATURES = tuple(f"x{number}" for number in range(12))
STREAM = stream_of("bench", FEATURES)


def boosted(stream: StreamSpec, seed: int = 0) -> bytes:
    """The usual model, on all features of a stream of floats."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(20_000, len(stream.features))).astype(np.float32)
    labels = inputs[:, 0] + inputs[:, 1] * inputs[:, 2] + rng.normal(size=len(inputs)) > 0
    return graph_on(stream, inputs, labels, seed)


def graph_on(stream: StreamSpec, inputs: Inputs, labels: NDArray[np.bool_], seed: int = 0) -> bytes:
    """HistGradientBoosting of 100 iterations, fitted on inputs (n, features of the stream) and labels (n,), as ONNX."""
    model = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=seed)
    fitted = make_pipeline(model).fit(inputs, labels)
    return graph_of(fitted, signature_of(stream, tuple(stream.features), ("false", "true")))


class Took(NamedTuple):
    """What a run of one scorer took: events a second of processor time, of all its threads, and memory at most."""

    events_a_second: float
    peak_mb: float


@dataclass(kw_only=True)
class Bench:
    """A running stack, and how far its streams are fed."""

    folder: Path
    kafka: KafkaSettings
    objects: Objects
    fed: dict[str, int] = field(default_factory=dict)  # stream → events
    models: dict[str, str] = field(default_factory=dict)  # model → its stream
    worlds: dict[str, World] = field(default_factory=dict)  # by stream, to say what serves
    took: list[Took] = field(default_factory=list)  # each run of one scorer
    say: Say

    async def serve(self, stream: StreamSpec, graphs: dict[str, bytes], reference: Artifact = NOTHING) -> None:
        """Topics of a stream and its models, each served by its graph from the first event on."""
        topics = stream_topics(self.kafka, stream.stream, stream.partitions)
        for name in (*graphs, f"bare-{stream.stream}"):
            topics += model_topics(self.kafka, name, stream.partitions)
        await ensure_topics(self.kafka, topics)
        models = [model_of(name, stream) for name in graphs]
        for model in models:
            self._say(changed(1, self._release(1, model, stream, graphs[model.model], reference)))
            self.models[model.model] = stream.stream

    def try_beside(self, stream: StreamSpec, model: str, graph: bytes, challenger: bytes, share: float) -> None:
        """From now on a second version answers this share of the entities; both score all of them."""
        spec = model_of(model, stream)
        first, second = (self._release(number, spec, stream, each) for number, each in ((1, graph), (2, challenger)))
        self._say(changed(2, first, second, share))

    def _release(
        self, version: int, model: ModelSpec, stream: StreamSpec, graph: bytes, reference: Artifact = NOTHING
    ) -> Release:
        release = release_of(version, model, stream, self.objects.put_now(graph))
        candidate = release.candidate.model_copy(update={"reference": reference})
        return signed(release.model_copy(update={"candidate": candidate}), graph, self.objects.put_now)

    def _say(self, event: RolloutChanged) -> None:
        world = World(stream=event.stream_spec, models=[], kafka=self.kafka, objects=self.objects)
        self.worlds.setdefault(world.stream.stream, world).say(event)

    async def scored(self, *streams: StreamSpec) -> float:
        """Events a second that one scorer commits of what is fed."""
        with scorers(self.folder) as [scorer]:
            pid, done, spent = scorer.process.pid, list[int](), list[float]()

            def note(total: int) -> None:
                done.append(total)
                spent.append(processor_seconds(pid))

            rate = await asyncio.to_thread(self.rate, GROUP, *streams, note=note)
            self.took.append(Took((done[-1] - done[0]) / (spent[-1] - spent[0]), _peak_mb(pid)))
            scorer.stop()
        return rate

    async def all_predicted(self) -> None:
        """Each model has answered every event that its stream was fed.

        Raises:
            AssertionError: a rate was one of something else.
        """
        for model, stream in self.models.items():
            found = await asyncio.to_thread(self._predictions, model)
            assert found == self.fed[stream], f"{model}: {found:,} predictions of {self.fed[stream]:,} events"

    def _predictions(self, model: str) -> int:
        topic = PREDICTIONS.of(model)
        with Reader(self.kafka, "bench.reader", _READ_RECORDS) as reader:
            return sum(
                len(batch) for each, span in reader.spans(topic).items() for batch in reader.read(topic, each, *span)
            )

    async def shared(self, stream: StreamSpec, events: Iterable[Event], processes: int) -> float:
        """As `scored`, by several that stand still, their partitions shared out, until all events are there."""
        with scorers(self.folder, processes, http_port=free_port(processes)) as running:
            await until(lambda: all(scorer.ready() for scorer in running))
            for scorer in running:
                scorer.send(signal.SIGSTOP)
            await self.feed(stream, events)
            for scorer in running:
                scorer.send(signal.SIGCONT)
            rate = await asyncio.to_thread(self.rate, GROUP, stream)
            for scorer in running:
                scorer.stop()
        return rate

    async def feed(self, stream: StreamSpec, events: Iterable[Event]) -> None:
        """Publish, as any producer would."""
        await asyncio.to_thread(self._feed, stream, events)

    def _feed(self, stream: StreamSpec, events: Iterable[Event]) -> None:
        producer = Producer(self.kafka.librdkafka() | {"linger.ms": 20, "partitioner": "murmur2_random"})
        for key, value in events:
            put(producer, DATA.of(stream.stream), value, key)
            self.fed[stream.stream] = self.fed.get(stream.stream, 0) + 1
        assert producer.flush(60) == 0

    def rate(self, group: str, *streams: StreamSpec, note: Callable[[int], None] = lambda _: None) -> float:
        """Events a second that a group commits, from the first it does to the last that is fed; `note` hears each."""
        offsets = Offsets(self.kafka, group, streams)
        start, end = offsets.total(), sum(self.fed[stream.stream] for stream in streams)
        seen: list[tuple[float, int]] = []
        deadline = time.monotonic() + LIMIT_SECONDS
        while not seen or seen[-1][1] < end:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{group}: {seen[-1:]} of {end}")
            if (total := offsets.total()) > (seen[-1][1] if seen else start):
                seen.append((time.perf_counter(), total))
                note(total)
            time.sleep(_SAMPLE_SECONDS)
        if len(seen) < 3:
            raise ValueError(f"{end - start} events are too few to time: they were committed in {len(seen)} steps")
        (began, first), (ended, last) = seen[0], seen[-1]
        return (last - first) / (ended - began)


@asynccontextmanager
async def running_bench(say: Say, *more: str) -> AsyncIterator[Bench]:
    """Kafka, S3 and Zipkin, and `more` parts, with nothing on them; their settings in this process's environment."""
    before = dict(os.environ)
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder), parts=frozenset({"kafka", "s3", "zipkin", *more}), busy=True) as stack:
            os.environ.update(stack.environment)
            kafka, objects = KafkaSettings(), Objects(S3Settings())  # from the environment
            await objects.ensure_bucket()
            await ensure_topics(kafka, control_topics(kafka))
            yield Bench(folder=Path(folder), kafka=kafka, objects=objects, say=say)
    os.environ.clear()
    os.environ.update(before)


def processor_seconds(pid: int) -> float:
    """Spent so far by all threads, in user and system mode. Source: proc(5), stat."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    """Source: proc(5), status."""
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def events_of(stream: StreamSpec, first: int, count: int) -> Iterator[Event]:
    """Events of a stream of floats: 4000 entities, 1000 rows of numbers that come again."""
    rng = np.random.default_rng(1)
    names = list(stream.features)
    rows = rng.normal(size=(1000, len(names))).round(4).tolist()
    said = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    for number in range(first, first + count):
        entity = f"machine-{number % 4000}"
        head = f'{{"id":"e{number}","entity":"{entity}","time":"2013-01-01T00:00:00Z","features":'
        yield entity, f"{head}{said[number % 1000]}}}".encode()


def put(producer: Producer, topic: str, value: bytes | None, key: str | bytes, **more: Any) -> None:
    """Into the client's queue; waits while that is full."""
    while True:
        try:
            producer.produce(topic, value, key, **more)
            return
        except BufferError:
            producer.poll(0.05)
