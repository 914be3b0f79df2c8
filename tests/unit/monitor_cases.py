"""A small world for the monitor's rounds: a stream, two versions of a model, and what the data plane carries."""

import math
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from schemas.events.parts import Artifact, Candidate, Cut, SignatureFeature
from schemas.events.parts import Signature as SignatureOf
from schemas.specs import ModelSpec, StreamSpec
from schemas.topics import DATA, LABELS, PREDICTIONS, SHADOW
from services.monitor.domain.clock import Clock, length
from services.monitor.domain.facts import ModelFacts, Rollout, Said, StreamFacts
from services.monitor.domain.state import StreamState
from services.monitor.intake import Intake, Lane, Record
from services.monitor.reference import Reference
from services.monitor.rounds import Engine
from services.monitor.settings import Settings
from services.trainer.domain.expectations import additive, calibration_of, losses
from shared.reference import binned, feature_reference, with_blocks

START = datetime(2013, 1, 1, tzinfo=UTC)
STREAM = StreamSpec.model_validate(
    {
        "stream": "s",
        "entity": "device",
        "partitions": 3,
        "features": {
            "heat": {"type": "float", "min": -100, "max": 100},
            "kind": {"type": "category", "values": ["a", "b"]},
        },
        "label": {"type": "bool", "delay": "2h"},
        "lateness": "1h",
    }
)
MODEL = ModelSpec.model_validate(
    {
        "model": "m",
        "stream": "s",
        "owner": "tests",
        "task": "binary",
        "features": ["heat", "kind"],
        "training": {"window": "60d", "min_rows": 300, "estimators": ["logistic_regression"]},
        "monitoring": {"window": 200},
        "rollout": {"shadow": 100},
    }
)
SIGNATURE = SignatureOf(
    features=(
        SignatureFeature(name="heat", type="float"),
        SignatureFeature(name="kind", type="category", values=("a", "b")),
    ),
    classes=("false", "true"),
)


@cache
def reference_document(seed: int = 0, rows: int = 5000) -> dict[str, Any]:
    """What training would have frozen of the world below."""
    rng = np.random.default_rng(seed)
    columns = {"heat": rng.normal(size=rows), "kind": rng.integers(0, 2, rows).astype(np.float64)}
    window, scores = MODEL.monitoring.window, 1 / (1 + np.exp(-columns["heat"]))
    features = {
        name: with_blocks(feature_reference(STREAM.features[name], column), column, window)
        for name, column in columns.items()
    }
    labels = (rng.random(rows) < scores).astype(np.intp)
    loss = additive(losses("binary", labels, scores[:, None])["brier"], features, list(columns.values()))
    expected = {"calibration": calibration_of(labels, scores[:, None]), "losses": {"brier": loss}}
    return {"features": features, "score": with_blocks(binned(scores), scores, window), "expected": expected}


def candidate(version: int, stream: StreamSpec = STREAM, model: ModelSpec = MODEL, **changes: Any) -> Candidate:
    artifact = Artifact(digest="sha256:" + f"{version:064x}", size_bytes=1)
    cut = Cut(time=START, data_version=1, labels_version=1, data_offsets={}, labels_offsets={})
    fields: dict[str, Any] = {
        "model": model.model,
        "run_id": f"{model.model}-{version}",
        "spec": model,
        "stream_spec": stream,
        "cut": cut,
        "signature": SIGNATURE,
        "onnx": artifact,
        "skops": artifact,
        "manifest": artifact,
        "reference": artifact,
        "metrics": {"roc_auc": 0.75},
        "rows": 5000,
    }
    return Candidate.model_validate(fields | changes)


def rollout(revision: int, champion: int = 1, challenger: int | None = None) -> Rollout:
    phase = "serving" if challenger is None else "shadow"
    said = Said(event_id=f"rollout-{revision}", correlation_id=f"m-{challenger or champion}", traceparent=None)
    return Rollout(revision=revision, phase=phase, champion=champion, challenger=challenger, said=said)  # type: ignore[arg-type]


def facts(*rollouts: Rollout, **changes: Any) -> StreamFacts:
    releases = {version: candidate(version) for version in (1, 2)}
    served = dict.fromkeys(range(STREAM.partitions), 0)
    by_number = {each.revision: each for each in rollouts}
    model = ModelFacts(spec=MODEL, releases=releases, rollouts=by_number, served_from=served, **changes)
    return StreamFacts(spec=STREAM, models={"m": model})


def engine(**limits: Any) -> Engine:
    state = StreamState(clock=Clock(leap=length(STREAM.lateness)))
    reference = Reference.of(reference_document(), candidate(1), STREAM)
    return Engine(
        state=state,
        limits=Settings(**limits),
        intake=Intake(spec=STREAM),
        references={("m", version): reference for version in (1, 2)},
    )


class World:
    """Makes records; `topics` is (topic, partition) → all its records so far."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.topics: dict[tuple[str, int], list[Record]] = {}
        for name in (DATA.of("s"), LABELS.of("s"), PREDICTIONS.of("m"), SHADOW.of("m")):
            self.topics |= {(name, partition): [] for partition in range(STREAM.partitions)}
        self.made = 0

    def event(
        self,
        *,
        heat: float | None = None,
        arms: Mapping[str, int] | None = None,
        revision: int = 1,
        labelled: bool = True,
        kind: str | None = None,
        turned: bool = False,
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """One event a minute: its data, its answers by arm (`champion` serves, `shadow` shadows), and its label.

        In a world that has `turned`, what was likely is unlikely. Its stream may have `more` features.
        """
        index, rng = self.made, self.rng
        self.made += 1
        time, partition = START + timedelta(minutes=index), rng.randrange(STREAM.partitions)
        drawn = rng.gauss(0, 1)
        value = drawn if heat is None else heat
        place = {"id": f"e{index}", "entity": f"d{partition}", "time": time}
        features = {"heat": value, "kind": kind or rng.choice("ab"), **more}
        offset = self.add(DATA.of("s"), partition, place | {"features": features})
        chance = 1 / (1 + math.exp(-drawn))
        for arm, version in (arms or {}).items():
            score = float(chance if version == 1 else 0.5)
            topic = SHADOW.of("m") if arm == "shadow" else PREDICTIONS.of("m")
            answer = {
                "id": f"e{index}@m:{version}",
                "event_id": f"e{index}",
                "entity": f"d{partition}",
                "model": "m",
                "version": version,
                "arm": arm,
                "revision": revision,
                "partition": partition,
                "offset": offset,
                "score": score,
                "label": score > 0.5,
                "time": time,
            }
            self.add(topic, partition, answer)
        if labelled:
            said = {"id": f"e{index}", "entity": f"d{partition}", "time": time + timedelta(hours=1)}
            self.add(LABELS.of("s"), partition, said | {"label": (rng.random() < chance) != turned})

    def add(self, topic: str, partition: int, record: Mapping[str, Any]) -> int:
        records = self.topics[topic, partition]
        records.append((len(records), msgspec.json.encode(record)))
        return len(records) - 1

    def lanes(self, engine: Engine, order: Sequence[tuple[str, int]] | None = None) -> dict[tuple[str, int], Lane]:
        """Everything that the engine has not taken yet, read to the end; the partitions arrive in `order`."""
        lanes = {}
        for where in order or list(self.topics):
            start = engine.state.positions.get(where[0], {}).get(where[1], 0)
            lanes[where] = Lane(records=self.topics[where][start:], at_end=True)
        return lanes
