"""`modelbus dead-letters`: the records that could not be handled, and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from confluent_kafka import Consumer, KafkaException, TopicPartition
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.topics import DATA_PLANE, DEAD_LETTERS
from shared.settings import KafkaSettings

app = typer.Typer(help="Records that could not be handled, and why.", no_args_is_help=True)
_SHOWN_CHARACTERS: Final = 4000
_PREFIX: Final = "dlq-"
console = Console()


class Reason(StrEnum):
    """Why a record was parked."""

    POISON = "poison"
    REJECTED = "rejected"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter: where it lies, where its record came from, what was wrong with it, and the record itself."""

    place: str
    origin: str
    topic: str
    service: str
    reason: str
    error: str
    attempts: str
    written: datetime
    headers: tuple[tuple[str, bytes | None], ...]
    key: bytes | None
    value: bytes | None


@app.command("list")
def list_letters(
    stream: Annotated[str | None, typer.Option(help="Only of this stream's (or model's) topics.")] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only parked for this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> None:
    """The newest dead letters, one a record however often it was parked."""
    found: dict[str, Letter] = {}
    seen: set[str] = set()
    for letter in _read():
        if letter.origin in seen or not _wanted(letter, stream, reason):
            continue
        seen.add(letter.origin)
        found[letter.origin] = letter
        if len(found) > limit:
            found.pop(next(iter(found)))
    table = Table("letter", "record", "reason", "by", "written", "bytes", "error", box=None, pad_edge=False)
    for letter in found.values():
        written = letter.written.isoformat(sep=" ", timespec="seconds")
        cells = (letter.place, letter.origin, letter.reason, letter.service, written, str(len(letter.value or b"")))
        table.add_row(*(Text(printable(cell)) for cell in cells), Text(printable(letter.error), overflow="fold"))
    console.print(table)
    console.print(f"{len(found)} of {len(seen)} records", highlight=False)


@app.command("show")
def show_letter(
    name: Annotated[
        str, typer.Argument(help="PARTITION/OFFSET of the letter, or TOPIC/PARTITION/OFFSET of its record.")
    ],
) -> None:
    """One dead letter: why, its headers, its key and its bytes; control characters are escaped."""
    letter = next((letter for letter in _read() if name in {letter.place, letter.origin}), None)
    if letter is None:
        raise _refused(f"there is no dead letter {name}; see `modelbus dead-letters list`")
    facts = {
        "letter": letter.place,
        "record": letter.origin,
        "reason": letter.reason,
        "error": letter.error,
        "by": letter.service,
        "attempts": letter.attempts,
        "written": letter.written.isoformat(),
        **{f"header {name}": _text(value) for name, value in letter.headers if not name.startswith(_PREFIX)},
        "key": _text(letter.key),
        "value": _text(letter.value),
    }
    if size := dict(letter.headers).get("dlq-truncated"):
        facts["cut"] = f"the value as it was sent had {_text(size)} bytes"
    table = Table(box=None, show_header=False, pad_edge=False)
    for fact, value in facts.items():
        table.add_row(Text(printable(fact)), Text(printable(value), overflow="fold"))
    console.print(table)


def printable(text: str) -> str:
    """What a terminal may be given: a record must not be able to move the cursor or change colours.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _text(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    text = value.decode(errors="backslashreplace")
    rest = len(text) - _SHOWN_CHARACTERS
    return text if rest <= 0 else f"{text[:_SHOWN_CHARACTERS]}… ({rest} more characters, {len(value)} bytes in all)"


def _wanted(letter: Letter, stream: str | None, reason: Reason | None) -> bool:
    topics = None if stream is None else {family.of(stream) for family in DATA_PLANE}
    return (topics is None or letter.topic in topics) and (reason is None or letter.reason == reason)


def _read() -> Iterator[Letter]:
    """All letters up to the present end, oldest first; joins no group and commits nothing."""
    try:
        consumer = Consumer(
            KafkaSettings().librdkafka()
            | {"group.id": "modelbus.cli", "enable.auto.commit": False, "isolation.level": "read_committed"}
        )
    except ValidationError as error:
        raise _refused(f"no stack found: {error.error_count()} settings are missing; see `modelbus up`") from None
    try:
        for partition in consumer.list_topics(DEAD_LETTERS, timeout=10).topics[DEAD_LETTERS].partitions:
            yield from _read_partition(consumer, partition)
    except KafkaException as error:
        raise _refused(f"Kafka does not answer: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _read_partition(consumer: Consumer, partition: int) -> Iterator[Letter]:
    low, high = consumer.get_watermark_offsets(TopicPartition(DEAD_LETTERS, partition), timeout=10)
    place = low
    if low < high:
        consumer.assign([TopicPartition(DEAD_LETTERS, partition, low)])
    while place < high:
        for message in consumer.consume(500, 1.0):
            if error := message.error():
                raise KafkaException(error)
            yield _letter(message)
        place = max(place, consumer.position([TopicPartition(DEAD_LETTERS, partition)])[0].offset)


def _letter(message: Any) -> Letter:
    headers = tuple(message.headers() or ())
    said = {name: (value or b"").decode(errors="backslashreplace") for name, value in headers}
    topic = said.get("dlq-origin-topic", "?")
    return Letter(
        place=f"{message.partition()}/{message.offset()}",
        origin=f"{topic}/{said.get('dlq-origin-partition', '?')}/{said.get('dlq-origin-offset', '?')}",
        topic=topic,
        service=said.get("dlq-service", "?"),
        reason=said.get("dlq-reason", "?"),
        error=said.get("dlq-error", "?"),
        attempts=said.get("dlq-attempts", "?"),
        written=datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
        headers=headers,
        key=message.key(),
        value=message.value(),
    )


def _refused(message: str) -> typer.Exit:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False)
    return typer.Exit(1)
