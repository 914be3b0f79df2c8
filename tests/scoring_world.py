"""A small real world around scorers: a trained model in S3, topics, children to kill, and an independent reader."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas.envelope import Envelope, read
from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged
from schemas.events.parts import Artifact, Candidate, Cut, Release
from schemas.events.registry import ModelApplied
from schemas.specs import CategoryFeature, FloatFeature, Label, ModelSpec, Rollout, StreamSpec, Training
from schemas.topics import DATA, DEPLOYER, PREDICTIONS, SHADOW, TOPIC_OF
from services.deployer.consuming import GROUP
from shared.kafka import control_topics, ensure_topics, model_topics, stream_topics
from shared.matrix import signature_of
from shared.objects import Objects, digest_of
from shared.reading import take
from shared.settings import KafkaSettings, S3Settings
from shared.signing import CANDIDATE, ONNX

EPOCH = datetime(2013, 1, 1, tzinfo=UTC)
FEATURES = ("heat", "weight", "colour")
NOTHING = Artifact(digest=digest_of(b""), size_bytes=0)
ROOT = Path(__file__).parents[1]


def stream_spec(name: str, partitions: int = 4, **fields: Any) -> StreamSpec:
    return StreamSpec(
        stream=name,
        entity="machine",
        partitions=partitions,
        features={
            "heat": FloatFeature(type="float", min=-5, max=5),
            "weight": FloatFeature(type="float"),
            "colour": CategoryFeature(type="category", values=("red", "green", "blue")),
        },
        label=Label(type="bool", delay=timedelta(hours=1)),
        **fields,
    )


def model_spec(model: str, stream: str, rollout: Rollout | None = None) -> ModelSpec:
    return ModelSpec(
        model=model,
        stream=stream,
        owner="tests",
        task="binary",
        features=FEATURES,
        training=Training(window=timedelta(days=1), min_rows=100, estimators=("logistic_regression",)),
        rollout=rollout or Rollout(),
    )


def trained(seed: int) -> bytes:
    """A real classifier as ONNX, other weights for each seed; heat decides, missing counts as nothing."""
    from skl2onnx import to_onnx  # noqa: PLC0415  # heavy, and unit tests need none of it
    from sklearn.impute import SimpleImputer  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(400, len(FEATURES))).astype(np.float32)
    labels = inputs[:, 0] + rng.normal(scale=0.5 + seed / 10, size=400) > 0
    estimator = make_pipeline(SimpleImputer(), LogisticRegression()).fit(inputs, labels)
    graph: bytes = to_onnx(estimator, inputs[:1], options={"zipmap": False}).SerializeToString()
    return graph


def release_of(version: int, spec: ModelSpec, stream: StreamSpec, onnx: Artifact = NOTHING) -> Release:
    """Version `version` with its model's artifact."""
    return Release(
        version=version,
        candidate=Candidate(
            model=spec.model,
            run_id=f"{spec.model}-run-{version}",
            spec=spec,
            stream_spec=stream,
            cut=Cut(time=EPOCH, data_version=0, labels_version=0, data_offsets={}, labels_offsets={}),
            signature=signature_of(stream, spec.features, stream.label.values or ("false", "true")),
            onnx=onnx,
            skops=NOTHING,
            manifest=NOTHING,
            reference=NOTHING,
            metrics={},
            rows=400,
        ),
    )


def signed(release: Release, onnx: bytes, put: Callable[[bytes], Artifact], key: Path | None = None) -> Release:
    """As the validator would sign it, with no more files than serving needs; `put` stores them."""
    from services.validator.signing import sign  # noqa: PLC0415  # heavy, and most unit tests need none of it

    files = {ONNX: onnx, CANDIDATE: release.candidate.model_dump_json().encode()}
    for data in files.values():
        put(data)
    bundle = sign(release.candidate.model, files, key or Path(os.environ["MODELBUS_VALIDATOR_SIGNING_KEY"]))
    return release.model_copy(update={"attestation": put(bundle)})


def changed(
    revision: int, champion: Release, challenger: Release | None = None, share: float = 0.0, phase: str | None = None
) -> RolloutChanged:
    """A revision as the rollout would say it."""
    running = "serving" if challenger is None else "canary" if share else "shadow"
    return RolloutChanged(
        model=champion.candidate.model,
        stream_spec=champion.candidate.stream_spec,
        revision=revision,
        phase=phase or running,
        champion=champion,
        challenger=challenger,
        share=share,
        salt="a-salt",
        step=0,
        reason="a test",
    )


