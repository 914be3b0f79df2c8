"""What is to be said, with its derived id and its place in a lifecycle."""

import uuid
from dataclasses import dataclass

from schemas.events.base import Event
from services.monitor.domain.facts import Said
from shared.outbox import Work

SERVES_NO_MORE = "serves no more"
_IDS = uuid.UUID("6d6f6e69-746f-5f72-8000-6d6f64656c62")


def event_id(*parts: object) -> str:
    """The id of an event that may be derived again, and must then be the same.

    >>> event_id("a", 1) == event_id("a", 1) != event_id("a", 2)
    True
    """
    return str(uuid.uuid5(_IDS, "/".join(str(part) for part in parts)))


@dataclass(frozen=True, kw_only=True)
class Word:
    """An event to be said; it goes on from `after`, if anything."""

    event: Event
    id: str
    correlation_id: str | None = None
    after: Said | None = None

    async def say(self, work: Work) -> None:
        after = self.after
        await work.emit(
            self.event,
            id=self.id,
            correlation_id=self.correlation_id or (after.correlation_id if after else None),
            causation_id=after.event_id if after else None,
            traceparent=after.traceparent if after else None,
        )
