"""Served answers meet their labels in the model's join; what slices they are of is noted while their rows are here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
from msgspec import structs

from schemas.specs import StreamSpec
from services.monitor.domain.entries import Entry
from services.monitor.domain.rows import Rows
from services.monitor.domain.slices import Sliced, codes_of
from services.monitor.domain.state import ModelState
from services.monitor.intake import Answer

_NO_INPUT = -1
Fresh = list[tuple[Answer, Entry]]


@dataclass(frozen=True, kw_only=True)
class Joining:
    """One model's."""

    model: ModelState
    stream: StreamSpec
    sliced: Sequence[Sliced]

    def serve(self, answers: Sequence[Answer], rows: Rows) -> tuple[list[Answer], Fresh]:
        """All answers, those to an input that had been answered without it; and the new ones with their entries."""
        served = list(self._first(answers))
        fresh = [(answer, entry) for answer, entry in self._joined(served) if entry is not None]
        self._slice(fresh, rows)
        return served, fresh

    def _first(self, answers: Sequence[Answer]) -> Iterator[Answer]:
        answered = self.model.answered
        for said in answers:
            at, offset = said.input_partition, said.input_offset
            if offset >= answered.get(at, 0):
                answered[at] = offset + 1
                yield said
            else:
                yield structs.replace(said, input_offset=_NO_INPUT)

    def _joined(self, answers: Sequence[Answer]) -> Iterator[tuple[Answer, Entry | None]]:
        for partition, group in groupby(answers, key=attrgetter("partition")):
            mine = list(group)
            said = ((each.id, each.time, each.score) for each in mine)
            yield from zip(mine, self.model.join.serve_all(partition, said), strict=True)

    def _slice(self, fresh: Fresh, rows: Rows) -> None:
        """Note of what slices newly served events are, while their rows are at hand."""
        if not self.sliced or not fresh:
            return
        places = np.array([(answer.input_partition, answer.input_offset) for answer, _ in fresh], dtype=np.int64)
        _, values = rows.find(places[:, 0], places[:, 1], len(self.stream.features))
        for (_, entry), codes in zip(fresh, codes_of(self.sliced, values).tolist(), strict=True):
            entry.slices = tuple(codes)
