"""Served predictions fill the windows of their versions, in one order however they arrived."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.specs import ModelSpec, StreamSpec
from services.monitor.domain.entries import outputs_of
from services.monitor.domain.rows import Rows
from services.monitor.domain.state import Vector, VersionState
from services.monitor.domain.windows import Window, in_merged_order, pieces, vector_after
from services.monitor.intake import Answer
from services.monitor.reference import Reference
from shared.expectation import count


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A window that has all its predictions."""

    version: int
    window: Window
    end: Vector


@dataclass(frozen=True, kw_only=True)
class Filling:
    """One model's windows; only versions whose reference is known have any."""

    spec: ModelSpec
    stream: StreamSpec
    versions: dict[int, VersionState]
    references: Mapping[int, Reference]

    def fill(self, answers: Sequence[Answer], rows: Rows, start: Vector) -> list[Closed]:
        """Served answers, each partition in order; `start` is the vector before them."""
        if not answers:
            return []
        order = in_merged_order(
            [a.partition for a in answers], [a.offset for a in answers], [a.time for a in answers]
        ).tolist()
        merged = [answers[index] for index in order]
        closed: list[Closed] = []
        for version in sorted({answer.score.version for answer in merged} & self.references.keys()):
            closed += self._fill(version, merged, rows, start)
        return closed

    def _fill(self, version: int, merged: Sequence[Answer], rows: Rows, start: Vector) -> Iterator[Closed]:
        size, mine = self.spec.monitoring.window, self.versions.setdefault(version, VersionState())
        places = [index for index, answer in enumerate(merged) if answer.score.version == version]
        if mine.window is None:
            mine.window = Window(number=mine.windows, start=_after(start, merged[: places[0]]))
        for first, last, closes in pieces(size - mine.window.predictions, size, len(places)):
            self.add(mine.window, version, [merged[place] for place in places[first:last]], rows)
            if closes:
                end = _after(start, merged[: places[last - 1] + 1])
                yield Closed(version=version, window=mine.window, end=end)
                mine.windows += 1
                mine.window = Window(number=mine.windows, start=end)

    def add(self, window: Window, version: int, answers: Sequence[Answer], rows: Rows) -> None:
        """Answers of its version, in any order, with what is known of their inputs."""
        reference = self.references[version]
        places = np.array([(a.input_partition, a.input_offset) for a in answers], dtype=np.int64)
        found, values = rows.find(places[:, 0], places[:, 1], len(self.stream.features))
        inputs, unseen = reference.inputs(values[found], self.stream)
        times = np.array([answer.time for answer in answers], dtype=np.int64)
        scores, outputs = np.array([a.value for a in answers]), self._outputs(answers)
        window.add(reference.bins, reference.limits, times, inputs, scores, unseen=unseen, cells=count(outputs))

    def _outputs(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """Probabilities (n, columns); none (n, 0) for numbers."""
        if self.spec.task == "regression":
            return np.empty((len(answers), 0))
        return outputs_of([answer.score for answer in answers], len(self.stream.label.values))


def _after(start: Vector, answers: Sequence[Answer]) -> Vector:
    partitions = np.array([answer.partition for answer in answers], dtype=np.int64)
    return vector_after(start, partitions, np.array([answer.offset for answer in answers], dtype=np.int64))
