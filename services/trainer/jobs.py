"""A run, in a process of its own: read the cut, search, calibrate, export, store. `python -m services.trainer.jobs`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Candidate, Signature
from services.trainer.domain import learning
from services.trainer.domain.graphs import graph_of
from services.trainer.domain.learning import Parts, Rows, Trial
from services.trainer.domain.records import Recipe, manifest_of, reference_of
from services.trainer.domain.search import configurations
from services.trainer.provenance import Provenance, provenance
from shared import scikit
from shared.child import JobFailed, Payload, Progress, answer
from shared.dataset import Dataset, Reader, classes_of, read_dataset
from shared.matrix import signature_of
from shared.objects import Objects, digest_of
from shared.quality import metrics
from shared.runtime import Model, Scores
from shared.settings import S3Settings
from shared.tables import Tables

LARGEST_DISPARITY = 1e-3  # of a probability, or of the values' standard deviation
Report = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Produced:
    """What a run made, before it is stored anywhere."""

    signature: Signature
    onnx: bytes
    skops: bytes
    manifest: bytes
    reference: bytes
    metrics: dict[str, float]
    rows: int
    fit_seconds: float


def train(request: Payload, progress: Progress, provenance: Provenance) -> Payload:
    """The job: from a training.requested to the fields of a model.trained; artifacts go to the store."""
    started = time.monotonic()
    recipe = Recipe.of_request(TrainingRequested.model_validate(request))
    settings = S3Settings()
    produced = produce(recipe, Tables(settings), reporter(progress), provenance)
    candidate = stored(recipe, produced, Objects(settings))
    return {
        "candidate": candidate.model_dump(mode="json"),
        "fit_seconds": produced.fit_seconds,
        "run_seconds": time.monotonic() - started,
    }


def produce(
    recipe: Recipe, tables: Reader, report: Report, provenance: Provenance, *, rows_digest: str | None = None
) -> Produced:
    """Make a candidate from nothing but its recipe and the tables; `report(stage, done, total, best)` hears of it.

    Raises:
        JobFailed: the cut holds too little, or other rows than those of `rows_digest`; the spec asks for the
            impossible; ONNX and scikit-learn disagree.
    """
    spec, stream_spec = recipe.spec, recipe.stream_spec
    _refuse_if("invalid", spec.unsuitable())
    report("reading", 0, 1)
    dataset = _read(recipe, tables)
    digest = dataset.digest(stream_spec.features)
    _refuse_if(
        "altered", f"expected the rows {rows_digest}, got {digest}" if rows_digest not in {None, digest} else None
    )
    report("reading", 1, 1)
    signature = signature_of(stream_spec, spec.features, classes_of(stream_spec))
    spans = learning.spans_of(dataset, signature, stream_spec, recipe.since)
    _refuse_if("insufficient_data", learning.too_one_sided(spans[0], signature.classes))
    trials, chosen, pipeline, fit_seconds = _fitted(recipe, spans, signature, report)
    report("exporting", 0, 1)
    onnx, parts = graph_of(pipeline, signature), chosen.parts
    scores = Model(onnx, signature).score(parts.test.inputs)
    disparity = _disparity(pipeline, parts.test, scores)
    answers = scores.score if scores.probabilities is None else scores.probabilities
    quality = metrics(spec.task, parts.test.labels, answers)
    learned = dataset.part(parts.after, parts.until[-1])
    reference = reference_of(
        learned,
        stream_spec=stream_spec,
        signature=signature,
        task=spec.task,
        test=dataset.part(*parts.until[1:]),
        scores=scores,
        metrics=quality,
        window=spec.monitoring.window,
    )
    manifest = manifest_of(
        recipe,
        provenance=provenance,
        trials=trials,
        chosen=chosen,
        classes=signature.classes,
        parity=disparity,
        rows_digest=digest,
        digests={"onnx": digest_of(onnx), "reference": digest_of(reference)},
    )
    report("exporting", 1, 1)
    return Produced(
        signature=signature,
        onnx=onnx,
        skops=scikit.dumps(pipeline),
        manifest=manifest,
        reference=reference,
        metrics=quality,
        rows=len(learned),
        fit_seconds=fit_seconds,
    )


def _read(recipe: Recipe, tables: Reader) -> Dataset:
    read = read_dataset(tables, recipe.spec, recipe.stream_spec, recipe.cut, recipe.quarantined)
    dataset = learning.matured(read, recipe.stream_spec, recipe.cut.time)
    _refuse_if("insufficient_data", learning.too_few(len(dataset), recipe.spec))
    return dataset


def _fitted(
    recipe: Recipe, spans: Sequence[Parts], signature: Signature, report: Report
) -> tuple[list[Trial], Trial, Pipeline, float]:
    """Search and ship; the seconds are those spent in fits, calibration and their scores."""
    training, task, started = recipe.spec.training, recipe.spec.task, time.monotonic()
    trials: list[Trial] = []
    planned = [
        (each, parts) for each in configurations(training.estimators, training.trials, recipe.seed) for parts in spans
    ]
    report("searching", 0, len(planned))
    for configuration, parts in planned:
        trials.append(learning.attempt(configuration, parts, signature, task, recipe.seed))
        report("searching", len(trials), len(planned), learning.best_of(trials, task).score)
    chosen = learning.best_of(trials, task)
    report("calibrating", 0, 1, chosen.score)
    pipeline = learning.shipped(chosen, signature)
    report("calibrating", 1, 1, chosen.score)
    return trials, chosen, pipeline, time.monotonic() - started


def _disparity(pipeline: Pipeline, test: Rows, scores: Scores) -> float:
    """Largest difference between ONNX and scikit-learn on the test rows.

    Raises:
        JobFailed: it is more than rounding.
    """
    if scores.probabilities is not None:
        expected: NDArray[np.float64] = pipeline.predict_proba(test.inputs)
        disparity, scale = float(np.abs(scores.probabilities - expected).max()), 1.0
    else:
        expected = pipeline.predict(test.inputs)
        disparity, scale = float(np.abs(scores.score - expected).max()), float(np.std(expected)) or 1.0
    limit = LARGEST_DISPARITY * scale
    _refuse_if("invalid", f"ONNX differs from scikit-learn by {disparity:g}" if disparity > limit else None)
    return disparity


def stored(recipe: Recipe, produced: Produced, objects: Objects) -> Candidate:
    """Artifacts go to the store."""
    return Candidate(
        model=recipe.model,
        run_id=recipe.run_id,
        spec=recipe.spec,
        stream_spec=recipe.stream_spec,
        cut=recipe.cut,
        signature=produced.signature,
        onnx=objects.put_now(produced.onnx),
        skops=objects.put_now(produced.skops),
        manifest=objects.put_now(produced.manifest),
        reference=objects.put_now(produced.reference),
        metrics=produced.metrics,
        rows=produced.rows,
    )


def reporter(progress: Progress) -> Report:
    """Tell progress as events have it."""

    def report(stage: str, done: int, total: int, best_score: float | None = None) -> None:
        progress({"stage": stage, "done": done, "total": total, "best_score": best_score})

    return report


def _refuse_if(reason: str, explanation: str | None) -> None:
    if explanation:
        raise JobFailed(reason, explanation)


if __name__ == "__main__":
    found = provenance()  # now, while the sources are those that were imported: a child may wait long for its job
    answer(lambda request, progress: train(request, progress, found))
