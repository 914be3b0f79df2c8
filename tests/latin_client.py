"""A producer that writes header names in Latin-1, as clients in languages may whose texts are bytes."""

from kafka import KafkaProducer

from shared.settings import KafkaSettings

NAME = "größe"


class _Latin(str):
    __slots__ = ()

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return super().encode("latin-1")


def send(topic: str, key: bytes, value: bytes) -> None:
    """One record with such a header, once the broker has it."""
    producer = KafkaProducer(bootstrap_servers=KafkaSettings().bootstrap_servers)
    producer.send(topic, key=key, value=value, headers=[(_Latin(NAME), b"12")]).get(20)
    producer.close()
