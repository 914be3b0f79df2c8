"""Redrives dead letters: the record's copy and the mark that it was redriven, in one Kafka transaction.

All redrivers share one transactional id: who opens last fences the ones before, and their open transactions abort. So
whoever reads the marks after opening knows all there will be but its own, and no record is redriven twice.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from cli.letters import Letter
from schemas.topics import DEAD_LETTERS, MAX_RECORD_BYTES
from shared.dead_letters import Origin, mark_headers, redriven_headers
from shared.errors import Refusal
from shared.settings import KafkaSettings

TRANSACTIONAL_ID: Final = "modelbus.redrive"
_TRANSACTION_SECONDS: Final = 10  # so long a killed redrive holds up the readers of its topics
_OPENING_SECONDS: Final = 30.0


class Redriver:
    """The one who redrives now.

    Raises:
        Refusal: Kafka failed, or somebody else began to redrive; from the constructor and from `redrive`.
    """

    def __init__(self, kafka: KafkaSettings, actor: str) -> None:
        self._actor = actor
        self._producer = Producer(
            kafka.librdkafka()
            | {
                "client.id": "modelbus-redrive",
                "transactional.id": TRANSACTIONAL_ID,
                "transaction.timeout.ms": _TRANSACTION_SECONDS * 1000,
                "message.max.bytes": MAX_RECORD_BYTES,
                "compression.type": "none",
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        try:
            self._producer.init_transactions(_OPENING_SECONDS)
        except KafkaException as error:
            raise Refusal(f"Kafka does not begin: {_words(error)}") from None

    def redrive(self, letters: Sequence[Letter]) -> None:
        """All of them, or none; letters have an origin. Each is written to the partition that it came from."""
        try:
            self._producer.begin_transaction()
            copies = [_Copy(letter) for letter in letters]
            for copy in copies:
                self._put(copy.origin.topic, copy.letter.value, copy.letter.key, copy.headers, copy)
            self._deliver(copies)
            for copy in copies:
                headers = mark_headers(copy.origin, copy.name, self._actor)
                self._put(DEAD_LETTERS, None, copy.letter.key, headers, None)
            self._producer.commit_transaction(_TRANSACTION_SECONDS)
        except KafkaException as error:
            self._abort(error)
            raise Refusal(_words(error)) from None

    def _put(self, topic: str, value: bytes | None, key: bytes | None, headers: Any, copy: "_Copy | None") -> None:
        where: Any = {} if copy is None else {"partition": copy.origin.partition, "on_delivery": copy.delivered}
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, **where)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _deliver(self, copies: Sequence["_Copy"]) -> None:
        try:
            self._producer.flush(_TRANSACTION_SECONDS)
        except SystemError as error:  # the client raises a fatal error before it calls back, and stumbles over it
            raise error.__cause__ or error from None
        for copy in copies:
            if copy.offset is None:
                raise KafkaException(copy.error or KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # its own name

    def _abort(self, cause: KafkaException) -> None:
        """As good as it goes; what stays open ends by its time-out, or when the next redriver opens."""
        if not cause.args[0].fatal():
            try:
                self._producer.abort_transaction(_TRANSACTION_SECONDS)
            except KafkaException as error:
                raise Refusal(f"{_words(cause)}; abort: {_words(error)}") from None


class _Copy:
    """A letter's record on its way back to its topic."""

    def __init__(self, letter: Letter) -> None:
        assert letter.origin is not None
        self.letter = letter
        self.origin: Origin = letter.origin
        self.headers = redriven_headers(letter.headers, letter.origin)
        self.offset: int | None = None
        self.error: KafkaError | None = None

    @property
    def name(self) -> str:
        return f"{self.origin.topic}/{self.origin.partition}/{self.offset}"

    def delivered(self, error: KafkaError | None, message: Any) -> None:
        self.error, self.offset = error, None if error else message.offset()


def batches(letters: Iterator[Letter], *, count: int = 200, size_bytes: int = 4 * 2**20) -> Iterator[list[Letter]]:
    """Bounded in number and bytes; a single letter may be larger."""
    batch: list[Letter] = []
    held = 0
    for letter in letters:
        size = len(letter.value or b"")
        if batch and (len(batch) == count or held + size > size_bytes):
            yield batch
            batch, held = [], 0
        batch.append(letter)
        held += size
    if batch:
        yield batch


def _words(error: KafkaException) -> str:
    cause = error.args[0]
    if cause.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):  # noqa: SLF001
        return "another redrive has begun since; it goes on from here"
    return str(cause.str())
