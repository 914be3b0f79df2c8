"""A release in a rollout, and what is said about it."""

from typing import NamedTuple

from schemas.events.base import Event
from schemas.events.parts import Release
from schemas.specs import Part


class Entrant(Part):
    """A release in the rollout, and the lifecycle that brought it: everything said about it goes on in that trace.

    `served_from` is the revision at which it first met traffic of its own.
    """

    release: Release
    correlation_id: str
    traceparent: str | None = None
    served_from: int | None = None

    @property
    def version(self) -> int:
        return self.release.version


class Said(NamedTuple):
    """An event, and the lifecycle it belongs to."""

    event: Event
    about: Entrant
