"""What both arms of a rollout said of the same events in a round, before any label: scores, pairs, expected losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.events.monitor import FeatureDrift
from schemas.specs import StreamSpec, Task
from services.monitor.domain.drift import of_scores
from services.monitor.domain.entries import Entry, outputs_of
from services.monitor.domain.pairs import Evidence
from services.monitor.domain.rows import Rows
from services.monitor.intake import Answer
from services.monitor.reference import Reference

Floats = NDArray[np.float64]


class Seen(NamedTuple):
    """An answer, what is known of its event, and whether the other arm had answered before."""

    answer: Answer
    entry: Entry
    pair: bool


@dataclass(kw_only=True)
class Comparing:
    """The answers of one round under one rollout, in the order they were taken."""

    task: Task
    spec: StreamSpec
    references: Mapping[int, Reference]
    seen: list[Seen] = field(default_factory=list)

    def into(self, evidence: Evidence, rows: Rows, now: int | None) -> None:
        """Count them; `rows` holds the features of what is answered in this round, which ends at `now`."""
        for version in sorted({answer.score.version for answer, _, _ in self.seen}):
            values = np.array([answer.value for answer, _, _ in self.seen if answer.score.version == version])
            reference = self.references.get(version)
            evidence.score(version, len(values), reference.bins.count_scores(values) if reference else None)
        pairs = [each for each in self.seen if each.pair]
        evidence.paired_scores += len(pairs)
        if pairs and {evidence.champion, evidence.challenger} <= self.references.keys():
            self._expect(evidence, pairs, rows, now)

    def _expect(self, evidence: Evidence, pairs: Sequence[Seen], rows: Rows, now: int | None) -> None:
        known, values = self._values(pairs, rows)
        pairs, values = [pair for pair, here in zip(pairs, known.tolist(), strict=True) if here], values[known]
        if not pairs:
            return
        champion = self._expected(evidence.champion, pairs, values)
        challenger = self._expected(evidence.challenger, pairs, values)
        if champion is not None and challenger is not None:
            buckets = np.array([entry.bucket for _, entry, _ in pairs], dtype=np.int64)
            times = np.array([entry.time for _, entry, _ in pairs], dtype=np.int64)
            evidence.expect(challenger - champion, buckets, times, now)

    def _values(self, pairs: Sequence[Seen], rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which feature rows are still here, and the rows (n, features of the stream); for classes none is needed."""
        if self.task != "regression":
            return np.ones(len(pairs), dtype=bool), np.empty((len(pairs), 0), dtype=np.float32)
        places = np.array([(each.answer.input_partition, each.answer.input_offset) for each in pairs], dtype=np.int64)
        return rows.find(places[:, 0], places[:, 1], len(self.spec.features))

    def _expected(self, version: int, pairs: Sequence[Seen], values: NDArray[np.float32]) -> Floats | None:
        reference, classes = self.references[version], len(self.spec.label.values)
        scores = (
            entry.served if entry.served.version == version else entry.shadow for _, entry, _ in pairs if entry.served
        )
        outputs = outputs_of([score for score in scores if score], classes)
        inputs = values if self.task != "regression" else reference.inputs(values, self.spec)[0]
        return reference.expectation.of_rows(self.task, reference.bins, inputs, outputs)


def far(evidence: Evidence, references: Mapping[int, Reference]) -> dict[int, FeatureDrift]:
    """By version, how far its scores so far lie from its own reference."""
    known = {version: references[version].bins for version in evidence.scores if version in references}
    found = {version: of_scores(bins, evidence.scores[version]) for version, bins in known.items()}
    return {version: drift for version, drift in found.items() if drift is not None}
