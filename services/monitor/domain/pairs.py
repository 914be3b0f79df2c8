"""The evidence about a challenger: losses of both arms on the same events, challenger minus champion."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from msgspec import Struct, field

from schemas.events.monitor import ArmMeasured, ExpectedPairs, FeatureDrift, Pairs, RolloutMeasured
from schemas.specs import Rollout as Policy
from schemas.specs import Task
from services.monitor.domain.clock import moment
from services.monitor.domain.entries import Score, Settled
from services.monitor.domain.facts import Rollout
from services.monitor.domain.groups import Floats, Grouped, Whole, onto
from shared.quality import metrics

Arm = Literal["champion", "challenger"]
NO_METRICS: Mapping[Arm, dict[str, float]] = MappingProxyType({})
NO_SCORES: Mapping[int, FeatureDrift] = MappingProxyType({})
_KEPT = 5_000  # newest pairs that the arms' metrics are computed from
_GROWTH = 0.05
_LEAST_GROWTH = 20
MILESTONES = (100, 500)  # matured pairs at which the deployer may begin to decide


def losses(task: Task, labels: Floats, outputs: Floats) -> Floats:
    """Of rows (n,) and (n, outputs): Brier score (of many classes half the squared distance), or squared error.

    >>> losses("binary", np.array([1.0]), np.array([[0.75]])), losses("regression", np.array([3.0]), np.array([[1.0]]))
    (array([0.0625]), array([4.]))
    >>> losses("multiclass", np.array([2.0]), np.array([[0.0, 0.5, 0.5]]))
    array([0.25])
    """
    if task == "multiclass":
        missed = outputs - (labels[:, None] == np.arange(outputs.shape[1]))
        return np.asarray((missed * missed).sum(axis=1) / 2)
    missed = outputs[:, 0] - labels
    return np.asarray(missed * missed)


class Sums(Struct):
    """Of paired loss differences, and of their groups."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    groups: Grouped = field(default_factory=Grouped)

    def add(self, differences: Floats, buckets: Whole, times: Whole) -> None:
        """Differences (n,), their entities' buckets and their event times."""
        self.n += len(differences)
        self.total = onto(self.total, differences)
        self.squares = onto(self.squares, differences * differences)
        self.groups.add(buckets, times, differences)

    def said(self) -> Pairs:
        return Pairs(n=self.n, total=self.total, total_squares=self.squares, groups=self.groups.said())


class Told(Struct, frozen=True):
    """What was last said."""

    revision: int = 0
    pairs: int = 0
    pairs_of_revision: int = 0
    paired_scores: int = 0


