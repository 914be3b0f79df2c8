"""A consumer of whole batches: what `confluent_kafka.Consumer` does, with messages as columns instead of objects.

To make an object of a message, and to ask it for its parts, takes longer than all that Kafka's client does to fetch it.
So the client that confluent-kafka brings along, librdkafka, is called here by its public functions (rdkafka.h), and a
message stays where the client put it until nobody needs it.
"""

import ctypes
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition, cimpl
from numpy.typing import NDArray

from shared.dead_letters import Headers
from shared.native import Native, check_layout, native, place_of
from shared.spans import Spans

_ERROR_BYTES: Final = 512
_CONSUMER: Final = 1  # rd_kafka_type_t
_NO_CONSUMER_CLOSE: Final = 8  # RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE
_LEVELS: Final = [logging.CRITICAL] * 3 + [logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG]
_FATAL, _ASSIGN = KafkaError._FATAL, KafkaError._ASSIGN_PARTITIONS  # noqa: SLF001  # the client's own names for them
Rebalanced: TypeAlias = Callable[[list[TopicPartition]], None]


class _Place(ctypes.Structure):
    """rd_kafka_topic_partition_t."""

    _fields_ = (
        ("topic", ctypes.c_char_p),
        ("partition", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("metadata", ctypes.c_void_p),
        ("metadata_size", ctypes.c_size_t),
        ("opaque", ctypes.c_void_p),
        ("error", ctypes.c_int),
        ("theirs", ctypes.c_void_p),
    )


class _Places(ctypes.Structure):
    """rd_kafka_topic_partition_list_t."""

    _fields_ = (("count", ctypes.c_int), ("size", ctypes.c_int), ("each", ctypes.POINTER(_Place)))


class _Message(ctypes.Structure):
    """rd_kafka_message_t; `struct message` of fetching.c."""

    _fields_ = (
        ("error", ctypes.c_int32),
        ("topic", ctypes.c_void_p),
        ("partition", ctypes.c_int32),
        ("value", ctypes.c_void_p),
        ("value_size", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_size", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("theirs", ctypes.c_void_p),
    )


_Rebalance = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Places), ctypes.c_void_p)
_Log = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)


