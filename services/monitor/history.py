"""What the lifecycle topics tell of one model: declarations, versions and rollouts, and what the monitor said of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self, TypeVar

from schemas.envelope import Envelope
from schemas.events.deployer import RolloutChanged, RolloutSwitched
from schemas.events.monitor import AlertRaised, AlertResolved, DataQuarantined, WindowMeasured
from schemas.events.parts import Candidate
from schemas.events.registry import ModelApplied, StreamApplied
from schemas.specs import ModelSpec, StreamSpec
from schemas.topics import DEPLOYER, MONITOR, REGISTRY, LifecycleTopic
from services.monitor.domain.facts import ModelFacts, Rollout, Said, StreamFacts
from services.monitor.recomputation import Cut, cuts_of
from services.monitor.words import SERVES_NO_MORE
from shared.errors import Refusal
from shared.reading import Reader, heard

Spec = TypeVar("Spec")
Declared = list[tuple[datetime, int, Spec]]  # when it was said, its revision, what was declared


@dataclass(kw_only=True)
class History:
    """One model's, as far as its windows rest on it; `said` is by event id, in order."""

    model: str
    stream: str
    models: Declared[ModelSpec] = field(default_factory=list)
    streams: Declared[StreamSpec] = field(default_factory=list)
    releases: dict[int, Candidate] = field(default_factory=dict)
    rollouts: dict[int, Rollout] = field(default_factory=dict)
    served_from: dict[int, int] = field(default_factory=dict)
    said: dict[str, Envelope] = field(default_factory=dict)

    @classmethod
    def of(cls, reader: Reader, model: str) -> Self:
        """Read to the present ends.

        Raises:
            Refusal: no such model is declared.
            Fault, confluent_kafka.KafkaException: the broker does not answer.
        """
        of_registry = [each.event for each in _read(reader, REGISTRY)]
        specs = [each.spec for each in of_registry if isinstance(each, ModelApplied) and each.model == model]
        if not specs:
            raise Refusal(f"model {model!r} is not declared")
        found = cls(model=model, stream=specs[-1].stream)
        for topic in (REGISTRY, DEPLOYER, MONITOR):
            for said in _read(reader, topic):
                found.hear(said)
        return found

    def hear(self, said: Envelope) -> None:
        """What others say, once."""
        match said.event:
            case ModelApplied() as event if event.model == self.model:
                self.models.append((said.time, event.revision, event.spec))
            case StreamApplied() as event if event.stream == self.stream:
                self.streams.append((said.time, event.revision, event.spec))
            case RolloutChanged() as event if event.model == self.model:
                self._rollout(event, said.id)
            case RolloutSwitched() as event if event.model == self.model:
                at = self.served_from.get(event.partition, event.offset)
                self.served_from[event.partition] = min(at, event.offset)
            case WindowMeasured() | AlertRaised() | AlertResolved() as event if event.model == self.model:
                self.said.setdefault(said.id, said)
            case DataQuarantined() as event if event.stream == self.stream:
                self.said.setdefault(said.id, said)

    def _rollout(self, event: RolloutChanged, event_id: str) -> None:
        for release in (event.champion, event.challenger):
            if release is not None:
                self.releases[release.version] = release.candidate
        self.rollouts[event.revision] = Rollout(
            revision=event.revision,
            phase=event.phase,
            champion=event.champion.version,
            challenger=event.challenger.version if event.challenger else None,
            said=Said(event_id=event_id),
        )

    @property
    def windows(self) -> list[WindowMeasured]:
        """In the order in which they were said."""
        return [each.event for each in self.said.values() if isinstance(each.event, WindowMeasured)]

    def cuts(self) -> list[Cut]:
        """What the model's windows were computed from, in order."""
        at = {_place(each.event): each.time for each in self.said.values() if isinstance(each.event, WindowMeasured)}
        return cuts_of(self._chain(), lambda window: self._facts(window, at[_place(window)]))

    def _chain(self) -> Iterator[WindowMeasured | AlertResolved]:
        for each in self.said.values():
            match each.event:
                case WindowMeasured() as event:
                    yield event
                case AlertResolved() as event if event.explanation.endswith(SERVES_NO_MORE):
                    yield event

    def _facts(self, window: WindowMeasured, at: datetime) -> StreamFacts:
        """As declared when a window was measured; one from before it named revisions goes by the time it was said."""
        spec = _declared(self.models, window.model_revision, at)
        model = ModelFacts(
            spec=spec,
            revision=window.model_revision,
            releases=self.releases,
            rollouts=self.rollouts,
            served_from=self.served_from,
        )
        stream = _declared(self.streams, window.stream_revision, at)
        return StreamFacts(spec=stream, revision=window.stream_revision, models={self.model: model})


def alert_of(reader: Reader, name: str) -> AlertRaised:
    """The alert of that name.

    Raises:
        Refusal: there is none, or it does not rest on windows.
        Fault, confluent_kafka.KafkaException: the broker does not answer.
    """
    for said in _read(reader, MONITOR):
        if isinstance(said.event, AlertRaised) and said.event.alert == name:
            if said.event.window is None:
                raise Refusal(f"{name} tells of runs, not of what was measured: there is nothing to recompute")
            return said.event
    raise Refusal(f"there is no alert {name!r}; see `modelbus status`")


def _read(reader: Reader, topic: LifecycleTopic) -> Iterator[Envelope]:
    for partition, (start, end) in reader.spans(topic.name).items():
        for batch in reader.read(topic.name, partition, start, end):
            yield from heard(batch)


def _place(window: WindowMeasured) -> tuple[int, int]:
    return window.version, window.window


def _declared(declared: Sequence[tuple[datetime, int, Spec]], revision: int, at: datetime) -> Spec:
    for _, number, spec in declared:
        if number == revision:
            return spec
    before = [spec for said, _, spec in declared if said <= at]
    return before[-1] if before else declared[0][2]
