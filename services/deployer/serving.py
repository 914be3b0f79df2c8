"""What a scorer knows and has loaded: an immutable picture that the view paints and the stream reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged
from schemas.events.parts import Release
from schemas.specs import StreamSpec
from shared import telemetry
from shared.runtime import Model

SOURCE = "modelbus/deployer"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A release with its model in memory, warmed up."""

    release: Release
    model: Model


@dataclass(frozen=True, kw_only=True)
class Serving:
    """One revision of a model's rollout, everything it needs loaded; `said` is the envelope that ordered it."""

    changed: RolloutChanged
    said: Envelope
    champion: Version
    challenger: Version | None

    def follow_up(self, event: Event, id: str) -> Envelope:
        """An event caused by this revision, in its lifecycle and under the current span."""
        return follow_up(self.said, event, id)


def follow_up(said: Envelope, event: Event, id: str) -> Envelope:
    """The envelope of an event that a scorer says because of what it heard."""
    return Envelope(
        id=id,
        source=SOURCE,
        time=datetime.now(UTC),
        correlation_id=said.correlation_id,
        causation_id=said.id,
        traceparent=telemetry.current_traceparent() or said.traceparent,
        event=event,
    )


@dataclass(frozen=True, kw_only=True)
class Known:
    """Streams and models declared so far, and what serves each model that has a champion."""

    streams: Mapping[str, StreamSpec] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)  # model → its stream
    serving: Mapping[str, Serving] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()  # models that have a champion, none of whose revisions is loaded yet

    def models_of(self, stream: str) -> list[str]:
        return [model for model, of in self.models.items() if of == stream]

    def revisions_of(self, stream: str) -> Mapping[str, int]:
        """The revision of every served model of a stream."""
        return self._revisions.get(stream, {})

    @cached_property
    def _revisions(self) -> Mapping[str, Mapping[str, int]]:
        """By stream: it is asked for each partition, for each batch."""
        found: dict[str, dict[str, int]] = {}
        for model, serving in self.serving.items():
            if (stream := self.models.get(model)) is not None:
                found.setdefault(stream, {})[model] = serving.changed.revision
        return found

    def awaits(self, stream: str) -> bool:
        """Whether a model of the stream has a champion that is not loaded yet, but may be."""
        return any(model in self.awaited for model in self.models_of(stream))
