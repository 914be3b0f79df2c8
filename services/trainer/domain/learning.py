"""How a run learns: split by time, try configurations, calibrate, and ship what the held-out rows can judge.

The rows are cut by time into train, calibrate and test. Configurations are fitted on train and compared on calibrate.
The chosen one is fitted again on both, newest rows included, under the calibration learned before. The test rows stay
unseen by what is shipped: the metrics told of a version, and the gates it passes later, are of its very bytes.

Where the world is thought to have changed, it is the rows since then that are cut, and configurations are fitted on
their train part alone and on it with all that came before. Which of the two is worth more, clean rows or many, nobody
knows beforehand: the same newest rows decide, by a loss, because a ranking may outlive a change of what it means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from schemas.events.parts import Signature
from schemas.specs import ModelSpec, StreamSpec, Task
from services.trainer.domain.calibration import calibrated
from services.trainer.domain.pipelines import MODEL, floor_thresholds, pipeline_of
from services.trainer.domain.search import Configuration
from shared.dataset import Dataset, time_split
from shared.matrix import Inputs, Projection
from shared.quality import main_metric, metrics

SHARES = (0.70, 0.15, 0.15)
LEAST_ROWS = 100
LEAST_ROWS_OF_A_CLASS = 5  # in each part: calibration needs five, metrics need one


@dataclass(frozen=True, kw_only=True)
class Rows:
    """n rows as a version sees them: inputs float32 (n, features); labels (n,), class indices or values."""

    inputs: Inputs
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.labels)

    def present(self) -> list[int]:
        """The columns that have a value in some row."""
        return [int(column) for column in np.flatnonzero(~np.isnan(self.inputs).all(axis=0))]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Three stretches of time, one after the other; `until` is the last time of each; no row is as old as `after`."""

    train: Rows
    calibrate: Rows
    test: Rows
    until: tuple[datetime, ...]
    after: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A configuration fitted on train, its main metric and its loss on calibrate (uncalibrated), and the parts."""

    configuration: Configuration
    fitted: Pipeline
    score: float
    loss: float
    parts: Parts


def matured(dataset: Dataset, stream_spec: StreamSpec, cut_time: datetime) -> Dataset:
    """The rows whose labels must have arrived by the cut.

    Of younger rows only the quick answers are known, and those are not like the others.
    """
    return dataset.part(None, cut_time - stream_spec.label.delay)


def spans_of(dataset: Dataset, signature: Signature, stream_spec: StreamSpec, since: datetime | None) -> list[Parts]:
    """The parts of a dataset of at least one row; with `since`, those of the rows after it, then with all for train.

    Too few rows after it, or too few of a class, are no reason to forget the others.
    """
    until = time_split(dataset.times, SHARES)
    whole = parts_of(dataset, signature, stream_spec, until)
    newer = dataset.part(since, until[-1])
    if since is None or not LEAST_ROWS <= len(newer) < len(dataset):
        return [whole]
    until = time_split(newer.times, SHARES)
    spans = [parts_of(dataset, signature, stream_spec, until, after) for after in (since, None)]
    return [whole] if too_one_sided(spans[0], signature.classes) else spans


def parts_of(
    dataset: Dataset,
    signature: Signature,
    stream_spec: StreamSpec,
    until: tuple[datetime, ...],
    after: datetime | None = None,
) -> Parts:
    """Cut a dataset at these times, the first part from `after` on."""
    projection = Projection(signature, stream_spec)

    def rows(after: datetime | None, last: datetime) -> Rows:
        part = dataset.part(after, last)
        labels = part.labels.astype(np.intp) if signature.classes else part.labels
        return Rows(inputs=projection(part.matrix), labels=labels)

    first, second, third = until
    train, calibrate, test = rows(after, first), rows(first, second), rows(second, third)
    return Parts(train=train, calibrate=calibrate, test=test, until=until, after=after)


def too_few(rows: int, spec: ModelSpec) -> str | None:
    """Why a run must not learn from so few rows; None when it may.

    The monitor counts rows as they are served, the tables hold them as they are accepted: half is not too few.
    """
    least = max(LEAST_ROWS, spec.training.min_rows // 2)
    window = timedelta(seconds=round(spec.training.window.total_seconds()))
    return None if rows >= least else f"expected {least} labelled rows in a window of {window}, got {rows}"


def too_one_sided(parts: Parts, classes: Sequence[str]) -> str | None:
    """Which class is too rare in which part, or that no feature has a value; None when there is enough of all."""
    if not parts.train.present():
        return "expected features with values, got missing values only"
    for name, rows in (("train", parts.train), ("calibrate", parts.calibrate), ("test", parts.test)):
        counts = np.bincount(rows.labels, minlength=len(classes)) if classes else np.array([len(rows)])
        for label, count in zip(classes or ("rows",), counts, strict=True):
            if count < LEAST_ROWS_OF_A_CLASS:
                return f"expected {LEAST_ROWS_OF_A_CLASS} rows of {label!r} in the {name} part, got {count}"
    return None


def attempt(configuration: Configuration, parts: Parts, signature: Signature, task: Task, seed: int) -> Trial:
    """Fit on train, score on calibrate."""
    pipeline = pipeline_of(configuration, signature, parts.train.present(), seed)
    inputs = parts.calibrate.inputs
    with one_thread():
        fitted = pipeline.fit(parts.train.inputs, parts.train.labels)
        answers = fitted.predict_proba(inputs) if signature.classes else fitted.predict(inputs)
    found = metrics(task, parts.calibrate.labels, answers)
    score, loss = found[main_metric(task)[0]], found["log_loss" if signature.classes else "rmse"]
    return Trial(configuration=configuration, fitted=fitted, score=score, loss=loss, parts=parts)


def best_of(trials: Sequence[Trial], task: Task) -> Trial:
    """The best score of each span, and of these the least loss; of equal ones the first."""
    sign = 1 if main_metric(task)[1] else -1
    spans: dict[datetime | None, list[Trial]] = {}
    for trial in trials:
        spans.setdefault(trial.parts.after, []).append(trial)
    best = [max(each, key=lambda trial: sign * trial.score) for each in spans.values()]
    return min(best, key=lambda trial: trial.loss)


def shipped(trial: Trial, signature: Signature) -> Pipeline:
    """The configuration of `trial` fitted on train and calibrate, calibrated; it has not seen test."""
    parts = trial.parts
    inputs = np.concatenate([parts.train.inputs, parts.calibrate.inputs])
    labels = np.concatenate([parts.train.labels, parts.calibrate.labels])
    with one_thread():
        refitted = clone(trial.fitted).fit(inputs, labels)
        floor_thresholds(refitted[MODEL])
        if not signature.classes:
            return refitted
        return calibrated(trial.fitted, refitted, parts.calibrate.inputs, parts.calibrate.labels)


def one_thread() -> threadpool_limits:
    """The order of sums, and so the last bits of a model, must not depend on the machine's cores."""
    return threadpool_limits(limits=1)
