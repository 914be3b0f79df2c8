"""From a stream's records to its models' predictions: decode once, score once a version, share by entity.

A score that is not finite is no answer: the validator lets no version pass that gives one to the rows it holds out, and
where one does so later, no prediction is written for that record; it is counted, and the batch goes on.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import ne
from typing import NamedTuple

from prometheus_client import Counter as Metric

from schemas.specs import StreamSpec
from services.deployer import metrics
from services.deployer.answers import Answers, answers_of
from services.deployer.decoding import ColumnDecoder, Columns
from services.deployer.domain.arms import is_canary
from services.deployer.domain.pace import Compared, compared
from services.deployer.predictions import Arm, Outputs, Pairs, Rows, Taken, exploring, outputs_of, rows_of
from services.deployer.serving import Known, Serving, Version
from shared.matrix import Matrix, Projection


@dataclass(kw_only=True)
class Scored:
    """The answer to a part of a batch, and what is to be counted once it is committed: how many, under which labels."""

    outputs: list[Outputs | Pairs] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    counts: list[tuple[Metric, Sequence[str | int], int]] = field(default_factory=list)

    def note(self, version: Version, arms: Sequence[Arm], outputs: Outputs) -> None:
        """What a version answered, and what it could not."""
        model, number = version.release.candidate.model, version.release.version
        answered = Counter(arms if outputs.answered is None else compress(arms, outputs.answered))
        self.counts += [(metrics.PREDICTIONS, (model, number, arm), count) for arm, count in answered.items()]
        self.counts.append((metrics.NOT_FINITE, (model, number), len(arms) - answered.total()))

    def count(self) -> None:
        """Into the metrics, once it is committed."""
        for metric, labels, number in self.counts:
            if number:
                metric.labels(*labels).inc(number)


class StreamScorer:
    """Answers the records of one stream under one picture of what is known; made anew when that changes."""

    def __init__(self, spec: StreamSpec, known: Known) -> None:
        self._spec = spec
        self._decoder = ColumnDecoder(spec)
        models = known.models_of(spec.stream)
        self._serving = [known.serving[model] for model in models if model in known.serving]
        self._unserved = [model for model in models if model not in known.serving]
        self._projections = {
            id(version): Projection(version.release.candidate.signature, spec)
            for serving in self._serving
            for version in (serving.champion, serving.challenger)
            if version is not None
        }

    def score(self, taken: Taken) -> Scored:
        """Answer a batch; refused records are skipped and counted, the ingestor parks them."""
        columns = self._decoder.decode(taken.values)
        stream, scored = self._spec.stream, Scored()
        refused = Counter(refusal.reason for refusal in columns.refused)
        scored.counts += [(metrics.REFUSED, (stream, reason), count) for reason, count in refused.items()]
        if not len(columns.matrix):
            return scored
        accepted = taken.without([each.position for each in columns.refused]) if columns.refused else taken
        rows = rows_of(columns, accepted)
        scored.counts.append((metrics.KEYED_OTHERWISE, (stream,), sum(map(ne, rows.entities.each(), accepted.keys))))
        scored.counts += [(metrics.UNSERVED, (model,), len(columns.matrix)) for model in self._unserved]
        for serving in self._serving:
            self._answer(serving, columns, rows, scored)
        return scored

    def _answer(self, serving: Serving, columns: Columns, rows: Rows, scored: Scored) -> None:
        """What the champion says, and the challenger, and who of them is heard."""
        canary = _canary_rows(serving, rows)
        arms: list[Arm] = ["shadow" if chosen else "champion" for chosen in canary]
        of_champion = self._timed(serving.champion, columns)
        champion = self._outputs(serving, of_champion.answers, arms, rows)
        scored.note(serving.champion, arms, champion)
        if serving.challenger is None:
            scored.outputs.append(champion)
            return
        arms = ["canary" if chosen else "shadow" for chosen in canary]
        of_challenger = self._timed(serving.challenger, columns)
        challenger = self._outputs(serving, of_challenger.answers, arms, rows)
        scored.note(serving.challenger, arms, challenger)
        scored.compared.append(_compared(serving, of_champion, of_challenger))
        scored.outputs.append(Pairs(champion, challenger))

    def _outputs(self, serving: Serving, answers: Answers, arms: Sequence[Arm], rows: Rows) -> Outputs:
        if explore := self._spec.label.explore:
            answers, rows = exploring(answers, rows, serving.changed.model, explore)
        return outputs_of(serving.changed, answers, arms, rows)

    def _timed(self, version: Version, columns: Columns) -> "_Timed":
        began = time.perf_counter()
        answers = self._answers(version, columns)
        return _Timed(answers, time.perf_counter() - began)

    def _answers(self, version: Version, columns: Columns) -> Answers:
        return answered(version, self._projections[id(version)], columns.matrix)


def answered(version: Version, projection: Projection, matrix: Matrix) -> Answers:
    """What a version says of the rows of a stream's matrix."""
    candidate = version.release.candidate
    scores = version.model.score(projection(matrix))
    return answers_of(version.release.version, candidate.spec, candidate.signature.classes, scores)


class _Timed(NamedTuple):
    """What a version answered, and the seconds from matrix to answers."""

    answers: Answers
    seconds: float

    @property
    def unanswered(self) -> int:
        return self.answers.scores.count(None)


def _compared(serving: Serving, champion: _Timed, challenger: _Timed) -> Compared:
    assert serving.challenger is not None
    release, changed = serving.challenger.release, serving.changed
    scoring = compared(
        release,
        len(champion.answers.scores),
        seconds={"champion": champion.seconds, "challenger": challenger.seconds},
        unanswered={"champion": champion.unanswered, "challenger": challenger.unanswered},
    )
    return Compared(changed.model, changed.revision, scoring)


def _canary_rows(serving: Serving, rows: Rows) -> list[bool]:
    share, salt = serving.changed.share, serving.changed.salt
    if serving.challenger is None or share <= 0:
        return [False] * len(rows.partitions)
    return [is_canary(entity, salt, share) for entity in rows.entities.strings()]
