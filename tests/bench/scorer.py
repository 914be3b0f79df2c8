"""One scorer process against a bare exactly-once loop that writes constant records of the same size, in one run.

The workload: HistGradientBoosting of 100 iterations on 12 floats, JSON events, 4 partitions, full prediction records.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from compose.embedded.stack import Stack
from schemas.specs import FloatFeature, Label, ModelSpec, StreamSpec, Training
from schemas.topics import DATA, PREDICTIONS
from services.trainer.domain.graphs import graph_of
from shared.kafka import control_topics, ensure_topics, model_topics, stream_topics
from shared.matrix import signature_of
from shared.objects import Objects
from shared.settings import KafkaSettings, S3Settings
from tests.scoring_world import World, changed, free_port, release_of, scorers

FEATURES = tuple(f"x{number}" for number in range(12))
BATCH = 5000
_LIMIT_SECONDS = 600
STREAM = StreamSpec(
    stream="bench",
    entity="machine",
    partitions=4,
    features={name: FloatFeature(type="float") for name in FEATURES},
    label=Label(type="bool", delay=timedelta(hours=1)),
)
MODEL = ModelSpec(
    model="bench",
    stream="bench",
    owner="bench",
    task="binary",
    features=FEATURES,
    training=Training(window=timedelta(days=1), min_rows=100, estimators=("hist_gradient_boosting",)),
)


def measure(events: int) -> dict[str, float]:
    """Events a second of both, and the ratio."""
    return asyncio.run(_measure(events))


async def _measure(events: int) -> dict[str, float]:
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder), parts=frozenset({"kafka", "s3"})) as stack:
            os.environ.update(stack.environment)
            world = await _world()
            await asyncio.to_thread(_feed, world.kafka, events)
            bare = await asyncio.to_thread(_bare_loop, world.kafka, events)
            ours = await asyncio.to_thread(_scorer, Path(folder), events)
    return {"events": events, "bare_loop_per_second": bare, "scorer_per_second": ours, "ratio": ours / bare}


async def _world() -> World:
    kafka, objects = KafkaSettings(), Objects(S3Settings())  # type: ignore[call-arg]  # from the environment
    await objects.ensure_bucket()
    topics = [*control_topics(kafka), *stream_topics(kafka, "bench", 4), *model_topics(kafka, "bench", 4)]
    await ensure_topics(kafka, [*topics, *model_topics(kafka, "bare", 4)])
    world = World(stream=STREAM, models=[MODEL], kafka=kafka, objects=objects)
    graph = graph_of(_fitted(), signature_of(STREAM, FEATURES, ("false", "true")))
    world.say(changed(1, release_of(1, MODEL, STREAM, objects.put_now(graph))))
    return world


def _fitted() -> Any:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20_000, len(FEATURES))).astype(np.float32)
    labels = inputs[:, 0] + inputs[:, 1] * inputs[:, 2] + rng.normal(size=len(inputs)) > 0
    return make_pipeline(HistGradientBoostingClassifier(max_iter=100, random_state=0)).fit(inputs, labels)


def _feed(kafka: KafkaSettings, events: int) -> None:
    rng = np.random.default_rng(1)
    said = [json.dumps(dict(zip(FEATURES, row, strict=True))) for row in rng.normal(size=(1000, 12)).round(4).tolist()]
    producer = Producer(kafka.librdkafka() | {"linger.ms": 20, "partitioner": "murmur2_random"})
    for number in range(events):
        entity = f"machine-{number % 4000}"
        value = (
            f'{{"id":"e{number}","entity":"{entity}","time":"2013-01-01T00:00:00Z","features":{said[number % 1000]}}}'
        )
        _put(producer, DATA.of("bench"), value, entity)
    assert producer.flush(60) == 0


def _put(producer: Producer, topic: str, value: str | bytes, key: str | bytes | None, **where: Any) -> None:
    while True:
        try:
            producer.produce(topic, value, key, **where)
            return
        except BufferError:
            producer.poll(0.05)


def _bare_loop(kafka: KafkaSettings, events: int) -> float:
    """The ceiling: consume, write as many constant records of a prediction's size, commit; nothing else."""
    record = b"x" * 330  # bytes; a prediction's value and headers
    producer = Producer(kafka.librdkafka() | {"transactional.id": "bare", "linger.ms": 5, "batch.size": 512 * 1024})
    producer.init_transactions(30)
    with _consumer(kafka) as consumer:
        first, done = 0.0, 0
        while done < events:
            messages = [each for each in consumer.consume(BATCH, 0.5) if each.error() is None]
            first = first or (time.perf_counter() if messages else 0.0)
            if not messages:
                continue
            producer.begin_transaction()
            for message in messages:
                _put(producer, PREDICTIONS.of("bare"), record, message.key(), partition=message.partition())
            producer.send_offsets_to_transaction(
                consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
            )
            producer.commit_transaction()
            done += len(messages)
        return events / (time.perf_counter() - first)


@contextmanager
def _consumer(kafka: KafkaSettings) -> Iterator[Consumer]:
    settings = {"group.id": "bare", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer(kafka.librdkafka() | settings)
    consumer.subscribe([DATA.of("bench")])
    try:
        yield consumer
    finally:
        consumer.close()


def _scorer(folder: Path, events: int) -> float:
    """Committed predictions a second, from the first that are there to the last."""
    seen: list[tuple[float, float]] = []
    deadline = time.monotonic() + _LIMIT_SECONDS
    with scorers(folder, http_port=free_port()) as [scorer]:
        while not seen or seen[-1][1] < events:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen[-1:]} of {events}; the scorer's log: {scorer.log()[-2000:]}")
            answered = scorer.metric("modelbus_scorer_predictions_total")
            seen += [(time.perf_counter(), answered)] if answered else []
            time.sleep(0.1)
    (began, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / (ended - began)
