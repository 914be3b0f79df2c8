"""What is read: one topic, one table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.events.ingestor import Kind
from schemas.specs import StreamSpec
from schemas.topics import DATA, LABELS, PREDICTIONS

_FAMILIES = {"data": DATA, "labels": LABELS, "predictions": PREDICTIONS}


@dataclass(frozen=True, kw_only=True)
class Source:
    """The topic of a stream (data, labels) or model (predictions), and the table that it is kept in."""

    kind: Kind
    owner: str
    spec: StreamSpec

    @property
    def topic(self) -> str:
        return _FAMILIES[self.kind].of(self.owner)

    @property
    def table(self) -> str:
        return f"{self.kind}/{self.owner}"

    def app_id(self, partition: int) -> str:
        """Whose progress a Delta transaction records."""
        return f"{self.topic}/{partition}"


def sources_of(streams: Iterable[StreamSpec], models: Mapping[str, StreamSpec]) -> dict[str, Source]:
    """Sources by topic; `models` maps each to the stream it lives on."""
    found: list[Source] = []
    for spec in streams:
        found += [
            Source(kind="data", owner=spec.stream, spec=spec),
            Source(kind="labels", owner=spec.stream, spec=spec),
        ]
    found += [Source(kind="predictions", owner=model, spec=spec) for model, spec in models.items()]
    return {source.topic: source for source in found}
