"""What a parked record carries: the origin's key and bytes untouched, its headers kept, and why it was parked.

A record that is redriven is written to its origin once more, and `dead-letters` gets a mark of it: a record without a
value that names the same origin, and where the copy went. The copy's header `redriven-from` names the letter.

Where letters of an entity were erased, the others were written anew; `dlq-written` says when they first were.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Reason = Literal["poison", "rejected", "exhausted"]  # unreadable | breaks the contract | failed too often
Place = tuple[str, int, int]  # topic, partition, offset
Headers = Sequence[tuple[str, bytes | None]]
REDRIVEN_FROM = "redriven-from"  # topic/partition/offset of the letter's record
WRITTEN = "dlq-written"  # milliseconds since 1970
_OURS = "dlq-"
_LONGEST_ERROR = 2000  # characters; leaves room for the original headers


class Origin(NamedTuple):
    """Where a record stood; unique, so a letter parked twice is seen as one."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    def headers(self) -> list[tuple[str, bytes]]:
        """How letters and marks name it."""
        return [
            ("dlq-origin-topic", self.topic.encode()),
            ("dlq-origin-partition", b"%d" % self.partition),
            ("dlq-origin-offset", b"%d" % self.offset),
            ("dlq-origin-timestamp", b"%d" % self.timestamp_ms),
        ]


class DeadLetter(NamedTuple):
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
        return [
            *self.original_headers,
            *self.origin.headers(),
            ("dlq-service", self.service.encode()),
            ("dlq-reason", self.reason.encode()),
            ("dlq-error", self.error[:_LONGEST_ERROR].encode()),
            ("dlq-attempts", b"%d" % self.attempts),
        ]


def original_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """What the record came with, less our own: `dlq-` is reserved.

    >>> original_headers([("a", b"1"), ("dlq-reason", b"poison")])
    [('a', b'1')]
    """
    return [(name, value) for name, value in headers if not name.startswith(_OURS)]


def redriven_headers(letter: Headers, origin: Origin) -> list[tuple[str, bytes | None]]:
    """Those of the copy: the original ones, and which letter it comes from (the last, if it died before)."""
    kept = [(name, value) for name, value in original_headers(letter) if name != REDRIVEN_FROM]
    return [*kept, (REDRIVEN_FROM, str(origin).encode())]


def mark_headers(origin: Origin, copy: str, actor: str) -> list[tuple[str, bytes]]:
    """Of the mark that the record at `origin` was redriven to `copy`, topic/partition/offset."""
    return [*origin.headers(), ("dlq-redriven-to", copy.encode()), ("dlq-redriven-by", actor.encode())]


def origin_of(headers: Headers) -> Place | None:
    """Topic, partition and offset of a letter's or mark's record; None where they are not said in full.

    >>> origin_of(mark_headers(Origin(topic="data.x", partition=1, offset=7, timestamp_ms=0), "data.x/1/9", "ann"))
    ('data.x', 1, 7)
    """
    said = {name: (value or b"").decode(errors="replace") for name, value in headers}
    topic, partition, offset = (said.get(f"dlq-origin-{part}", "") for part in ("topic", "partition", "offset"))
    return (topic, int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None


def kept_headers(headers: Headers, written_ms: int) -> list[tuple[str, bytes | None]]:
    """Those of a letter or mark that is written anew: its own, and when it was written first.

    >>> kept_headers([("a", b"1")], 5) == kept_headers(kept_headers([("a", b"1")], 5), 9)
    True
    """
    return [*headers] if WRITTEN in dict(headers) else [*headers, (WRITTEN, b"%d" % written_ms)]


def is_mark(headers: Headers) -> bool:
    """Whether a record of `dead-letters` is a mark; a letter says a reason, whatever its record came with.

    >>> origin = Origin(topic="data.x", partition=1, offset=7, timestamp_ms=0)
    >>> is_mark(mark_headers(origin, "data.x/1/9", "ann"))
    True
    """
    names = {name for name, _ in headers}
    return "dlq-redriven-to" in names and "dlq-reason" not in names
