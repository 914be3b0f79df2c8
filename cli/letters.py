"""Dead letters as people see them: read from the topic, with what became of them, and narrowed down."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from confluent_kafka import KafkaException

from cli.client import fail, settings
from schemas.topics import DATA_PLANE, DEAD_LETTERS
from shared.dead_letters import WRITTEN, Origin, is_mark
from shared.errors import Fault
from shared.reading import Reader, headers_of
from shared.settings import KafkaSettings


class Reason(StrEnum):
    """Why a record was parked."""

    POISON = "poison"
    REJECTED = "rejected"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter: where it lies, where its record came from, what was wrong with it, and the record itself.

    `origin` is None where the letter does not say it in full.
    """

    place: str
    name: str
    origin: Origin | None
    service: str
    reason: str
    error: str
    attempts: str
    written: datetime
    headers: tuple[tuple[str, bytes | None], ...]
    key: bytes | None
    value: bytes | None

    @property
    def topic(self) -> str:
        return self.name.rsplit("/", 2)[0]

    @property
    def truncated(self) -> bool:
        """Whether its value was cut to fit; the record is not whole."""
        return any(name == "dlq-truncated" for name, _ in self.headers)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """That a record was redriven: from where, to where, by whom."""

    name: str
    copy: str
    by: str
    written: datetime

    def __str__(self) -> str:
        return f"{self.written.isoformat(sep=' ', timespec='seconds')} by {self.by} to {self.copy}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which letters; what is not given does not narrow."""

    stream: str | None = None
    topic: str | None = None
    service: str | None = None
    reason: Reason | None = None
    since: datetime | None = None
    origins: Sequence[str] = field(default=())

    def __contains__(self, letter: Letter) -> bool:
        topics = None if self.stream is None else {family.of(self.stream) for family in DATA_PLANE}
        return (
            (topics is None or letter.topic in topics)
            and self.topic in (None, letter.topic)
            and self.service in (None, letter.service)
            and self.reason in (None, letter.reason)
            and (self.since is None or letter.written >= self.since)
            and (not self.origins or letter.name in self.origins)
        )


def printable(text: str) -> str:
    """What a terminal may be given: a record must not be able to move the cursor or change colours.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def read() -> Iterator[Letter | Mark]:
    """All letters and marks up to the present end, oldest first; joins no group and commits nothing."""
    try:
        with Reader(settings(KafkaSettings), "modelbus.cli") as reader:
            for partition, span in reader.spans(DEAD_LETTERS).items():
                for batch in reader.read(DEAD_LETTERS, partition, *span):
                    yield from map(_read, batch)
    except KafkaException as error:
        fail(f"Kafka does not answer: {error.args[0].str()}")
    except Fault as error:
        fail(str(error))


def _read(message: Any) -> Letter | Mark:
    headers = tuple(headers_of(message))
    said = {name: (value or b"").decode(errors="backslashreplace") for name, value in headers}
    where = [said.get(f"dlq-origin-{part}", "?") for part in ("topic", "partition", "offset")]
    name, first = "/".join(where), said.get(WRITTEN, "")
    written = datetime.fromtimestamp((int(first) if first.isdecimal() else message.timestamp()[1]) / 1000, UTC)
    if is_mark(headers):
        return Mark(name=name, copy=said["dlq-redriven-to"], by=said.get("dlq-redriven-by", "?"), written=written)
    return Letter(
        place=f"{message.partition()}/{message.offset()}",
        name=name,
        origin=_origin(where, said.get("dlq-origin-timestamp", "0")),
        service=said.get("dlq-service", "?"),
        reason=said.get("dlq-reason", "?"),
        error=said.get("dlq-error", "?"),
        attempts=said.get("dlq-attempts", "?"),
        written=written,
        headers=headers,
        key=message.key(),
        value=message.value(),
    )


def _origin(where: list[str], timestamp_ms: str) -> Origin | None:
    topic, partition, offset = where
    if not (partition.isdecimal() and offset.isdecimal() and timestamp_ms.isdecimal()):
        return None
    return Origin(topic=topic, partition=int(partition), offset=int(offset), timestamp_ms=int(timestamp_ms))
