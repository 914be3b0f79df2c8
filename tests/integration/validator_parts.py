"""A stream with learnable rows in real tables, and the candidates that the trainer makes of them."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Candidate, Cut, Release
from schemas.events.trainer import ModelTrained
from schemas.specs import ModelSpec, StreamSpec
from services.trainer.jobs import train
from services.trainer.provenance import provenance
from shared.objects import Objects
from shared.settings import S3Settings
from shared.tables import Tables, append, schema_of

START = datetime(2013, 1, 1, tzinfo=UTC)
GATES: dict[str, Any] = {
    "roc_auc": {"min": 0.7, "not_worse_than_champion": 0.01},
    "calibration_error": {"max": 0.08},
    "slices": {"max_gap": 0.15},
    "fairness": {"equalized_odds": 0.5},
    "robustness": {"noise": 0.02, "missing": 0.05, "max_drop": 0.1},
    "latency_p99_ms": 50,
    "size_mb": 50,
}


def stream_spec(**more: Any) -> StreamSpec:
    features = {
        "x": {"type": "float"},
        "noise": {"type": "float"},
        "kind": {"type": "category", "values": ["a", "b", "c"], "slice": True, "sensitive": True},
        "flag": {"type": "bool"},
    } | more
    return StreamSpec.model_validate(
        {"stream": f"s{uuid.uuid4().hex[:10]}", "entity": "e", "features": features,
         "label": {"type": "bool", "delay": "1h"}}
    )  # fmt: skip


def model_spec(stream: StreamSpec, *features: str, gates: dict[str, Any] | None = None) -> ModelSpec:
    training = {"window": "60d", "min_rows": 1000, "estimators": ["hist_gradient_boosting"], "trials": 1, "seed": 7}
    return ModelSpec.model_validate(
        {"model": f"m{uuid.uuid4().hex[:10]}", "stream": stream.stream, "owner": "o", "task": "binary",
         "features": features or list(stream.features), "training": training, "gates": gates or GATES}
    )  # fmt: skip


def fill(tables: Tables, stream: StreamSpec, rows: int) -> Cut:
    """One event a minute, its label half an hour later; returns the cut that sees them all."""
    random = np.random.default_rng(5)
    x, kind = random.normal(size=rows), random.integers(0, 3, rows)
    late = random.random(rows) < 1 / (1 + np.exp(-2 * x - (kind == 1)))
    columns = {
        "x": x,
        "noise": random.normal(size=rows),
        "kind": ["abc"[code] for code in kind],
        "flag": random.random(rows) < 0.5,
    }
    return write(tables, stream, columns, late)


def write(tables: Tables, stream: StreamSpec, columns: Mapping[str, Any], label: Any) -> Cut:
    """Rows a minute apart, their labels half an hour later."""
    rows = len(label)
    times = [START + timedelta(minutes=minute) for minute in range(rows)]
    place = {
        "id": [f"{stream.stream}-{number}" for number in range(rows)],
        "entity": ["n1"] * rows,
        "partition": [0] * rows,
        "offset": list(range(rows)),
    }
    features = {f"f_{name}": column for name, column in columns.items()}
    data = place | {"time": times, "flags": [[]] * rows} | features
    labels = place | {"time": [time + timedelta(minutes=30) for time in times], "label": label}
    versions = {}
    for kind_of_table, written in (("data", data), ("labels", labels)):
        schema = schema_of(kind_of_table, stream)  # type: ignore[arg-type]  # of the two literals
        table = tables.ensure(kind_of_table, stream.stream, schema)  # type: ignore[arg-type]
        append(table, pa.table(written, schema=schema), {f"{kind_of_table}/0": rows}, {})
        versions[kind_of_table] = table.version()
    return Cut(
        time=START + timedelta(minutes=rows + 120),
        data_version=versions["data"],
        labels_version=versions["labels"],
        data_offsets={0: rows},
        labels_offsets={0: rows},
    )


def trained(spec: ModelSpec, stream: StreamSpec, cut: Cut) -> Candidate:
    """What the trainer makes of the cut."""
    request = TrainingRequested(
        model=spec.model, run_id=f"run-{uuid.uuid4()}", reason="first", explanation="", spec=spec, stream_spec=stream,
        cut=cut,
    )  # fmt: skip
    with threadpool_limits(1):  # as in the trainer's child
        return Candidate.model_validate(
            train(request.model_dump(mode="json"), lambda _: None, provenance())["candidate"]
        )


def another_run(candidate: Candidate) -> Candidate:
    """The same artifacts under a run of their own, with a manifest that fits."""
    return resealed(candidate.model_copy(update={"run_id": f"run-{uuid.uuid4()}"}))


def resealed(candidate: Candidate) -> Candidate:
    """With a manifest that names the candidate's run, spec and artifacts, whatever they are."""
    objects = store()
    manifest = json.loads(objects.get_now(candidate.manifest.digest))
    manifest |= {
        "run_id": candidate.run_id,
        "spec": candidate.spec.model_dump(mode="json"),
        "digests": {"onnx": candidate.onnx.digest, "reference": candidate.reference.digest},
    }
    return candidate.model_copy(update={"manifest": objects.put_now(json.dumps(manifest).encode())})


def store() -> Objects:
    return Objects(S3Settings())  # type: ignore[call-arg]  # from the environment


def trained_event(candidate: Candidate) -> ModelTrained:
    return ModelTrained(
        model=candidate.model, run_id=candidate.run_id, candidate=candidate, fit_seconds=1.0, run_seconds=2.0
    )


def heard(event: Event, id: str = "the-cause", correlation_id: str = "the-lifecycle") -> Envelope:
    return Envelope(
        id=id,
        source="modelbus/trainer",
        time=START,
        correlation_id=correlation_id,
        causation_id=None,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        event=event,
    )


def release(candidate: Candidate, version: int = 1) -> Release:
    return Release(version=version, candidate=candidate)
