"""A consumer of whole batches: what `confluent_kafka.Consumer` does, with messages as columns instead of objects.

To make an object of a message, and to ask it for its parts, takes longer than all that Kafka's client does to fetch it.
So that client is called directly (`shared.librdkafka`), and a message stays where the client put it until nobody needs
it.
"""

import ctypes
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from numpy.typing import NDArray

from shared.dead_letters import Headers
from shared.librdkafka import (
    CONSUMER,
    ERROR_BYTES,
    NO_CONSUMER_CLOSE,
    Log,
    Message,
    Rebalance,
    check,
    check_error,
    librdkafka,
    listed,
    partitions_of,
)
from shared.native import Native, check_layout, native, place_of
from shared.spans import Spans

_LEVELS: Final = [logging.CRITICAL] * 3 + [logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG]
_FATAL, _ASSIGN = KafkaError._FATAL, KafkaError._ASSIGN_PARTITIONS  # noqa: SLF001  # the client's own names for them
_INVALID = KafkaError._INVALID_ARG  # noqa: SLF001  # likewise
Rebalanced: TypeAlias = Callable[[list[TopicPartition]], None]


class _Library:
    """fetching.c."""

    def __init__(self, library: Native) -> None:
        self.spread, self.release = library.freeing.modelbus_spread, library.freeing.modelbus_release
        self.spread.argtypes, self.spread.restype = [ctypes.c_int64, *[ctypes.c_void_p] * 9], None
        self.release.argtypes, self.release.restype = [ctypes.c_int64, *[ctypes.c_void_p] * 2], None
        check_layout(library.keeping.modelbus_message_bytes, Message)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """n messages of one topic, those of each partition in its order."""

    topic: str
    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    keys: Spans
    values: Spans
    messages: NDArray[np.int64]  # their addresses, for as long as `keys` or `values` live

    def __len__(self) -> int:
        return len(self.messages)

    def timestamp_ms(self, row: int) -> int:
        """Since 1970; -1 where a message has none."""
        at: int = librdkafka().message_timestamp(int(self.messages[row]), ctypes.c_int())
        return at

    def headers(self, row: int) -> Headers:
        """As the producer wrote them; none where a name is not UTF-8, which the protocol does not check."""
        library, headers = librdkafka(), ctypes.c_void_p()
        if library.message_headers(int(self.messages[row]), headers):
            return ()
        name, value, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
        found = list[tuple[str, bytes | None]]()
        try:
            while not library.header_get_all(headers, len(found), name, value, size):
                said = ctypes.string_at(value.value, size.value) if value.value else None
                found.append(((name.value or b"").decode(), said))
        except UnicodeDecodeError:
            return ()
        return found


