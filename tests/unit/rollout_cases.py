"""Seeded rollouts: a world in which one challenger is tried, through the monitor's evidence and the deployer's rule.

Truth is a logit; each arm answers with the logit and an error of its own. Equal challengers have errors of the same
size, others one that makes them worse or better by a given loss or accuracy. Entities (and days) share part of the
errors of both arms, so that their pairs hang together. Everything is scored by both arms; labels come later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from schemas.events.deployer import RolloutChanged, RolloutEnded
from schemas.specs import Rollout as Policy
from services.deployer.domain.entrant import Entrant
from services.deployer.domain.rollout import Rollout
from services.monitor.domain.bins import Bins
from services.monitor.domain.drift import of_scores
from services.monitor.domain.entries import Score, Settled
from services.monitor.domain.estimate import Expectation
from services.monitor.domain.facts import Rollout as Known
from services.monitor.domain.facts import Said
from services.monitor.domain.groups import BUCKETS
from services.monitor.domain.pairs import Evidence, losses
from services.trainer.domain.expectations import calibration_of
from shared.reference import binned
from tests.scoring_world import model_spec, release_of, stream_spec

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
POLICY = Policy()
STREAM = stream_spec("s", partitions=4)
MINUTE = 60_000_000
PER_DAY = 900  # events
_TRUTH, _ERROR = 1.5, 0.8  # of a logit: spread of the truth, and of the champion's error
_ROUND = 200  # events
_MOST = 40_000


@dataclass(frozen=True, kw_only=True)
class Case:
    """How the challenger differs and how events hang together.

    `entities` occur unevenly; without, each event has its own. `shared` is the part of an error's variance that the
    events of an entity have in common, `daily` the events of a day. Labels come `lag` events late.
    """

    differs: Literal["brier", "accuracy"] = "brier"
    by: float = 0.0
    entities: int = 0
    shared: float = 0.0
    daily: float = 0.0
    lag: int = 500
    policy: Policy = POLICY


class Drawn(NamedTuple):
    """Events (n,) and both arms' probabilities (n, 2)."""

    labels: Floats
    answers: Floats
    entities: Whole


class Told(NamedTuple):
    """How a rollout went: its outcome if it is over, matured pairs by then, the largest share the challenger had."""

    outcome: str | None
    pairs: int
    share: float
    reason: str


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))


def drawn(rng: np.random.Generator, count: int, case: Case, error: float) -> Drawn:
    """Events of a world in which the challenger errs by `error`."""
    entities = _entities(rng, count, case.entities)
    truth = _TRUTH * rng.normal(size=count)
    days = np.arange(count) // PER_DAY
    own = rng.normal(size=(count, 2))
    of_entity = rng.normal(size=(entities.max() + 1, 2))[entities]
    of_day = rng.normal(size=(days[-1] + 1, 2))[days]
    alone = 1 - case.shared - case.daily
    errors = np.sqrt(alone) * own + np.sqrt(case.shared) * of_entity + np.sqrt(case.daily) * of_day
    answers = _sigmoid(truth[:, None] + errors * [_ERROR, error])
    return Drawn((rng.random(count) < _sigmoid(truth)).astype(np.float64), answers, entities)


def _entities(rng: np.random.Generator, count: int, entities: int) -> Whole:
    if not entities:
        return np.arange(count)
    weights = rng.gamma(1.0, size=entities)
    return rng.choice(entities, size=count, p=weights / weights.sum())


@cache
def error_of(differs: str, by: float) -> float:
    """The challenger's error that makes it differ by so much on the average."""
    if not by:
        return _ERROR

    def gap(error: float) -> float:
        some = drawn(np.random.default_rng(1), 300_000, Case(), error)
        return by - _gap(differs, some)

    return float(brentq(gap, 0.0, 4.0, xtol=1e-3))


def _gap(differs: str, some: Drawn) -> float:
    """Challenger less champion in the loss; champion less challenger in accuracy."""
    if differs == "accuracy":
        right = (some.answers >= 0.5) == (some.labels == 1)[:, None]
        return float(right[:, 0].mean() - right[:, 1].mean())
    champion, challenger = (losses("binary", some.labels, some.answers[:, [arm]]) for arm in (0, 1))
    return float((challenger - champion).mean())


class Validated(NamedTuple):
    """What an arm's reference holds of its scores."""

    bins: Bins
    expectation: Expectation


