"""The evidence about a challenger: losses of both arms on the same events, challenger minus champion."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from schemas.events.monitor import ArmMeasured, Pairs, RolloutMeasured
from schemas.specs import Rollout as Policy
from services.monitor.domain.clock import moment
from services.monitor.domain.facts import Rollout
from services.monitor.domain.join import Score, Settled
from shared.quality import Task, metrics

_KEPT = 5_000  # newest pairs that the arms' metrics are computed from
_GROWTH = 0.05
_LEAST_GROWTH = 20
MILESTONES = (100, 500)  # matured pairs at which the deployer may begin to decide


def loss(task: Task, label: float, output: tuple[float, ...]) -> float:
    """Brier score for classes (half the squared distance, as for two classes), squared error for numbers.

    >>> loss("binary", 1.0, (0.75,)), loss("multiclass", 2.0, (0.0, 0.5, 0.5)), loss("regression", 3.0, (1.0,))
    (0.0625, 0.25, 4.0)
    """
    if task == "multiclass":
        return sum((p - (code == label)) ** 2 for code, p in enumerate(output)) / 2
    missed = output[0] - label
    return missed * missed  # `** 2` raises where a product is infinite


class Sums(Struct):
    """Of paired loss differences."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, difference: float) -> None:
        self.n += 1
        self.total += difference
        self.squares += difference * difference

    def said(self) -> Pairs:
        return Pairs(n=self.n, total=self.total, total_squares=self.squares)


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
    paired_scores: int = 0
    scored: dict[int, int] = field(default_factory=dict)  # by version
    labels: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    outputs: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    told: Told = Told()

    def score(self, version: int, pair: bool) -> None:
        """An arm scored an event, the second of the two when this makes a pair."""
        self.scored[version] = self.scored.get(version, 0) + 1
        self.paired_scores += pair

    def settle(self, task: Task, pairs: Sequence[Settled]) -> None:
        """Matured events with both scores, in canonical order."""
        if not pairs:
            return
        for pair in pairs:
            by_version = {score.version: score.output for score in (pair.served, pair.shadow) if score is not None}
            of_champion, of_challenger = by_version[self.champion], by_version[self.challenger]
            difference = loss(task, pair.label, of_challenger) - loss(task, pair.label, of_champion)
            self.pairs.add(difference)
            self.of_revision.setdefault(pair.served.revision, Sums()).add(difference)
        self.labels = np.append(self.labels, [pair.label for pair in pairs])[-_KEPT:]
        for version in (self.champion, self.challenger):
            added = np.array([_output(pair, version) for pair in pairs])
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

    def tell(self, task: Task, rollout: Rollout, model: str, clock: int) -> RolloutMeasured:
        """The numbers as they are; remembers that they were said."""
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
            arms={"champion": self._arm(task, self.champion), "challenger": self._arm(task, self.challenger)},
        )

    def _now(self, revision: int) -> Told:
        return Told(revision, self.pairs.n, self.of_revision.get(revision, Sums()).n, self.paired_scores)

    def _arm(self, task: Task, version: int) -> ArmMeasured:
        outputs = self.outputs.get(version)
        measured = {} if outputs is None else metrics(task, self.labels, flat(outputs))
        return ArmMeasured(scored=self.scored.get(version, 0), labelled=self.pairs.n, metrics=measured)


def flat(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number a row as (n,), as the metrics take it; several as they are."""
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def widened(outputs: NDArray[np.float64], width: int) -> NDArray[np.float64]:
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


def _output(pair: Settled, version: int) -> tuple[float, ...]:
    assert pair.shadow is not None
    return pair.served.output if pair.served.version == version else pair.shadow.output


def _crossed(before: int, after: int, marks: Sequence[int]) -> bool:
    return any(before < mark <= after for mark in marks)