class Evidence(Struct, kw_only=True):
    """One rollout's, from its first revision on. Arrays hold the newest pairs: (n,) labels, (n, outputs) of an arm."""

    champion: int
    challenger: int
    pairs: Sums = field(default_factory=Sums)
    of_revision: dict[int, Sums] = field(default_factory=dict)
    expected: Sums = field(default_factory=Sums)  # of losses that are expected without labels
    paired_scores: int = 0
    scored: dict[int, int] = field(default_factory=dict)  # by version
    scores: dict[int, Whole] = field(default_factory=dict)  # counts over the bins of the version's own reference
    labels: Floats = field(default_factory=lambda: np.empty(0))
    outputs: dict[int, Floats] = field(default_factory=dict)
    told: Told = Told()
    since: int | None = None  # the clock when it began: what is dated before, is taken as of then

    def score(self, version: int, events: int, counts: Whole | None) -> None:
        """An arm scored events; their scores counted over its own frozen bins (bins,), where it has a reference."""
        self.scored[version] = self.scored.get(version, 0) + events
        if counts is not None:
            held = self.scores.get(version)
            self.scores[version] = counts if held is None else held + counts

    def expect(self, differences: Floats, buckets: Whole, times: Whole, now: int | None) -> None:
        """Events (n,) by what both arms are expected to lose; none is dated beyond `now`."""
        times = self._dated(times)
        self.expected.add(differences, buckets, times if now is None else np.minimum(times, now))

    def _dated(self, times: Whole) -> Whole:
        return times if self.since is None else np.maximum(times, self.since)

    def settle(self, task: Task, pairs: Sequence[Settled]) -> None:
        """Matured events with both scores, in canonical order."""
        if not pairs:
            return
        labels = np.array([pair.label for pair in pairs])
        outputs = {version: _outputs(pairs, version) for version in (self.champion, self.challenger)}
        champion, challenger = (losses(task, labels, each) for each in outputs.values())
        revisions, buckets = np.array([pair.served.revision for pair in pairs]), _buckets(pairs)
        times = self._dated(np.array([pair.time for pair in pairs], dtype=np.int64))
        self.pairs.add(challenger - champion, buckets, times)
        for revision in np.unique(revisions).tolist():
            mine = revisions == revision
            of = self.of_revision.setdefault(revision, Sums())
            of.add((challenger - champion)[mine], buckets[mine], times[mine])
        self.labels = np.append(self.labels, labels)[-_KEPT:]
        for version, added in outputs.items():
            held = self.outputs.get(version, added[:0])
            self.outputs[version] = np.concatenate([widened(held, added.shape[1]), added])[-_KEPT:]

    def news(self, rollout: Rollout, policy: Policy) -> bool:
        """Whether the numbers have grown enough to say them again: by 5 %, or over what a decision waits for."""
        now, told = self._now(rollout.revision), self.told
        if told.revision != now.revision:
            told = Told(now.revision, told.pairs, 0, told.paired_scores)
        if _crossed(told.paired_scores, now.paired_scores, (policy.shadow,)):
            return True
        if _crossed(told.pairs_of_revision, now.pairs_of_revision, MILESTONES):
            return True
        if _crossed(told.pairs, now.pairs, (*MILESTONES, policy.max_labels)):
            return True
        grown = (
            (told.pairs, now.pairs),
            (told.pairs_of_revision, now.pairs_of_revision),
            (told.paired_scores, now.paired_scores),
        )
        return any(after - before >= max(_LEAST_GROWTH, _GROWTH * before) for before, after in grown)

    def tell(
        self,
        rollout: Rollout,
        model: str,
        clock: int,
        *,
        measured: Mapping[Arm, dict[str, float]] = NO_METRICS,
        scores: Mapping[int, FeatureDrift] = NO_SCORES,
        doubted: bool = False,
    ) -> RolloutMeasured:
        """The numbers as they are; remembers that they were said.

        Beside them each arm's metrics as `measured`, how far each version's `scores` lie from its own reference, and
        whether what is expected of the champion is `doubted`.
        """
        self.told = self._now(rollout.revision)
        return RolloutMeasured(
            model=model,
            revision=rollout.revision,
            champion=self.champion,
            challenger=self.challenger,
            measured_at=moment(clock),
            pairs=self.pairs.said(),
            pairs_of_revision=self.of_revision.get(rollout.revision, Sums()).said(),
            paired_scores=self.paired_scores,
            arms={arm: self._arm(version, measured.get(arm, {})) for arm, version in self._versions.items()},
            expected=ExpectedPairs(pairs=self.expected.said(), doubted=doubted) if self.expected.n else None,
            scores={arm: scores[version] for arm, version in self._versions.items() if version in scores},
        )

    def _now(self, revision: int) -> Told:
        return Told(revision, self.pairs.n, self.of_revision.get(revision, Sums()).n, self.paired_scores)

    def metrics(self, task: Task) -> dict[Arm, dict[str, float]]:
        """Of both arms, on the newest pairs."""
        found = {arm: self.outputs.get(version) for arm, version in self._versions.items()}
        return {arm: metrics(task, self.labels, flat(each)) for arm, each in found.items() if each is not None}

    def _arm(self, version: int, measured: dict[str, float]) -> ArmMeasured:
        return ArmMeasured(scored=self.scored.get(version, 0), labelled=self.pairs.n, metrics=measured)

    @property
    def _versions(self) -> dict[Arm, int]:
        return {"champion": self.champion, "challenger": self.challenger}


def flat(outputs: Floats) -> Floats:
    """One number a row as (n,), as the metrics take it; several as they are."""
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def widened(outputs: Floats, width: int) -> Floats:
    """Outputs (n, fewer) as (n, width): a class that was declared since had no probability.

    >>> widened(np.array([[0.25, 0.75]]), 3).tolist()
    [[0.25, 0.75, 0.0]]
    """
    return np.pad(outputs, ((0, 0), (0, max(0, width - outputs.shape[1]))))


def is_pair(rollout: Rollout, served: Score | None, shadow: Score | None) -> bool:
    """Whether an event was scored by both arms of a rollout."""
    if rollout.challenger is None or served is None or shadow is None:
        return False
    return {served.version, shadow.version} == {rollout.champion, rollout.challenger}


def _outputs(pairs: Sequence[Settled], version: int) -> Floats:
    scores = (pair.served if pair.served.version == version else pair.shadow for pair in pairs)
    return np.array([score.output for score in scores if score is not None], dtype=np.float64)


def _buckets(pairs: Sequence[Settled]) -> Whole:
    return np.array([pair.bucket for pair in pairs], dtype=np.int64)


def _crossed(before: int, after: int, marks: Sequence[int]) -> bool:
    return any(before < mark <= after for mark in marks)
