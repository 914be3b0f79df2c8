"""Bytes of the data plane → what join, clock and windows take. What breaks the contract is skipped and counted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.specs import StreamSpec
from services.monitor.domain.clock import micros
from services.monitor.domain.join import Score
from services.monitor.domain.rows import UNSEEN, Values
from shared.records import PREDICTIONS, UNREADABLE, LabelDecoder, StreamDecoder

Record = tuple[int, bytes | None]  # offset, value
_MAX_OFFSET = 2**63


@dataclass(kw_only=True)
class Lane:
    """A partition of a topic in a round: its records in order, and whether it was read to the end the round saw."""

    records: Sequence[Record] = ()
    at_end: bool = False
    taken: int = 0


@dataclass(frozen=True, kw_only=True)
class DataPart:
    """Accepted records of one partition."""

    offsets: NDArray[np.int64]
    times: list[int]
    ids: list[str]
    entities: list[str]
    values: Values
    refused: int


@dataclass(frozen=True)
class LabelSaid:
    offset: int
    id: str
    time: int
    value: float


@dataclass(frozen=True)
class Answer:
    """A prediction or shadow record."""

    partition: int
    offset: int
    id: str
    time: int
    input_partition: int
    input_offset: int
    score: Score
    value: float  # the record's `score`, as the reference counts it


@dataclass(kw_only=True)
class Intake:
    """Decoders of one stream."""

    spec: StreamSpec
    refused_labels: int = field(default=0, init=False)
    refused_answers: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._data = StreamDecoder(self.spec)
        self._labels = LabelDecoder(self.spec)
        self._columns = {name: index for index, name in enumerate(self.spec.features)}
        self._partitions = range(self.spec.partitions)
        self._classes = {value: float(code) for code, value in enumerate(self.spec.label.values)}

    def data(self, records: Sequence[Record]) -> DataPart:
        batch = self._data.decode([value for _, value in records])
        values = batch.matrix.astype(np.float32)
        for row, flags in batch.flags.items():
            values[row, [self._columns[name] for kind, name in _split(flags) if kind == "unseen"]] = UNSEEN
        return DataPart(
            offsets=np.array([records[position][0] for position in batch.positions], dtype=np.int64),
            times=[micros(record.time) for record in batch.records],
            ids=[record.id for record in batch.records],
            entities=[record.entity for record in batch.records],
            values=values,
            refused=len(batch.refused),
        )

    def labels(self, lane: Lane, ahead: Callable[[int], bool]) -> list[LabelSaid]:
        """Labels of a lane up to the last that is not ahead; sets how many records were taken.

        One that is ahead while those behind it are not stands out of turn: it must not hold them up.
        """
        read = [self._label(offset, value) for offset, value in lane.records]
        lane.taken = max((at for at, said in enumerate(read, 1) if said and not ahead(said.time)), default=0)
        while lane.taken < len(read) and read[lane.taken] is None:
            lane.taken += 1
        taken = [said for said in read[: lane.taken] if said]
        self.refused_labels += lane.taken - len(taken)
        return taken

    def _label(self, offset: int, value: bytes | None) -> LabelSaid | None:
        try:
            record = self._labels.decode(value)
        except UNREADABLE:
            return None
        return LabelSaid(offset, record.id, micros(record.time), self._code(record.label))

    def _code(self, label: Any) -> float:
        return self._classes[label] if self._classes else float(label)

    def answers(self, partition: int, lane: Lane, known: Callable[[Answer], bool]) -> list[Answer]:
        """Answers of a lane up to the first that is ahead of what is known; sets how many records were taken."""
        answers = []
        for offset, value in lane.records:
            answer = self._answer(partition, offset, value)
            if answer is None:
                self.refused_answers += 1
            elif known(answer):
                answers.append(answer)
            else:
                break
            lane.taken += 1
        return answers

    def _answer(self, partition: int, offset: int, value: bytes | None) -> Answer | None:
        """None for what no scorer writes."""
        try:
            said = PREDICTIONS.decode(value or b"")
        except UNREADABLE:
            return None
        if not (said.partition in self._partitions and 0 <= said.offset < _MAX_OFFSET and 1 < said.time.year < 9999):
            return None
        classes = self.spec.label.values
        output = tuple(said.probabilities.get(name, 0.0) for name in classes) if said.probabilities else (said.score,)
        score = Score(said.version, said.revision, said.arm, output)
        time = micros(said.time)
        return Answer(partition, offset, said.event_id, time, said.partition, said.offset, score, said.score)


def _split(flags: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Kind and feature of a record's flags.

    >>> list(_split(["unseen:carrier"]))
    [('unseen', 'carrier')]
    """
    for flag in flags:
        kind, _, name = flag.partition(":")
        yield kind, name
