"""Small streams, specs and rows that trainer tests learn from."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from schemas.events.parts import Cut, Signature
from schemas.specs import ModelSpec, StreamSpec
from shared.dataset import Dataset, classes_of
from shared.matrix import signature_of

START = datetime(2013, 1, 1, tzinfo=UTC)
LABELS: dict[str, dict[str, Any]] = {
    "binary": {"type": "bool"},
    "multiclass": {"type": "category", "values": ["low", "middle", "high"]},
    "regression": {"type": "float"},
}


def stream_for(task: str) -> StreamSpec:
    """A number that says most, one that is always missing, a category and a bool."""
    features = {
        "x": {"type": "float"},
        "empty": {"type": "float"},
        "kind": {"type": "category", "values": ["a", "b", "c"]},
        "flag": {"type": "bool"},
    }
    label = LABELS[task] | {"delay": "1h"}
    return StreamSpec.model_validate({"stream": "s", "entity": "e", "features": features, "label": label})


def model_for(task: str, estimators: Sequence[str] = ("hist_gradient_boosting",), **training: Any) -> ModelSpec:
    declared = {"window": "60d", "min_rows": 200, "estimators": list(estimators), "trials": 2, "seed": 7} | training
    features = ["x", "empty", "kind", "flag"]
    return ModelSpec.model_validate(
        {"model": "m", "stream": "s", "owner": "o", "task": task, "features": features, "training": declared}
    )


def signature_for(task: str) -> Signature:
    stream = stream_for(task)
    return signature_of(stream, model_for(task).features, classes_of(stream))


def rows_for(task: str, rows: int = 900, seed: int = 0) -> Dataset:
    """One row a minute; a fifth of `x` and `kind` is missing."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    kind = random.integers(0, 3, rows).astype(np.float64)
    value = 2 * x + kind + random.normal(size=rows) / 2
    codes = {"binary": value > 1, "multiclass": np.digitize(value, [0, 2]), "regression": value}[task]
    matrix = np.column_stack([x, np.full(rows, np.nan), kind, random.integers(0, 2, rows)])
    matrix[random.random(rows) < 0.2, 0] = np.nan
    matrix[random.random(rows) < 0.2, 2] = np.nan
    return Dataset(
        matrix=matrix,
        labels=np.asarray(codes, dtype=np.float64),
        times=np.datetime64(START.replace(tzinfo=None), "us") + np.arange(rows) * np.timedelta64(60_000_000, "us"),
        ids=[str(number) for number in range(rows)],
        entities=["e"] * rows,
    )


def cut_at(time: datetime = START + timedelta(days=30), *, data: int = 1, labels: int = 1) -> Cut:
    everything = {0: 10**9, 1: 10**9}
    return Cut(time=time, data_version=data, labels_version=labels, data_offsets=everything, labels_offsets=everything)