def wrapped(event: Event, id: str, traceparent: str | None = None) -> Envelope:
    return Envelope(
        id=id,
        source="modelbus/tests",
        time=datetime.now(UTC),
        correlation_id="a-run",
        causation_id=None,
        traceparent=traceparent,
        event=event,
    )


@dataclass
class World:
    """Streams and topics of one test, and what it has fed."""

    stream: StreamSpec
    models: Sequence[ModelSpec]
    kafka: KafkaSettings
    objects: Objects
    fed: dict[str, tuple[int, int]] = field(default_factory=dict)  # event id → input partition, offset
    _count: int = 0

    @classmethod
    async def made(cls, name: str, models: int = 1, partitions: int = 4, **fields: Any) -> "World":
        """Topics, bucket and declarations there; `fields` are more of the stream's."""
        stream = stream_spec(name, partitions, **fields)
        specs = [model_spec(f"{name}-m{number}", name) for number in range(models)]
        kafka, objects = KafkaSettings(), Objects(S3Settings())
        await objects.ensure_bucket()
        topics = [*control_topics(kafka), *stream_topics(kafka, name, partitions)]
        for spec in specs:
            topics += model_topics(kafka, spec.model, partitions)
        await ensure_topics(kafka, topics)
        world = cls(stream=stream, models=specs, kafka=kafka, objects=objects)
        for spec in specs:
            applied = ModelApplied(model=spec.model, revision=1, spec=spec, stream_spec=stream, actor="t", reason="t")
            world.say(applied)
        return world

    def release(self, version: int, model: int = 0, onnx: bytes | None = None) -> Release:
        """A release with its model in S3, signed."""
        data = trained(version) if onnx is None else onnx
        artifact = self.objects.put_now(data)
        return signed(release_of(version, self.models[model], self.stream, artifact), data, self.objects.put_now)

    async def remove(self, release: Release) -> None:
        """Take a release's model out of S3."""
        await self.objects.remove(release.candidate.onnx.digest)

    def say(self, event: Event, traceparent: str | None = None) -> None:
        """Publish a lifecycle event."""
        self._count += 1
        said = wrapped(event, f"{self.stream.stream}-{self._count}", traceparent)
        producer = Producer(self.kafka.librdkafka() | {"partitioner": "murmur2_random"})
        producer.produce(TOPIC_OF[type(event)].name, event.encode(), event.key.encode(), headers=list(said.headers()))
        assert producer.flush(20) == 0

    def feed(self, count: int, entities: int = 50, only: int | None = None) -> None:
        """Produce `count` accepted events, keyed by entity, or all into partition `only`."""
        producer = Producer(self.kafka.librdkafka() | {"partitioner": "murmur2_random", "linger.ms": 5})

        def delivered(event_id: str) -> Callable[[Any, Any], None]:
            return lambda error, message: self.fed.update({event_id: (message.partition(), message.offset())})

        for number in range(len(self.fed), len(self.fed) + count):
            event_id, entity = f"e{number}", f"machine-{number % entities}"
            value = {
                "id": event_id,
                "entity": entity,
                "time": (EPOCH + timedelta(seconds=number)).isoformat(),
                "features": {"heat": (number % 9 - 4) / 2, "weight": None, "colour": ("red", "green")[number % 2]},
            }
            where: Any = {} if only is None else {"partition": only}
            producer.produce(
                DATA.of(self.stream.stream), json.dumps(value), entity, on_delivery=delivered(event_id), **where
            )
            producer.poll(0)
        assert producer.flush(30) == 0

    def predictions(self, model: int = 0) -> list[dict[str, Any]]:
        """All committed predictions of a model, as any consumer would read them."""
        return [json.loads(message.value()) for message in self.read(PREDICTIONS.of(self.models[model].model))]

    def shadows(self, model: int = 0) -> list[dict[str, Any]]:
        return [json.loads(message.value()) for message in self.read(SHADOW.of(self.models[model].model))]

    def said(self, kind: type[Event]) -> list[Envelope]:
        """Committed events of one kind about this world's models."""
        names = {spec.model for spec in self.models}
        found = (read(message.headers(), message.value()) for message in self.read(DEPLOYER.name))
        return [each for each in found if each and isinstance(each.event, kind) and each.event.key in names]

    def read(self, topic: str) -> list[Any]:
        """Every committed record of a topic, partition by partition, in order."""
        consumer = Consumer(
            self.kafka.librdkafka()
            | {
                "group.id": "tests.reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        unread, found = set(partitions), []
        deadline = time.monotonic() + 60
        while unread and time.monotonic() < deadline:
            for message in take(consumer, 5000, 0.2):
                if (error := message.error()) is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
        consumer.close()
        assert not unread, f"{topic}: the end of {unread} was not reached"
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    def committed(self) -> int:
        """The offsets that the scorers have committed, over all partitions."""
        return Offsets(self.kafka, GROUP, [self.stream]).total()

    def assert_exactly_once(self, model: int = 0) -> None:
        """Every event fed has one prediction, in its partition, in its order."""
        predictions = self.predictions(model)
        counts = Counter(each["event_id"] for each in predictions)
        assert [each for each in self.fed if counts[each] == 0] == []
        assert [each for each, count in counts.items() if count > 1] == []
        assert {each["event_id"]: (each["partition"], each["offset"]) for each in predictions} == self.fed
        orders = defaultdict(list)
        for each in predictions:
            orders[each["partition"]].append(each["offset"])
        assert all(order == sorted(order) for order in orders.values())


class Offsets:
    """What a group has committed of some streams."""

    def __init__(self, kafka: KafkaSettings, group: str, streams: Sequence[StreamSpec]) -> None:
        settings = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
        self._consumer = Consumer(kafka.librdkafka() | settings)
        self._asked = [(DATA.of(each.stream), partition) for each in streams for partition in range(each.partitions)]

    def total(self) -> int:
        """Records, over all partitions; 0 while the group has no coordinator."""
        try:
            found = self._consumer.committed([TopicPartition(*each) for each in self._asked], timeout=20)
        except KafkaException:
            return 0
        return sum(max(0, each.offset) for each in found)


class Scorer:
    """A scorer as a child process."""

    def __init__(self, slot: int, folder: Path, **settings: Any) -> None:
        self.slot, self._folder = slot, folder
        named = {"http_port": 0, **settings}
        self._settings = {f"MODELBUS_SCORER_{name.upper()}": str(value) for name, value in named.items()}
        self.start()

    def start(self) -> None:
        log = (self._folder / f"scorer-{self.slot}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.deployer.scorer", "--slot", str(self.slot)],
            cwd=ROOT,
            env=os.environ | self._settings,
            stderr=log,
        )
        log.close()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ensure_running(self) -> bool:
        """Start again what has died, as a supervisor does; True when that was needed."""
        if self.process.poll() is None:
            return False
        self.start()
        return True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        return self.process.wait(30)

    def metric(self, name: str) -> float:
        """A sample of /metrics; 0 where there is none yet."""
        text = self._answer("/metrics")
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)

    def owned(self, stream: str) -> int:
        """How many partitions of a stream it reads."""
        lines = self._answer("/metrics").splitlines()
        return sum(line.startswith("modelbus_scorer_lag_records{") and f'stream="{stream}"' in line for line in lines)

    def ready(self) -> bool:
        """Whether it owns partitions, or there is no stream.

        Raises:
            AssertionError: it has ended.
        """
        assert self.process.poll() is None, f"scorer {self.slot} has ended: {self.log()[-4000:]}"
        return self._answer("/readyz") != ""

    def _answer(self, path: str) -> str:
        """Of one that was made with an `http_port`; empty where there is none, or none that is good."""
        port = int(self._settings["MODELBUS_SCORER_HTTP_PORT"]) + self.slot
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError:
            return ""
        return answer.text if answer.is_success else ""

    def log(self) -> str:
        return (self._folder / f"scorer-{self.slot}.log").read_text()


def free_port(count: int = 1) -> int:
    """The first of so many free ports in a row."""
    while True:
        with ExitStack() as probes:
            first = probes.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with suppress(OSError, OverflowError):
                for number in range(1, count):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
                return port


@contextmanager
def scorers(folder: Path, count: int = 1, **settings: Any) -> Iterator[list[Scorer]]:
    """So many running scorers; all are stopped in the end."""
    running = [Scorer(slot, folder, **settings) for slot in range(count)]
    try:
        yield running
    finally:
        for scorer in running:
            scorer.stop(signal.SIGKILL)


async def until(condition: Callable[[], bool], seconds: float = 180, every: float = 0.2) -> None:
    """Poll until it holds.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come to hold in time"
        await asyncio.sleep(every)
