"""What a parked record carries: the origin's key and bytes untouched, its headers kept, and why it was parked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal["poison", "rejected", "exhausted"]  # unreadable | breaks the contract | failed too often
Headers = Sequence[tuple[str, bytes | None]]
_LONGEST_ERROR = 2000  # characters; leaves room for the original headers


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a record stood; unique, so a letter parked twice is seen as one."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A record that could not be handled."""

    origin: Origin
    service: str
    reason: Reason
    error: str
    attempts: int
    original_headers: Headers = ()

    def headers(self) -> list[tuple[str, bytes | None]]:
        """The original headers, then ours.

        >>> letter = DeadLetter(origin=Origin(topic="data.x", partition=1, offset=7, timestamp_ms=0),
        ...     service="ingestor", reason="rejected", error="distance: expected a number", attempts=1)
        >>> letter.headers()[-3:]
        [('dlq-reason', b'rejected'), ('dlq-error', b'distance: expected a number'), ('dlq-attempts', b'1')]
        """
        ours = {
            "dlq-origin-topic": self.origin.topic,
            "dlq-origin-partition": str(self.origin.partition),
            "dlq-origin-offset": str(self.origin.offset),
            "dlq-origin-timestamp": str(self.origin.timestamp_ms),
            "dlq-service": self.service,
            "dlq-reason": self.reason,
            "dlq-error": self.error[:_LONGEST_ERROR],
            "dlq-attempts": str(self.attempts),
        }
        return [*self.original_headers, *((name, value.encode()) for name, value in ours.items())]
