"""What is written down of a run: the recipe that it can be made from again, its manifest and its reference."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Cut, Signature, Span, Time
from schemas.specs import ModelSpec, Part, StreamSpec
from services.trainer.domain.expectations import additive, calibration_of, losses
from services.trainer.domain.learning import SHARES, Trial
from shared.dataset import Dataset
from shared.reference import binned, feature_reference, with_blocks
from shared.runtime import Scores


class Recipe(Part):
    """All that a run depends on beside code and libraries: equal recipes give equal ONNX bytes."""

    model: str
    run_id: str
    spec: ModelSpec
    stream_spec: StreamSpec
    cut: Cut
    quarantined: tuple[Span, ...] = ()
    since: Time | None = None
    seed: int

    @classmethod
    def of_request(cls, event: TrainingRequested) -> Self:
        """The recipe of a requested run."""
        asked = event.model_dump(include={"model", "run_id", "spec", "stream_spec", "cut", "quarantined", "since"})
        return cls.model_validate(asked | {"seed": event.spec.training.seed})

    @classmethod
    def of_manifest(cls, data: bytes) -> Self:
        """The recipe inside a manifest."""
        return cls.model_validate_json(data, extra="ignore")


def canonical(document: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces, so that equal documents have equal digests.

    >>> canonical({"b": 1, "a": [0.5]})
    b'{"a":[0.5],"b":1}'
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def manifest_of(
    recipe: Recipe,
    *,
    provenance: Mapping[str, Any],
    trials: Sequence[Trial],
    chosen: Trial,
    classes: Sequence[str],
    parity: float,
    rows_digest: str,
    digests: Mapping[str, str],
) -> bytes:
    """The manifest: the recipe's own fields, where it was made from what, and what came of it."""
    names, parts = ("train", "calibrate", "test"), chosen.parts
    rows = (parts.train, parts.calibrate, parts.test)
    split = {
        "shares": list(SHARES),
        "rows": {name: len(part) for name, part in zip(names, rows, strict=True)},
        **{f"{name}_until": until.isoformat() for name, until in zip(names, parts.until, strict=True)},
    }
    return canonical(
        recipe.model_dump(mode="json")
        | dict(provenance)
        | {
            "split": split,
            "trials": [_described(trial) for trial in trials],
            "chosen": _described(chosen),
            "classes": list(classes),
            "parity": parity,
            "rows_digest": rows_digest,
            "digests": dict(digests),
        }
    )


def _described(trial: Trial) -> dict[str, Any]:
    configuration = trial.configuration
    said = {"estimator": configuration.estimator, "parameters": dict(configuration.parameters)}
    return said | {"rows": len(trial.parts.train), "score": trial.score, "loss": trial.loss}


def reference_of(
    dataset: Dataset,
    *,
    stream_spec: StreamSpec,
    signature: Signature,
    task: str,
    test: Dataset,
    scores: Scores,
    metrics: Mapping[str, float],
    window: int,
) -> bytes:
    """What normal looks like to a version.

    Features and labels of all rows of the run, as the decoder makes them (float64, before the version's float32);
    scores and metrics of the test rows, as those of rows a model has learned by heart are not what serving will see;
    of these rows too what quality is to be expected without labels.
    `window`: the rows of a monitored window, as long as which the blocks are.
    """
    columns = dict(zip(stream_spec.features, dataset.matrix.T, strict=True))
    features = {
        name: with_blocks(feature_reference(stream_spec.features[name], columns[name]), columns[name], window)
        for name in (column.name for column in signature.features)
    }
    document = {
        "features": features,
        "score": with_blocks(binned(scores.score), scores.score, window),
        "label": _labels(dataset.labels, signature.classes),
        "rows": len(dataset),
        "test_rows": len(test),
        "metrics": dict(metrics),
    }
    test_columns = {name: test.matrix[:, place] for place, name in enumerate(stream_spec.features) if name in features}
    return canonical(document | {"expected": _expected(document, task, test.labels, test_columns, scores)})


def _expected(
    document: Mapping[str, Any],
    task: str,
    labels: NDArray[np.float64],
    columns: Mapping[str, NDArray[np.float64]],
    scores: Scores,
) -> dict[str, Any]:
    parts = dict(document["features"])
    outputs = scores.score[:, None]
    if task == "regression":
        parts, columns = parts | {"score": document["score"]}, {**columns, "score": scores.score}
        calibration = []
    else:
        outputs = outputs if task == "binary" or scores.probabilities is None else scores.probabilities
        calibration = calibration_of(labels.astype(np.intp), outputs)
    values = [columns[name] for name in parts]
    found = {name: additive(loss, parts, values) for name, loss in losses(task, labels, outputs).items()}
    return {"calibration": calibration, "losses": found}


def _labels(labels: NDArray[np.float64], classes: Sequence[str]) -> dict[str, Any]:
    if not classes:
        return {"mean": float(labels.mean()), "std": float(labels.std())}
    counts = np.bincount(labels.astype(np.intp), minlength=len(classes)).tolist()
    return {"counts": dict(zip(classes, counts, strict=True))}