@cache
def _librdkafka() -> ctypes.CDLL:
    """The very one that confluent-kafka was linked with; while it is called others may use Python."""
    library = ctypes.CDLL(cimpl.__file__)
    pointer, number, text, places = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_Places)
    size, out = ctypes.c_size_t, ctypes.POINTER
    for name, result, *arguments in (
        ("conf_new", pointer),
        ("conf_destroy", None, pointer),
        ("conf_set", number, pointer, text, text, text, size),
        ("conf_set_log_cb", None, pointer, _Log),
        ("conf_set_rebalance_cb", None, pointer, _Rebalance),
        ("new", pointer, number, pointer, text, size),
        ("destroy_flags", None, pointer, number),
        ("poll_set_consumer", number, pointer),
        ("queue_get_consumer", pointer, pointer),
        ("queue_destroy", None, pointer),
        ("consume_batch_queue", ctypes.c_ssize_t, pointer, number, pointer, size),
        ("consumer_close", number, pointer),
        ("subscribe", number, pointer, places),
        ("incremental_assign", pointer, pointer, places),
        ("incremental_unassign", pointer, pointer, places),
        ("pause_partitions", number, pointer, places),
        ("resume_partitions", number, pointer, places),
        ("commit", number, pointer, places, number),
        ("topic_partition_list_new", places, number),
        ("topic_partition_list_add", out(_Place), places, text, ctypes.c_int32),
        ("topic_partition_list_destroy", None, places),
        ("topic_name", text, pointer),
        ("message_errstr", text, pointer),
        ("message_timestamp", ctypes.c_int64, pointer, out(number)),
        ("message_headers", number, pointer, out(pointer)),
        ("message_destroy", None, pointer),
        ("header_get_all", number, pointer, size, out(text), out(pointer), out(size)),
        ("last_error", number),
        ("fatal_error", number, pointer, text, size),
        ("error_code", number, pointer),
        ("error_string", text, pointer),
        ("error_destroy", None, pointer),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


class _Library:
    """fetching.c."""

    def __init__(self, library: Native) -> None:
        self.spread, self.release = library.freeing.modelbus_spread, library.freeing.modelbus_release
        self.spread.argtypes, self.spread.restype = [ctypes.c_int64, *[ctypes.c_void_p] * 9], None
        self.release.argtypes, self.release.restype = [ctypes.c_int64, *[ctypes.c_void_p] * 2], None
        check_layout(library.keeping.modelbus_message_bytes, _Message)


@dataclass(frozen=True)
class Fetched:
    """n messages of one topic, those of each partition in its order."""

    topic: str
    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    keys: Spans
    values: Spans
    messages: NDArray[np.int64]  # where they are, for as long as `keys` or `values` live

    def __len__(self) -> int:
        return len(self.messages)

    def timestamp_ms(self, row: int) -> int:
        """Since 1970; -1 where a message has none."""
        at: int = _librdkafka().message_timestamp(int(self.messages[row]), ctypes.c_int())
        return at

    def headers(self, row: int) -> Headers:
        """As the producer wrote them; none where a name is not UTF-8, which the protocol does not check."""
        library, headers = _librdkafka(), ctypes.c_void_p()
        name, value, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
        found = list[tuple[str, bytes | None]]()
        if library.message_headers(int(self.messages[row]), headers):
            return found
        try:
            while not library.header_get_all(headers, len(found), name, value, size):
                said = ctypes.string_at(value.value, size.value) if value.value else None
                found.append(((name.value or b"").decode(), said))
        except UnicodeDecodeError:
            return ()
        return found


class ColumnConsumer:
    """A member of a group with incremental rebalances; raises KafkaException where the client reports an error.

    `settings` are the properties of confluent-kafka, without callbacks. All methods belong to one thread at a time.
    """

    def __init__(self, settings: Mapping[str, Any], log: logging.Logger) -> None:
        self._rebalance = _Rebalance(self._rebalanced)  # to be kept for as long as the client may call it
        self._client = _Client(settings, self._rebalance, log)
        self._log = log
        self._library = _librdkafka()
        self._on_assign: Rebalanced = self.incremental_assign
        self._on_revoke: Rebalanced = lambda _: None
        self._raised: BaseException | None = None
        self._room = np.empty(0, np.int64)

    def subscribe(self, topics: Sequence[str], *, on_assign: Rebalanced, on_revoke: Rebalanced) -> None:
        """Both are called from `fetch` and `close`, which then raise what they raise.

        `on_assign` has to assign the partitions; those that `on_revoke` was called with, also where they are lost, are
        unassigned after it.
        """
        self._on_assign, self._on_revoke = on_assign, on_revoke
        with _listed([TopicPartition(topic) for topic in topics]) as places:
            _check(self._library.subscribe(self._client.handle, places))

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these, too, from their offsets."""
        with _listed(partitions) as places:
            _check_object(self._library.incremental_assign(self._client.handle, places))

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these no longer; forgets what was fetched ahead of them."""
        with _listed(partitions) as places:
            _check_object(self._library.incremental_unassign(self._client.handle, places))

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        with _listed(partitions) as places:
            _check(self._library.pause_partitions(self._client.handle, places))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        with _listed(partitions) as places:
            _check(self._library.resume_partitions(self._client.handle, places))

    def commit(self, offsets: Sequence[TopicPartition]) -> None:
        """Ask for it; the answer is not waited for."""
        with _listed(offsets) as places:
            _check(self._library.commit(self._client.handle, places, True))

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
        """Leave the group, partitions first; what has been fetched stays."""
        self._library.consumer_close(self._client.handle)  # also of a client that is beyond repair
        self._raise()

    def _by_topic(self, messages: "_Messages") -> Iterator[Fetched]:
        columns = messages.columns()
        if columns.errors.any():
            for row in np.flatnonzero(columns.errors).tolist():
                self._failed(int(messages.places[row]), columns, row)
            columns = columns.where(columns.errors == 0)
        while len(columns.topics):
            topic = int(columns.topics[0])
            mine = columns.topics == topic
            of_topic, columns = (columns if mine.all() else columns.where(mine)), columns.where(~mine)
            yield of_topic.fetched(self._library.topic_name(topic).decode(), messages)

    def _failed(self, message: int, columns: "_Columns", row: int) -> None:
        code, topic = int(columns.errors[row]), int(columns.topics[row])
        fatal = code == _FATAL or self._library.fatal_error(self._client.handle, None, 0) != 0
        error = KafkaError(code, (self._library.message_errstr(message) or b"").decode(errors="replace"), fatal=fatal)
        if fatal:
            raise KafkaException(error)
        self._log.warning("%s: %s", self._library.topic_name(topic).decode() if topic else "consumer", error)

    def _rebalanced(self, _: int, code: int, places: Any, __: int) -> None:
        """Called by the client, to which nothing may be raised."""
        listed = places.contents
        partitions = [
            TopicPartition(each.topic.decode(), each.partition, each.offset) for each in listed.each[: listed.count]
        ]
        try:
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
    """librdkafka's handle and queue; they end after the last that needs them, which may be a message."""

    def __init__(self, settings: Mapping[str, Any], rebalance: Any, log: logging.Logger) -> None:
        library = _librdkafka()
        self._log = _Log(
            lambda _, level, what, said: log.log(_LEVELS[level], "%s: %s", what.decode(), said.decode(errors="replace"))
        )
        error, conf = ctypes.create_string_buffer(_ERROR_BYTES), library.conf_new()
        for name, value in settings.items():
            said = str(value).lower() if isinstance(value, bool) else str(value)
            if library.conf_set(conf, name.encode(), said.encode(), error, _ERROR_BYTES):
                library.conf_destroy(conf)
                raise KafkaException(KafkaError(KafkaError._INVALID_ARG, error.value.decode()))  # noqa: SLF001
        library.conf_set_log_cb(conf, self._log)
        library.conf_set_rebalance_cb(conf, rebalance)
        self.handle = library.new(_CONSUMER, conf, error, _ERROR_BYTES)
        if self.handle is None:
            library.conf_destroy(conf)
            raise KafkaException(KafkaError(library.last_error(), error.value.decode()))
        library.poll_set_consumer(self.handle)
        self.queue = library.queue_get_consumer(self.handle)
        weakref.finalize(self, _end, self.handle, self.queue, self._log)


def _end(handle: int, queue: int, _: object) -> None:
    _librdkafka().queue_destroy(queue)
    _librdkafka().destroy_flags(handle, _NO_CONSUMER_CLOSE)


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
        keys, values = Spans(self.keys, self.key_sizes, held), Spans(self.values, self.value_sizes, held)
        return Fetched(topic, self.partitions, self.offsets, keys, values, self.messages)


_TYPES: Final = np.int32, np.int64, np.int32, *[np.int64] * 5  # of the columns after the first


class _Messages:
    """Messages of the client, which it gets back once nobody holds this."""

    def __init__(self, client: _Client, places: NDArray[np.int64]) -> None:
        self.places = places
        weakref.finalize(self, _release, places, client)

    def columns(self) -> _Columns:
        if (library := native(_Library)) is None:
            return self.columns_by_python()
        columns = [np.empty(len(self.places), kind) for kind in _TYPES]  # one by one: some live longer than others
        library.spread(len(self.places), place_of(self.places), *map(place_of, columns))
        return _Columns(self.places, *columns)

    def columns_by_python(self) -> _Columns:
        """`columns` by Python."""
        rows = [
            (m.error, m.topic or 0, m.partition, m.offset, m.key or 0, m.key_size, m.value or 0, m.value_size)
            for m in map(_Message.from_address, self.places.tolist())
        ]
        columns = zip(zip(*rows, strict=True), _TYPES, strict=True)
        return _Columns(self.places, *(np.array(column, kind) for column, kind in columns))


def _release(places: NDArray[np.int64], _: _Client) -> None:
    destroy = _librdkafka().message_destroy
    if (library := native(_Library)) is None:
        for place in places.tolist():
            destroy(place)
    else:
        library.release(len(places), place_of(places), ctypes.cast(destroy, ctypes.c_void_p))


@contextmanager
def _listed(partitions: Sequence[TopicPartition]) -> Iterator[Any]:
    """As the client takes them."""
    library = _librdkafka()
    places = library.topic_partition_list_new(len(partitions))
    try:
        for each in partitions:
            place = library.topic_partition_list_add(places, each.topic.encode(), each.partition)
            place.contents.offset = each.offset
        yield places
    finally:
        library.topic_partition_list_destroy(places)


def _check(code: int) -> None:
    if code:
        raise KafkaException(KafkaError(code))


def _check_object(error: int | None) -> None:
    """Of a rd_kafka_error_t, or none."""
    if error is not None:
        library = _librdkafka()
        said = KafkaError(library.error_code(error), library.error_string(error).decode())
        library.error_destroy(error)
        raise KafkaException(said)
