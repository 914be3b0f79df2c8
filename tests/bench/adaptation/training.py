"""The trainer and the validator without I/O: tables and artifacts are in memory, their decisions are the services'."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache, cached_property
from typing import Any, Literal

import pyarrow as pa

from schemas.events.parts import Artifact, Candidate, Cut, Release, Span
from schemas.specs import ModelSpec
from services.trainer.domain.records import Recipe
from services.trainer.jobs import produce, stored
from services.trainer.provenance import Provenance, provenance
from services.validator.jobs import judgement
from shared.matrix import COLUMN_PREFIX
from shared.objects import Missing, digest_of
from shared.tables import schema_of
from tests.bench.adaptation.streams import Stream


class Shelf:
    """Artifacts by digest."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def put_now(self, data: bytes) -> Artifact:
        digest = digest_of(data)
        self._held[digest] = data
        return Artifact(digest=digest, size_bytes=len(data))

    def get_now(self, digest: str) -> bytes:
        if digest not in self._held:
            raise Missing(digest)
        return self._held[digest]


class Past:
    """The tables of a whole stream; a run sees what its cut lets it see."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.shelf: Any = Shelf()  # as much of Objects as is asked of it

    def read(self, kind: Literal["data", "labels", "predictions"], *_: Any) -> pa.Table:
        return self._data if kind == "data" else self._labels

    @cached_property
    def _data(self) -> pa.Table:
        stream = self.stream
        count, features = len(stream), stream.features
        columns = {COLUMN_PREFIX + name: [row[name] for row in features] for name in stream.spec.features}
        place = {"id": self._ids, "entity": stream.entities, "time": stream.times, "partition": [0] * count}
        place |= {"offset": list(range(count)), "flags": [None] * count}
        return pa.table(place | columns, schema=schema_of("data", stream.spec))

    @cached_property
    def _labels(self) -> pa.Table:
        stream = self.stream
        said = [(at, index) for index, at in enumerate(stream.known) if at is not None]
        columns = {
            "id": [self._ids[index] for _, index in said],
            "entity": [stream.entities[index] for _, index in said],
            "time": [at for at, _ in said],
            "partition": [0] * len(said),
            "offset": list(range(len(said))),
            "label": [stream.labels[index] for _, index in said],
        }
        return pa.table(columns, schema=schema_of("labels", stream.spec))

    @cached_property
    def _ids(self) -> list[str]:
        return [f"e{index}" for index in range(len(self.stream))]

    def train(
        self,
        spec: ModelSpec,
        run_id: str,
        cut_time: datetime,
        quarantined: Sequence[Span] = (),
        since: datetime | None = None,
    ) -> Candidate:
        """A run on what was known at the cut.

        Raises:
            JobFailed: as the trainer does.
        """
        everything = {0: len(self.stream)}
        cut = Cut(time=cut_time, data_version=0, labels_version=0, data_offsets=everything, labels_offsets=everything)
        recipe = Recipe(
            model=spec.model,
            run_id=run_id,
            spec=spec,
            stream_spec=self.stream.spec,
            cut=cut,
            quarantined=tuple(quarantined),
            since=since,
            seed=spec.training.seed,
        )
        return stored(recipe, produce(recipe, self, _silent, _provenance()), self.shelf)

    def refusal(self, candidate: Candidate, champion: Release | None) -> str | None:
        """Why the gates keep a candidate out, if they do."""
        failed = [each.reason for each in judgement(candidate, champion, self.shelf, self).gates
                  if each.verdict == "failed"]  # fmt: skip
        return "; ".join(failed) or None


def _silent(*_: Any) -> None:
    """Nobody asks how far a run has come."""


@cache
def _provenance() -> Provenance:
    return provenance()
