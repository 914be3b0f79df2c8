"""The client that confluent-kafka brings along, librdkafka, by its public functions (rdkafka.h)."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition, cimpl

CONSUMER: Final = 1  # rd_kafka_type_t
NO_CONSUMER_CLOSE: Final = 8  # RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE
ERROR_BYTES: Final = 512


class _Partition(ctypes.Structure):
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


class _Partitions(ctypes.Structure):
    """rd_kafka_topic_partition_list_t."""

    _fields_ = (("count", ctypes.c_int), ("size", ctypes.c_int), ("each", ctypes.POINTER(_Partition)))


class Message(ctypes.Structure):
    """rd_kafka_message_t."""

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


Rebalance = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Partitions), ctypes.c_void_p)
Log = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)


@cache
def librdkafka() -> ctypes.CDLL:
    """The very one that confluent-kafka is linked with, its functions without their prefix.

    While one is called others may use Python.
    """
    library = ctypes.CDLL(cimpl.__file__)
    pointer, number, text, partitions = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_Partitions)
    size, out = ctypes.c_size_t, ctypes.POINTER
    for name, result, *arguments in (
        ("conf_new", pointer),
        ("conf_destroy", None, pointer),
        ("conf_set", number, pointer, text, text, text, size),
        ("conf_set_log_cb", None, pointer, Log),
        ("conf_set_rebalance_cb", None, pointer, Rebalance),
        ("new", pointer, number, pointer, text, size),
        ("destroy_flags", None, pointer, number),
        ("set_log_queue", number, pointer, pointer),
        ("poll_set_consumer", number, pointer),
        ("queue_get_consumer", pointer, pointer),
        ("queue_destroy", None, pointer),
        ("consume_batch_queue", ctypes.c_ssize_t, pointer, number, pointer, size),
        ("consumer_close", number, pointer),
        ("subscribe", number, pointer, partitions),
        ("incremental_assign", pointer, pointer, partitions),
        ("incremental_unassign", pointer, pointer, partitions),
        ("pause_partitions", number, pointer, partitions),
        ("resume_partitions", number, pointer, partitions),
        ("commit", number, pointer, partitions, number),
        ("topic_partition_list_new", partitions, number),
        ("topic_partition_list_add", out(_Partition), partitions, text, ctypes.c_int32),
        ("topic_partition_list_destroy", None, partitions),
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


@contextmanager
def listed(partitions: Sequence[TopicPartition]) -> Iterator[Any]:
    """As the client takes them."""
    library = librdkafka()
    found = library.topic_partition_list_new(len(partitions))
    try:
        for each in partitions:
            added = library.topic_partition_list_add(found, each.topic.encode(), each.partition)
            added.contents.offset = each.offset
        yield found
    finally:
        library.topic_partition_list_destroy(found)


def partitions_of(pointer: Any) -> list[TopicPartition]:
    """What the client has listed."""
    found = pointer.contents
    return [TopicPartition(each.topic.decode(), each.partition, each.offset) for each in found.each[: found.count]]


def check(code: int) -> None:
    """Raises KafkaException where the client says that something failed."""
    if code:
        raise KafkaException(KafkaError(code))


def check_error(error: int | None) -> None:
    """`check` for functions that answer with an object."""
    if error is not None:
        library = librdkafka()
        said = KafkaError(library.error_code(error), library.error_string(error).decode())
        library.error_destroy(error)
        raise KafkaException(said)
