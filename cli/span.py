"""A span of a stream's past: the log where it still reaches, the Delta tables before that, and as the index of both.

Event time is not the order of the log, so the table says where the records of a span lie; what it does not hold yet is
the end of the log, and is read whole. Nothing joins a group.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas.events.ingestor import Kind
from schemas.specs import StreamSpec
from schemas.topics import DATA, LABELS, PREDICTIONS
from services.deployer.domain.comparison import Answer, Served
from services.deployer.replay import Replay, Replayed
from shared.reading import Message, Reader, prediction_of
from shared.records import UNREADABLE, LabelDecoder
from shared.tables import NoTable, Tables

_ROWS = 10_000
Stretch = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One partition of a span: how many rows only the table has, and the stretches of the log to read."""

    partition: int
    begins: int  # first offset that the log still has
    rows: int
    stretches: tuple[Stretch, ...]

    @property
    def size(self) -> int:
        return self.rows + sum(end - start for start, end in self.stretches)


@dataclass(kw_only=True)
class Span:
    """Records of a stream with event times since ≤ time < until."""

    spec: StreamSpec
    since: datetime
    until: datetime
    reader: Reader
    tables: Tables

    def parts(self) -> list[Part]:
        """Every partition that may hold some of it."""
        topic = DATA.of(self.spec.stream)
        found = self._table("data", self.spec.stream, ["partition", "offset", "time"], self._times)
        held = self._held("data", self.spec.stream, topic)
        parts = [self._part(partition, *log, found, held) for partition, log in self.reader.spans(topic).items()]
        return [part for part in parts if part.size]

    def _part(self, partition: int, begins: int, end: int, found: pa.Table | None, held: Mapping[int, int]) -> Part:
        offsets = _offsets(found, partition)
        kept = offsets.filter(pc.greater_equal(offsets, begins))
        stretches = [(pc.min(kept).as_py(), pc.max(kept).as_py() + 1)] if len(kept) else []
        if (tail := max(begins, held.get(partition, 0))) < end:
            stretches.append((tail, end))
        return Part(partition=partition, begins=begins, rows=len(offsets) - len(kept), stretches=tuple(stretches))

    def replayed(self, replay: Replay, part: Part) -> Iterator[tuple[list[Replayed], int]]:
        """Answers in the order of their offsets, and how much of the part was read for them."""
        if part.rows:
            filters = [("partition", "=", part.partition), ("offset", "<", part.begins), *self._times]
            table = self._table("data", self.spec.stream, None, filters)
            assert table is not None
            for batch in table.sort_by("offset").to_batches(_ROWS):
                yield replay.of_table(pa.Table.from_batches([batch])), batch.num_rows
        for start, end in part.stretches:
            at = start
            for records in self.reader.read(DATA.of(self.spec.stream), part.partition, start, end):
                offsets, values = [each.offset() for each in records], [each.value() for each in records]
                yield replay.of_log(part.partition, offsets, values, self.since, self.until), offsets[-1] + 1 - at
                at = offsets[-1] + 1

    def served(self, model: str, partition: int, first: int, end: int) -> dict[int, Served]:
        """What was served for the records of a partition from offset `first` up to `end`; of repeats the first."""
        found: dict[int, Served] = {}
        topic = PREDICTIONS.of(model)
        begins, ends = self.reader.spans(topic)[partition]
        if begins:
            filters = [("input_partition", "=", partition), ("input_offset", ">=", first), ("input_offset", "<", end)]
            table = self._table("predictions", model, None, [*filters, ("offset", "<", begins)])
            rows = table.sort_by("offset").to_pylist() if table is not None else []
            for row in rows:
                found.setdefault(row["input_offset"], _served(row, self.spec))
        start = self.reader.first(topic, partition, (begins, ends), _reached(first))
        for records in self.reader.read(topic, partition, start, ends):
            said = [each for record in records if (each := prediction_of(record))]
            for each in said:
                answer = Answer(each.score, each.label, each.probabilities)
                found.setdefault(each.offset, Served(each.version, each.arm, answer))
            if said and said[-1].offset >= end:
                break
        return found

    def truths(self, partition: int) -> dict[str, Any]:
        """What came of events, by their id, as far as it has come; of several labels the first stands."""
        owner, topic = self.spec.stream, LABELS.of(self.spec.stream)
        filters = [("partition", "=", partition), ("time", ">=", self.since)]
        table = self._table("labels", owner, ["id", "label", "offset"], filters)
        found: dict[str, Any] = {}
        for row in table.sort_by("offset").to_pylist() if table is not None else []:
            found.setdefault(row["id"], row["label"])
        begins, end = self.reader.spans(topic)[partition]
        start, decoder = max(begins, self._held("labels", owner, topic).get(partition, 0)), LabelDecoder(self.spec)
        for records in self.reader.read(topic, partition, start, end):
            for record in records:
                try:
                    said = decoder.decode(record.value())
                except UNREADABLE:
                    continue
                found.setdefault(said.id, said.label)
        return found

    @property
    def _times(self) -> list[tuple[str, str, Any]]:
        return [("time", ">=", self.since), ("time", "<", self.until)]

    def _table(self, kind: Kind, owner: str, columns: list[str] | None, filters: Any) -> pa.Table | None:
        try:
            return self.tables.read(kind, owner, None, columns, filters)
        except NoTable:
            return None

    def _held(self, kind: Kind, owner: str, topic: str) -> dict[int, int]:
        """Up to which offset of each partition the table holds what the stream accepts."""
        try:
            table = self.tables.open(kind, owner)
        except NoTable:
            return {}
        partitions = range(self.spec.partitions)
        return {partition: table.transaction_version(f"{topic}/{partition}") or 0 for partition in partitions}


def _offsets(table: pa.Table | None, partition: int) -> pa.ChunkedArray:
    if table is None:
        return pa.chunked_array([], pa.int64())
    return table.filter(pc.equal(table["partition"], partition))["offset"]


def _reached(offset: int) -> Any:
    def reached(message: Message) -> bool | None:
        prediction = prediction_of(message)
        return None if prediction is None else prediction.offset >= offset

    return reached


def _served(row: Mapping[str, Any], spec: StreamSpec) -> Served:
    """From the predictions' table, which keeps labels and probabilities as text."""
    probabilities = msgspec.json.decode(row["probabilities"]) if row["probabilities"] else None
    label = row["label"] == "true" if spec.label.type == "bool" and row["label"] is not None else row["label"]
    return Served(row["version"], row["arm"], Answer(row["score"], label, probabilities))
