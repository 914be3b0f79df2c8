"""Bytes of the data plane → what join, clock and windows take. What breaks the contract is skipped and counted."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from schemas.specs import StreamSpec
from services.monitor.domain.clock import micros, micros_of
from services.monitor.domain.entries import Score
from services.monitor.domain.rows import UNSEEN, Values
from services.monitor.domain.sampling import kept_of
from shared.records import EXPLORE, PREDICTIONS, UNREADABLE, LabelDecoder, Prediction, StreamDecoder

Record = tuple[int, bytes | None]  # offset, value
Decoded = TypeVar("Decoded")
_MAX_OFFSET = 2**63
_OF_PREDICTION = {"id": "event_id", "input_partition": "partition", "input_offset": "offset"}


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
    end: int | None  # behind the last accepted record, or the last that was left out


class LabelSaid(NamedTuple):
    """What came of an event, and when that was known."""

    id: str
    time: int
    value: float


class Labels(NamedTuple):
    """Those of a lane, and the offset behind the last that was taken, kept or not."""

    said: list[LabelSaid]
    end: int | None


class Answer(Struct, frozen=True, gc=False):
    """A prediction or shadow record."""

    partition: int
    offset: int
    id: str
    time: int
    input_partition: int
    input_offset: int
    score: Score
    value: float  # the record's `score`, as the reference counts it
    entity: str
    revision: int


class Passed(Struct, frozen=True, gc=False, rename=_OF_PREDICTION):
    """A prediction or shadow record that is sampled out: no more than its id and its place is read."""

    id: str
    input_partition: Annotated[int, Meta(ge=0)]
    input_offset: Annotated[int, Meta(ge=0)]
    revision: int


class Named(Struct, frozen=True, gc=False):
    """No more of a data record or a label than its id."""

    id: str


class Taken(NamedTuple):
    """What a lane brings: answers, and those that are sampled out."""

    answers: Sequence[Answer]
    passed: Sequence[Passed] = ()


_NAMES, _PLACES = msgspec.json.Decoder(Named), msgspec.json.Decoder(Passed)


@dataclass(frozen=True, kw_only=True)
class Known:
    """How far the data was read, and which revisions were heard of: what answers may rest on."""

    data: Mapping[int, int]
    revisions: Collection[int]

    def until(self, answers: Sequence[Answer | Passed | None], start: int = 0) -> int:
        """How many of them, before the first from `start` on that is ahead."""
        data, revisions = self.data, self.revisions
        ahead = (
            at
            for at, each in enumerate(islice(answers, start, None), start)
            if each is not None
            and (each.input_offset >= data.get(each.input_partition, 0) or each.revision not in revisions)
        )
        return next(ahead, len(answers))


@dataclass(kw_only=True)
class Intake:
    """Decoders of one stream; of ids they take in one in 2**`level`."""

    spec: StreamSpec
    level: int = 0
    refused_labels: int = field(default=0, init=False)
    refused_answers: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._data = StreamDecoder(self.spec)
        self._labels = LabelDecoder(self.spec)
        self._columns = {name: index for index, name in enumerate(self.spec.features)}
        self._partitions = range(self.spec.partitions)
        self._classes = {value: float(code) for code, value in enumerate(self.spec.label.values)}

    def data(self, read: Sequence[Record]) -> DataPart:
        records = self._sampled(read) if self.level else read
        batch = self._data.decode([value for _, value in records])
        values = batch.matrix.astype(np.float32)
        for row, flags in batch.flags.items():
            values[row, [self._columns[name] for kind, name in _split(flags) if kind == "unseen"]] = UNSEEN
        return DataPart(
            offsets=np.array([records[position][0] for position in batch.positions], dtype=np.int64),
            times=micros_of(record.time for record in batch.records),
            ids=[record.id for record in batch.records],
            entities=[record.entity for record in batch.records],
            values=values,
            refused=len(batch.refused),
            end=_end(read, records, batch.positions),
        )

    def _sampled(self, records: Sequence[Record]) -> list[Record]:
        """Those to take in; the decoder has a word about what cannot be read."""
        return list(compress(records, _kept(_decoded(_NAMES.decode, records), self.level)))

    def labels(self, lane: Lane, ahead: Callable[[int], bool]) -> Labels:
        """Labels of a lane up to the last that is not ahead; sets how many records were taken.

        One that is ahead while those behind it are not stands out of turn: it must not hold them up.
        """
        records, decode = lane.records, self._labels.decode
        fitting = (
            at
            for at in range(len(records), 0, -1)
            if (said := _read(decode, records[at - 1][1])) and not ahead(micros(said.time))
        )
        last = lane.taken = next(fitting, 0)
        while lane.taken < len(records) and _read(decode, records[lane.taken][1]) is None:
            lane.taken += 1
        mine = self._sampled(records[: lane.taken]) if self.level else records[: lane.taken]
        read = [said for said in _decoded(decode, mine) if said is not None]
        self.refused_labels += len(mine) - len(read)
        times = micros_of(said.time for said in read)
        found = [LabelSaid(said.id, time, self._code(said.label)) for said, time in zip(read, times, strict=True)]
        return Labels(found, records[last - 1][0] + 1 if last else None)

    def _code(self, label: Any) -> float:
        return self._classes[label] if self._classes else float(label)

    def answers(self, partition: int, lane: Lane, known: Known | None = None) -> Taken:
        """Answers of a lane up to the first that is ahead of what is known; sets how many records were taken."""
        if self.level:
            return self._some_of(partition, lane, known)
        read = self._answers_of(partition, lane.records)
        lane.taken = _up_to(known, read)
        return Taken(self._sound(read[: lane.taken]))

    def _sound(self, read: Sequence[Answer | None]) -> list[Answer]:
        answers = [each for each in read if each is not None]
        self.refused_answers += len(read) - len(answers)
        return answers

    def _some_of(self, partition: int, lane: Lane, known: Known | None) -> Taken:
        """Likewise; of those that are sampled out no more than their place is read."""
        records, read = lane.records, _decoded(_PLACES.decode, lane.records)
        lane.taken = _up_to(known, read)
        while lane.taken < len(read) and self._answers_of(partition, [records[lane.taken]]) == [None]:
            read[lane.taken] = None  # ahead, but nothing that a scorer writes
            lane.taken = _up_to(known, read, lane.taken)
        read = read[: lane.taken]
        mine = _kept(read, self.level)
        passed = [each for each, taken_in in zip(read, mine, strict=True) if each is not None and not taken_in]
        return Taken(self._sound(self._answers_of(partition, list(compress(records, mine)))), passed)

    def _answers_of(self, partition: int, records: Sequence[Record]) -> list[Answer | None]:
        """None for what no scorer writes."""
        read = [said if said and self._written(said) else None for said in _decoded(PREDICTIONS.decode, records)]
        times, classes = iter(micros_of(said.time for said in read if said is not None)), self.spec.label.values
        return [
            None if said is None else _answer(partition, offset, next(times), said, classes)
            for (offset, _), said in zip(records, read, strict=True)
        ]

    def _written(self, said: Prediction) -> bool:
        """Whether it stands where a record can, and when."""
        return said.partition in self._partitions and 0 <= said.offset < _MAX_OFFSET and 1 < said.time.year < 9999


def _answer(partition: int, offset: int, time: int, said: Prediction, classes: Sequence[str]) -> Answer:
    output = tuple(said.probabilities.get(name, 0.0) for name in classes) if said.probabilities else (said.score,)
    score = Score(said.version, said.revision, said.arm, output, _weight(said))
    place = said.partition, said.offset
    return Answer(partition, offset, said.event_id, time, *place, score, said.score, said.entity, said.revision)


def _end(read: Sequence[Record], records: Sequence[Record], accepted: Sequence[int]) -> int | None:
    """Behind the last record that is accepted, or left out of `records`."""
    ends = [records[accepted[-1]][0] + 1] if accepted else []
    if len(records) < len(read) and (not records or read[-1] is not records[-1]):
        ends.append(read[-1][0] + 1)
    return max(ends, default=None)


def _weight(said: Prediction) -> float:
    """What a label speaks for: labels that are seen by lot speak for those that are not."""
    if said.propensity is None:
        return 1.0
    return 1 / said.propensity if said.label is True or EXPLORE in said.flags else 0.0


def _kept(read: Iterable[Named | Passed | None], level: int) -> list[bool]:
    """Which are taken in: also what could not be read, so that a decoder has its word about it."""
    return kept_of(("" if each is None else each.id for each in read), level)


def _up_to(known: Known | None, read: Sequence[Answer | Passed | None], start: int = 0) -> int:
    """How many are taken: all of them where nothing bounds what may be known."""
    return len(read) if known is None else known.until(read, start)


def _decoded(decode: Callable[[bytes], Decoded], records: Sequence[Record]) -> list[Decoded | None]:
    """All at once where all can be read; None for each that cannot."""
    try:
        return [decode(value or b"") for _, value in records]
    except UNREADABLE:
        return [_read(decode, value) for _, value in records]


def _read(decode: Callable[[bytes], Decoded], value: bytes | None) -> Decoded | None:
    try:
        return decode(value or b"")
    except UNREADABLE:
        return None


def _split(flags: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Kind and feature of a record's flags.

    >>> list(_split(["unseen:carrier"]))
    [('unseen', 'carrier')]
    """
    for flag in flags:
        kind, _, name = flag.partition(":")
        yield kind, name