class ColumnConsumer:
    """A member of a group with incremental rebalances; raises KafkaException where the client reports an error.

    `settings` are the properties of confluent-kafka, without callbacks; "group.id" is one of them. All methods belong
    to one thread at a time, and the client logs in it, from `fetch` and `close`; what it says later is lost.
    """

    def __init__(self, settings: Mapping[str, Any], log: logging.Logger) -> None:
        self._rebalance = Rebalance(self._rebalanced)  # to be kept for as long as the client may call it
        self._client = _Client(settings, self._rebalance, log)
        self._log = log
        self._library = librdkafka()
        self._on_assign: Rebalanced = self.incremental_assign
        self._on_revoke: Rebalanced = lambda _: None
        self._raised: BaseException | None = None
        self._room = np.empty(0, np.int64)

    def subscribe(self, topics: Sequence[str], *, on_assign: Rebalanced, on_revoke: Rebalanced) -> None:
        """Both are called from `fetch` and `close`, which then raise what they raise; what was fetched is given up.

        `on_assign` has to assign the partitions: a consumer with which it did not must be closed. Those that
        `on_revoke` was called with, also where they are lost, are unassigned after it.
        """
        self._on_assign, self._on_revoke = on_assign, on_revoke
        check(self._tell(self._library.subscribe, [TopicPartition(topic) for topic in topics]))

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these, too, from their offsets."""
        check_error(self._tell(self._library.incremental_assign, partitions))

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these no longer; forgets what was fetched ahead of them."""
        check_error(self._tell(self._library.incremental_unassign, partitions))

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Those that are not assigned are left out, as in `resume`."""
        check(self._tell(self._library.pause_partitions, partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        check(self._tell(self._library.resume_partitions, partitions))

    def commit(self, offsets: Sequence[TopicPartition]) -> None:
        """Ask for it; the answer is not waited for."""
        check(self._tell(self._library.commit, offsets, True))

    def _tell(self, call: Callable[..., Any], partitions: Sequence[TopicPartition], *more: Any) -> Any:
        with listed(partitions) as said:
            return call(self._client.handle, said, *more)

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """So many messages at most, topic by topic, after waiting so long for them; errors are logged.

        Raises:
            KafkaException: the client is beyond repair.
        """
        if len(self._room) < most:
            self._room = np.empty(most, np.int64)
        count = self._library.consume_batch_queue(self._client.queue, int(seconds * 1000), place_of(self._room), most)
        messages = _Messages(self._client, self._room[: max(count, 0)].copy())
        self._raise()
        if count < 0:
            raise KafkaException(KafkaError(self._library.last_error()))
        return [*self._by_topic(messages)] if count else []

    def close(self) -> None:
        """Leave the group, partitions first. The client ends once Python has forgotten this and what was fetched."""
        self._library.consumer_close(self._client.handle)  # also of one that is beyond repair
        self._raise()

    def _by_topic(self, messages: "_Messages") -> Iterator[Fetched]:
        columns = messages.columns()
        if columns.errors.any():
            for row in np.flatnonzero(columns.errors).tolist():
                self._failed(columns, row)
            columns = columns.where(columns.errors == 0)
        while len(columns.topics):
            topic = int(columns.topics[0])
            name, mine = self._library.topic_name(topic).decode(), columns.topics == topic
            if mine.all():
                yield columns.fetched(name, messages)
                return
            yield columns.where(mine).fetched(name, messages)
            columns = columns.where(~mine)

    def _failed(self, columns: "_Columns", row: int) -> None:
        message, code, topic = int(columns.messages[row]), int(columns.errors[row]), int(columns.topics[row])
        fatal = code == _FATAL or self._library.fatal_error(self._client.handle, None, 0) != 0
        error = KafkaError(code, (self._library.message_errstr(message) or b"").decode(errors="replace"), fatal=fatal)
        if fatal:
            raise KafkaException(error)
        self._log.warning("%s: %s", self._library.topic_name(topic).decode() if topic else "consumer", error)

    def _rebalanced(self, _: int, code: int, said: Any, __: int) -> None:
        """Called by the client, to which nothing may be raised."""
        try:
            partitions = partitions_of(said)
            if code == _ASSIGN:
                self._on_assign(partitions)
                return
            try:
                self._on_revoke(partitions)
            finally:
                self.incremental_unassign(partitions)
        except BaseException as error:
            self._raised = self._raised or error

    def _raise(self) -> None:
        """What a callback has raised."""
        if raised := self._raised:
            self._raised = None
            raise raised


class _Client:
    """librdkafka's handle and queue; they end after the last that needs them, which may be a message.

    It calls nobody but in a thread that has called it: what Python finds to be garbage while a thread of its own logs
    may be this client, and that must not be ended by such a thread.
    """

    def __init__(self, settings: Mapping[str, Any], rebalance: Any, log: logging.Logger) -> None:
        library = librdkafka()
        logs = Log(lambda _, level, what, text: log.log(_LEVELS[level], "%s: %s", _text(what), _text(text)))
        error, conf = ctypes.create_string_buffer(ERROR_BYTES), library.conf_new()
        for name, value in {**settings, "log.queue": True}.items():
            given = str(value).lower() if isinstance(value, bool) else str(value)
            if library.conf_set(conf, name.encode(), given.encode(), error, ERROR_BYTES):
                library.conf_destroy(conf)
                raise KafkaException(KafkaError(_INVALID, _text(error.value)))
        library.conf_set_log_cb(conf, logs)
        library.conf_set_rebalance_cb(conf, rebalance)
        self.handle = library.new(CONSUMER, conf, error, ERROR_BYTES)
        if self.handle is None:
            library.conf_destroy(conf)
            raise KafkaException(KafkaError(library.last_error(), _text(error.value)))
        failed = library.set_log_queue(self.handle, None) or library.poll_set_consumer(self.handle)
        self.queue = None if failed else library.queue_get_consumer(self.handle)
        weakref.finalize(self, _end, self.handle, self.queue, logs)
        check(failed)


def _end(handle: int, queue: int | None, _: object) -> None:
    if queue is not None:
        librdkafka().queue_destroy(queue)
    librdkafka().destroy_flags(handle, NO_CONSUMER_CLOSE)


def _text(said: bytes) -> str:
    return said.decode(errors="replace")


class _Columns(NamedTuple):
    """What messages say of themselves."""

    messages: NDArray[np.int64]
    errors: NDArray[np.int32]
    topics: NDArray[np.int64]
    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    keys: NDArray[np.int64]
    key_sizes: NDArray[np.int64]
    values: NDArray[np.int64]
    value_sizes: NDArray[np.int64]

    def where(self, kept: NDArray[np.bool_]) -> "_Columns":
        columns: Iterable[Any] = (column[kept] for column in self)
        return _Columns(*columns)

    def fetched(self, topic: str, held: object) -> Fetched:
        return Fetched(
            topic=topic,
            partitions=self.partitions,
            offsets=self.offsets,
            keys=Spans(self.keys, self.key_sizes, held),
            values=Spans(self.values, self.value_sizes, held),
            messages=self.messages,
        )


_TYPES: Final = np.int32, np.int64, np.int32, *[np.int64] * 5  # of the columns after the first


class _Messages:
    """Messages of the client, which it gets back once nobody holds this."""

    def __init__(self, client: _Client, addresses: NDArray[np.int64]) -> None:
        self._addresses = addresses
        weakref.finalize(self, _release, addresses, client)

    def columns(self) -> _Columns:
        if (library := native(_Library)) is None:
            return self.columns_by_python()
        columns = [np.empty(len(self._addresses), kind) for kind in _TYPES]  # one by one: some live longer than others
        library.spread(len(self._addresses), place_of(self._addresses), *map(place_of, columns))
        return _Columns(self._addresses, *columns)

    def columns_by_python(self) -> _Columns:
        """`columns` by Python."""
        rows = [
            (m.error, m.topic or 0, m.partition, m.offset, m.key or 0, m.key_size, m.value or 0, m.value_size)
            for m in map(Message.from_address, self._addresses.tolist())
        ]
        columns = zip(zip(*rows, strict=True), _TYPES, strict=True)
        return _Columns(self._addresses, *(np.array(column, kind) for column, kind in columns))


def _release(addresses: NDArray[np.int64], _: _Client) -> None:
    destroy = librdkafka().message_destroy
    if (library := native(_Library)) is None:
        for address in addresses.tolist():
            destroy(address)
    else:
        library.release(len(addresses), place_of(addresses), ctypes.cast(destroy, ctypes.c_void_p))
