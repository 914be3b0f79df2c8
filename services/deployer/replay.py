"""A past record scored again with any version, on a copy: the shared decoder, projection, runtime and answers.

Nothing is joined, written or counted. Records are read under the stream's declaration as it is now, as scorers would.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from schemas.specs import StreamSpec
from services.deployer.answers import Label
from services.deployer.scoring import answered
from services.deployer.serving import Version
from shared.matrix import Matrix, Projection, matrix_of
from shared.records import StreamDecoder


class Replayed(NamedTuple):
    """One record's answer; a score of None is none, as where scorers write no prediction."""

    event_id: str
    entity: str
    time: datetime
    partition: int
    offset: int
    score: float | None
    label: Label
    probabilities: dict[str, float] | None
    flags: tuple[str, ...]


class Replay:
    """One version over the records of a stream."""

    def __init__(self, version: Version, spec: StreamSpec) -> None:
        self.refused = 0
        self._version = version
        self._spec = spec
        self._decoder = StreamDecoder(spec)
        self._projection = Projection(version.release.candidate.signature, spec)

    def of_log(
        self, partition: int, offsets: Sequence[int], values: Sequence[bytes | None], since: datetime, until: datetime
    ) -> list[Replayed]:
        """Records of a partition as they stand in the topic; those of event times since ≤ time < until are answered."""
        batch = self._decoder.decode(values)
        self.refused += len(batch.refused)
        rows = [row for row, record in enumerate(batch.records) if since <= record.time < until]
        records = [batch.records[row] for row in rows]
        places = [(partition, offsets[batch.positions[row]]) for row in rows]
        flags = [batch.flags.get(row, ()) for row in rows]
        said = [(record.id, record.entity, record.time) for record in records]
        return self._scored(batch.matrix[rows], said, places, flags)

    def of_table(self, table: pa.Table) -> list[Replayed]:
        """Rows of the stream's data table, which holds what was accepted."""
        said = list(zip(*(table[name].to_pylist() for name in ("id", "entity", "time")), strict=True))
        places = list(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))
        flags = [tuple(each or ()) for each in table["flags"].to_pylist()]
        return self._scored(matrix_of(self._spec, table), said, places, flags)

    def _scored(
        self,
        matrix: Matrix,
        said: Sequence[tuple[str, str, datetime]],
        places: Sequence[tuple[int, int]],
        flags: Sequence[tuple[str, ...]],
    ) -> list[Replayed]:
        if not said:
            return []
        answers = answered(self._version, self._projection, matrix)
        columns = said, places, answers.scores, answers.labels, answers.probabilities, flags
        return [
            Replayed(event_id, entity, time, partition, offset, score, label, probabilities, flagged)
            for (event_id, entity, time), (partition, offset), score, label, probabilities, flagged in zip(
                *columns, strict=True
            )
        ]