@cache
def _validated(error: float) -> tuple[Validated, Validated]:
    some = drawn(np.random.default_rng(2), 5000, Case(), error)
    return _reference(some, 0), _reference(some, 1)


def _reference(some: Drawn, arm: int) -> Validated:
    scores = some.answers[:, arm]
    calibration = np.array(calibration_of(some.labels.astype(np.intp), scores[:, None]))
    bins = Bins.of({"features": {}, "score": binned(scores)}, ())
    return Validated(bins, Expectation(calibration=calibration))


def rollout_of(policy: Policy) -> Rollout:
    """Version 1 serves, version 2 is in the shadow."""
    rollout = Rollout(model="m")
    for version in (1, 2):
        release = release_of(version, model_spec("m", "s", policy), STREAM)
        rollout = rollout.approved(Entrant(release=release, correlation_id="", traceparent=None)).rollout
    return rollout


class Trial:
    """One rollout, event after event, until it is over or its labels are."""

    def __init__(self, case: Case, seed: int, spoil: Callable[[Drawn], Drawn] | None = None) -> None:
        error = error_of(case.differs, case.by)
        events = drawn(np.random.default_rng((seed, 7)), _MOST, case, error)
        self._case, self._events = case, events if spoil is None else spoil(events)
        self._references = dict(zip((1, 2), _validated(error), strict=True))
        self._rollout = rollout_of(case.policy)
        self._evidence = Evidence(champion=1, challenger=2)
        self._revisions = np.zeros(_MOST, dtype=np.int64)
        self._buckets = np.random.default_rng(seed).permutation(_MOST)[events.entities] % BUCKETS

    def run(self) -> Told:
        """To the end."""
        share, reason, settled = 0.0, "", 0
        for start in range(0, _MOST, _ROUND):
            self._score(slice(start, start + _ROUND))
            matured = max(0, start + _ROUND - self._case.lag)
            self._settle(slice(settled, matured))
            settled = matured
            for event in self._decide():
                if isinstance(event, RolloutEnded):
                    return Told(event.outcome, self._evidence.pairs.n, share, event.reason)
                if isinstance(event, RolloutChanged):
                    share, reason = max(share, event.share), event.reason
            if self._evidence.pairs.n >= self._case.policy.max_labels + 1000:
                break
        return Told(None, self._evidence.pairs.n, share, reason)

    def _score(self, place: slice) -> None:
        """Both arms answer; what is expected of them is known at once."""
        self._revisions[place] = self._rollout.revision
        answers, expected = self._events.answers[place], []
        for version, validated in self._references.items():
            scores = answers[:, version - 1]
            self._evidence.score(version, len(scores), validated.bins.count_scores(scores))
            losses_of_rows = validated.expectation.of_rows(
                "binary", validated.bins, np.empty((0, 0), np.float32), scores[:, None]
            )
            assert losses_of_rows is not None
            expected.append(losses_of_rows)
        self._evidence.paired_scores += len(answers)
        self._evidence.expected.add(expected[1] - expected[0], self._buckets[place], self._times(place))

    def _times(self, place: slice) -> Whole:
        return np.arange(place.start, place.stop) * (24 * 60 * MINUTE // PER_DAY)

    def _settle(self, place: slice) -> None:
        events, revisions, times = self._events, self._revisions[place], self._times(place)
        rows = zip(
            times.tolist(), revisions.tolist(), events.labels[place].tolist(), events.answers[place].tolist(),
            self._buckets[place].tolist(), strict=True,
        )  # fmt: skip
        settled = [
            Settled(
                time,
                0,
                "",
                label,
                Score(1, revision, "champion", (of_1,)),
                Score(2, revision, "shadow", (of_2,)),
                bucket,
            )
            for time, revision, label, (of_1, of_2), bucket in rows
        ]
        self._evidence.settle("binary", settled)

    def _decide(self) -> list[object]:
        rollout, evidence = self._rollout, self._evidence
        phase: Literal["shadow", "canary"] = "shadow" if rollout.phase == "shadow" else "canary"
        known = Known(revision=rollout.revision, phase=phase, champion=1, challenger=2, said=Said(event_id=""))
        if not evidence.news(known, self._case.policy):
            return []
        found = {version: of_scores(each.bins, evidence.scores[version]) for version, each in self._references.items()}
        scores = {version: drift for version, drift in found.items() if drift is not None}
        told = evidence.tell(known, "m", 0, scores=scores)
        decision = rollout.measured(told, STREAM.partitions)
        self._rollout = decision.rollout
        return [event for event, _ in decision.said]
