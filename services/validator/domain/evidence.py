"""All that the gates may look at: arrays over the held-out rows, and the candidate as a function of inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schemas.events.parts import Signature
from schemas.specs import ModelSpec, StreamSpec, Task
from services.validator.domain import bootstrap
from shared.matrix import Inputs
from shared.quality import Floats, metrics

Predict = Callable[[Inputs], Floats]  # (n, features) → probabilities (n, classes), or values (n,)


@dataclass(frozen=True, kw_only=True)
class Group:
    """One feature that slices the n rows: `codes` (n,) index into `values`, NaN where it is missing."""

    feature: str
    values: tuple[str, ...]
    codes: Floats
    slice: bool
    sensitive: bool

    def members(self) -> Mapping[str, NDArray[np.bool_]]:
        """The rows of each value, missing as a value of its own."""
        rows = {value: self.codes == code for code, value in enumerate(self.values)}
        return rows | {"(missing)": np.isnan(self.codes)}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The rows that the candidate was made from: `truth` (n,), `inputs` (n, features) float32, and their groups."""

    truth: Floats
    inputs: Inputs
    groups: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The candidate, loaded, and its held-out rows.

    `truth` (n,) are class indices or values; `inputs` (n, features) float32; `champion` and `scikit_learn` are answers
    to the same rows, in the shape that `predict` gives, or None with the reason in words.
    """

    truth: Floats
    inputs: Inputs
    groups: tuple[Group, ...]
    predict: Predict
    champion: Floats | None
    champion_note: str
    scikit_learn: Floats | None
    scikit_learn_note: str
    latencies_ms: Floats

    @cached_property
    def answers(self) -> Floats:
        return self.predict(self.inputs)

    def flaw(self, classes: int) -> str | None:
        """Why the answers cannot be compared with the truth, if they cannot."""
        expected = (len(self.truth), classes) if classes else (len(self.truth),)
        if self.answers.shape != expected:
            return f"expected answers of shape {expected}, got {self.answers.shape}"
        odd = int((~np.isfinite(self.answers)).sum())
        return f"expected finite answers, got {odd} that are not" if odd else None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """`scored` is None when the candidate could not be loaded; then `safety` or `misfits` say why."""

    spec: ModelSpec
    stream_spec: StreamSpec
    signature: Signature
    seed: int
    size_bytes: int
    scored: Scored | None
    learned: Learned | None = None
    safety: tuple[str, ...] = ()
    misfits: tuple[str, ...] = field(default=())

    @property
    def task(self) -> Task:
        return self.spec.task

    @property
    def rows(self) -> Scored:
        """What was scored; gates that need it are asked only when it is there."""
        assert self.scored is not None
        return self.scored

    @cached_property
    def metrics(self) -> dict[str, float]:
        return metrics(self.task, self.rows.truth, self.rows.answers)

    @cached_property
    def said(self) -> bootstrap.Codes:
        """The class that is answered for each row, (n,): true from the costs' threshold on, as scorers say it."""
        costs = self.spec.costs
        return bootstrap.answered(self.rows.answers, costs.threshold if costs else 0.5)

    @cached_property
    def weights(self) -> Floats:
        """Bootstrap weights, (draws, n): how often each row was drawn. The same for all gates, so that they pair."""
        return bootstrap.weights(len(self.rows.truth), self.seed)

    def replicates(self, metric: str) -> Floats:
        """A metric of the answers under each row of weights, (draws,)."""
        if metric not in self._replicates:
            rows = self.rows
            self._replicates[metric] = bootstrap.replicates(metric, self.task, rows.truth, rows.answers, self.weights)
        return self._replicates[metric]

    @cached_property
    def _replicates(self) -> dict[str, Floats]:
        return {}
