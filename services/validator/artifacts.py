"""Artifacts as serving would load them: from S3 by digest, and nothing trusted that is not on a list of ours."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from schemas.events.parts import Artifact, Candidate, Span
from services.validator.domain.evidence import Predict
from shared import scikit
from shared.errors import Refusal
from shared.matrix import Inputs
from shared.objects import Missing, Objects, Tampered
from shared.quality import Floats
from shared.runtime import Model


class Unusable(Refusal):
    """An artifact is not there, is not what it claims, or may not be loaded."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The last times of the parts of a run's rows; the candidate has not seen what came after `calibrate_until`.

    It was made from the last `learned_rows` up to then.
    """

    train_until: datetime
    calibrate_until: datetime
    test_until: datetime
    learned_rows: int


@dataclass(kw_only=True)
class Loaded:
    """What could be loaded of a candidate, and in words what could not."""

    predict: Predict | None = None
    size_bytes: int = 0
    scikit_learn: Predict | None = None
    split: Split | None = None
    quarantined: tuple[Span, ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Any] = field(default_factory=dict)
    safety: list[str] = field(default_factory=list)


def load(objects: Objects, candidate: Candidate) -> Loaded:
    """Everything of a candidate.

    Raises:
        Fault: S3 failed, which says nothing about the candidate.
    """
    loaded = Loaded(size_bytes=candidate.onnx.size_bytes)

    def attempt(what: str, artifact: Artifact, use: Callable[[bytes], None]) -> None:
        try:
            use(fetch(objects, artifact))
        except Unusable as error:
            loaded.safety.append(f"{what}: {error}")

    def use_onnx(data: bytes) -> None:
        loaded.size_bytes = len(data)
        loaded.predict = onnx_predict(data, candidate)

    def use_skops(data: bytes) -> None:
        loaded.scikit_learn = skops_predict(data, classify=bool(candidate.signature.classes))

    def use_manifest(data: bytes) -> None:
        loaded.split, loaded.quarantined = read_manifest(data, candidate)
        loaded.manifest = json.loads(data)

    def use_reference(data: bytes) -> None:
        check_reference(data, candidate)
        loaded.reference = json.loads(data)

    attempt("onnx", candidate.onnx, use_onnx)
    attempt("skops", candidate.skops, use_skops)
    attempt("manifest", candidate.manifest, use_manifest)
    attempt("reference", candidate.reference, use_reference)
    return loaded


def fetch(objects: Objects, artifact: Artifact) -> bytes:
    """Bytes with the digest that the event names.

    Raises:
        Unusable: there are none, or others.
        Fault: S3 failed.
    """
    try:
        data = objects.get_now(artifact.digest)
    except (Missing, Tampered) as error:
        raise Unusable(str(error)) from error
    if len(data) != artifact.size_bytes:
        raise Unusable(f"expected {artifact.size_bytes} bytes, got {len(data)}")
    return data


def onnx_predict(data: bytes, candidate: Candidate) -> Predict:
    """ONNX Runtime as scorers use it.

    Raises:
        Unusable: it may not or cannot be loaded.
    """
    try:
        model = Model(data, candidate.signature)
    except Refusal as error:
        raise Unusable(str(error)) from error

    def predict(inputs: Inputs) -> Floats:
        scores = model.score(inputs)
        return scores.score if scores.probabilities is None else scores.probabilities

    return predict


def skops_predict(data: bytes, *, classify: bool) -> Predict:
    """The scikit-learn form, loaded without unpickling.

    Raises:
        Unusable: it holds types that are not on the list, or no estimator.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another scikit-learn wrote it: parity tells whether that matters
            estimator = scikit.loads(data)
    except Exception as error:  # untrusted types, broken zip, unknown schema: skops raises whatever it meets
        raise Unusable(str(error)) from error
    if not isinstance(estimator, BaseEstimator):
        raise Unusable(f"expected a scikit-learn estimator, got {type(estimator).__name__}")
    answer = getattr(estimator, "predict_proba" if classify else "predict", None)
    if answer is None:
        raise Unusable(f"{type(estimator).__name__} cannot {'classify' if classify else 'predict'}")
    return lambda inputs: np.asarray(answer(inputs), dtype=np.float64)


def read_manifest(data: bytes, candidate: Candidate) -> tuple[Split, tuple[Span, ...]]:
    """The split of the run's rows and the spans it left out.

    Raises:
        Unusable: not a manifest, or one of another run, cut or artifact.
    """
    try:
        manifest = json.loads(data)
        split = _split(manifest["split"])
        quarantined = tuple(Span.model_validate(span) for span in manifest["quarantined"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(f"expected split times and quarantined spans: {error!r}") from error
    expected = {
        "model": candidate.model,
        "run_id": candidate.run_id,
        "cut": candidate.cut.model_dump(mode="json"),
        "spec": candidate.spec.model_dump(mode="json"),
        "stream_spec": candidate.stream_spec.model_dump(mode="json"),
        "digests": {"onnx": candidate.onnx.digest, "reference": candidate.reference.digest},
    }
    if other := sorted(name for name, value in expected.items() if manifest.get(name) != value):
        raise Unusable(f"expected the {', '.join(other)} of the candidate, got others")
    if not split.train_until <= split.calibrate_until < split.test_until <= candidate.cut.time:
        raise Unusable(f"expected rising split times up to the cut, got {split}")
    return split, quarantined


def _split(said: dict[str, Any]) -> Split:
    times = {name: datetime.fromisoformat(said[name]) for name in ("train_until", "calibrate_until", "test_until")}
    return Split(**times, learned_rows=int(said["rows"]["train"]) + int(said["rows"]["calibrate"]))


def check_reference(data: bytes, candidate: Candidate) -> None:
    """The bins that drift is measured with.

    Raises:
        Unusable: not a reference of every feature and the score.
    """
    try:
        reference: dict[str, Any] = json.loads(data)
        missing = {feature.name for feature in candidate.signature.features} - reference["features"].keys()
        binned = len(reference["score"]["counts"]) == len(reference["score"]["edges"]) + 1
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(f"expected bins of features and score: {error!r}") from error
    if missing or not binned:
        raise Unusable(f"expected bins of every feature and of the score, {sorted(missing) or 'the score'} lacks them")
