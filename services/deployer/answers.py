"""What a version says about a batch, in the terms of its task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas.specs import ModelSpec
from shared.runtime import Scores

Label = bool | str | None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Plain Python lists, one entry a record; a score of None is no answer. `propensities` where a stream explores."""

    version: int
    scores: Sequence[float | None]
    labels: Sequence[Label]
    probabilities: Sequence[dict[str, float] | None]
    propensities: Sequence[float] | None = None


def threshold_of(spec: ModelSpec) -> float:
    """The probability from which the answer is `true`."""
    return 0.5 if spec.costs is None else spec.costs.threshold


def answers_of(version: int, spec: ModelSpec, classes: Sequence[str], scores: Scores) -> Answers:
    """Scores (n,) → answers (n,): true from the threshold of the costs on, the likeliest class, or the value alone.

    A record is not answered where a number is not finite: no label or score can be made of it.
    """
    answers = _answers_of(version, spec, classes, scores)
    said = scores.score if scores.probabilities is None else scores.probabilities
    finite = np.isfinite(said)
    if finite.all():
        return answers
    if scores.probabilities is not None:
        finite = np.all(finite, axis=1)
    return replace(
        answers, scores=[score if sound else None for score, sound in zip(answers.scores, finite, strict=True)]
    )


def _answers_of(version: int, spec: ModelSpec, classes: Sequence[str], scores: Scores) -> Answers:
    count = len(scores.score)
    if spec.task == "binary":
        labels = (scores.score >= threshold_of(spec)).tolist()
        return Answers(version=version, scores=scores.score.tolist(), labels=labels, probabilities=[None] * count)
    if spec.task == "regression" or scores.probabilities is None:
        return Answers(
            version=version, scores=scores.score.tolist(), labels=[None] * count, probabilities=[None] * count
        )
    best = scores.probabilities.argmax(axis=1).tolist()
    return Answers(
        version=version,
        scores=scores.probabilities.max(axis=1).tolist(),
        labels=[classes[index] for index in best],
        probabilities=[dict(zip(classes, row, strict=True)) for row in scores.probabilities.tolist()],
    )
