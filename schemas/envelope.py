"""CloudEvents 1.0 in Kafka's binary binding: the attributes are headers, the event is the value."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.events.base import Event
from schemas.events.upcasters import UPCASTERS
from schemas.topics import EVENT_OF, LATEST_MAJOR

Headers = Iterable[tuple[str, bytes | None]]


class UnknownMajor(Exception):
    """A writer speaks a major version that this reader does not know; the reader must stop, not park."""


class NotAnEvent(Exception):
    """The record is not a CloudEvent of modelbus, or breaks its schema."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """An event and what is known about its saying.

    `correlation_id` names the lifecycle, `causation_id` the event that led to this one, `traceparent` the W3C
    trace context of the span that published it.
    """

    id: str
    source: str
    time: datetime
    correlation_id: str
    causation_id: str | None
    traceparent: str | None
    event: Event

    def headers(self) -> list[tuple[str, bytes]]:
        """The attributes as Kafka headers; absent ones are left out."""
        event = self.event
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_source": self.source,
            "ce_type": event.type_name(),
            "ce_time": self.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "ce_dataschema": f"modelbus:schemas/{event.schema_path()}",
            "ce_subject": event.key,
            "content-type": "application/json",
            "ce_correlationid": self.correlation_id,
            "ce_causationid": self.causation_id,
            "traceparent": self.traceparent,
        }
        return [(name, value.encode()) for name, value in attributes.items() if value is not None]


def _event_type(said: str) -> tuple[str, int]:
    """Name and major version of a CloudEvents type.

    Raises:
        NotAnEvent: it is not of the form `modelbus.<name>.v<major>`.
    """
    prefix, _, rest = said.partition(".")
    name, dot, major = rest.rpartition(".v")
    if prefix != "modelbus" or not dot or not major.isdecimal():
        raise NotAnEvent(f"ce_type: expected modelbus.<name>.v<major>, got {said!r}")
    return name, int(major)


def read(headers: Headers, value: bytes) -> Envelope | None:
    """Decode a record of a lifecycle topic, older majors upcast to the latest; None for a name not known here.

    Raises:
        UnknownMajor: the major is newer than the newest known here.
        NotAnEvent: an attribute is missing, or the value breaks the schema.
    """
    attributes = {name: (value or b"").decode(errors="replace") for name, value in headers}
    name, major = _event_type(attributes.get("ce_type", ""))
    if name not in LATEST_MAJOR:
        return None
    if major > LATEST_MAJOR[name]:
        raise UnknownMajor(f"{name}.v{major}: this reader knows up to v{LATEST_MAJOR[name]}")
    try:
        return Envelope(
            id=attributes["ce_id"],
            source=attributes["ce_source"],
            time=datetime.fromisoformat(attributes["ce_time"]),
            correlation_id=attributes.get("ce_correlationid", attributes["ce_id"]),
            causation_id=attributes.get("ce_causationid"),
            traceparent=attributes.get("traceparent"),
            event=_decode(name, major, value),
        )
    except KeyError as missing:
        raise NotAnEvent(f"header {missing} is missing") from None
    except ValueError as error:
        raise NotAnEvent(f"{name}.v{major}: {error}") from error


def _decode(name: str, major: int, value: bytes) -> Event:
    latest = LATEST_MAJOR[name]
    if major == latest:
        return EVENT_OF[name, major].decode(value)
    payload = json.loads(value)
    for step in range(major, latest):
        payload = UPCASTERS[name, step](payload)
    return EVENT_OF[name, latest].model_validate(payload, extra="ignore", strict=False)
