"""What is kept of an entity: rows of tables, dead letters, records in the log and until when they can stand there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from deltalake import DeltaTable

from schemas.events.ingestor import Kind
from schemas.events.parts import Cut, Offsets
from schemas.topics import CORRECTIONS, PREDICTIONS, SHADOW
from shared.dead_letters import Place
from shared.reading import Reader
from shared.records import UNREADABLE
from shared.settings import KafkaSettings
from shared.tables import NoTable, Tables

Places = Mapping[int, int]  # partition → offset
_ASK_SECONDS: Final = 30.0
_SWEEP: Final = timedelta(minutes=6)  # a broker looks for what has expired every five, and deletes a minute later
_KEPT: Final = ["partition", "offset", "time"]


def rows_of(entity: str, before: Offsets | None = None) -> pc.Expression:
    """The rows of an entity in a table, of no later records than those below `before`."""
    mine = pc.field("entity") == entity
    return mine if before is None else mine & rows_below(before)


def rows_below(offsets: Offsets) -> pc.Expression:
    """Rows whose records stand before these offsets; there is none of a partition that they do not name."""
    parts = [(pc.field("partition") == number) & (pc.field("offset") < end) for number, end in offsets.items()]
    return reduce(or_, parts, pc.scalar(False))


@dataclass(frozen=True, kw_only=True)
class Held:
    """Places and times of an entity's rows in a table, and how many files they lie in."""

    rows: pa.Table
    files: int

    @classmethod
    def of(cls, table: DeltaTable, wanted: pc.Expression) -> "Held":
        """Of a snapshot; reads the files one by one."""
        parts = [
            each.to_table(columns=_KEPT, filter=wanted) for each in table.to_pyarrow_dataset().get_fragments(wanted)
        ]
        found = [part for part in parts if part.num_rows]
        return cls(rows=pa.concat_tables(found), files=len(found)) if found else cls.nothing()

    @classmethod
    def nothing(cls) -> "Held":
        """Of no table."""
        return cls(rows=pa.table({name: [] for name in _KEPT}), files=0)

    @classmethod
    def of_newest(cls, tables: Tables, kind: Kind, owner: str, wanted: pc.Expression) -> "Held":
        """Of the newest version of a table; nothing where there is none yet."""
        try:
            return cls.of(tables.open(kind, owner), wanted)
        except NoTable:
            return cls.nothing()

    def last(self) -> dict[int, int]:
        """The last offset by partition."""
        if not self.rows.num_rows:
            return {}
        grouped = self.rows.group_by("partition").aggregate([("offset", "max")])
        return dict(zip(grouped["partition"].to_pylist(), grouped["offset_max"].to_pylist(), strict=True))

    def within(self, cut: Cut, window: timedelta) -> bool:
        """Whether a run could see some of them: rows of the data table in the window before the cut."""
        if not self.rows.num_rows:
            return False
        seen = rows_below(cut.data_offsets) & (pc.field("time") > cut.time - window) & (pc.field("time") <= cut.time)
        return bool(self.rows.filter(seen).num_rows)


def names(entity: str, key: bytes | None, value: bytes | None) -> bool:
    """Whether a record is this entity's; of what is no JSON, whether it has the entity as a string anywhere.

    >>> names("a", b"a", None), names("a", b"b", b'{"entity": "a", "x": 1}'), names("a", None, b'{"x": "a"}')
    (True, True, False)
    >>> names("a", None, b'{"entity": "a", "x": NaN}')
    True
    """
    if key == entity.encode():
        return True
    try:
        said: Any = msgspec.json.decode(value or b"")
    except UNREADABLE:
        return msgspec.json.encode(entity) in (value or b"")
    return isinstance(said, dict) and said.get("entity") == entity


def last_records(held: Mapping[str, Held], letters: Iterable[Place]) -> dict[str, Places | None]:
    """Where an entity's last records stand, by topic: of rows and of dead letters' records; as `expiries` asks for it.

    What scorers said of its events beside predictions is in no table: it may have come until now.
    """
    last: dict[str, Places | None] = {topic: each.last() for topic, each in held.items()}
    for topic, partition, offset in letters:
        places = last.get(topic) or {}
        last[topic] = {**places, partition: max(offset, places.get(partition, -1))}
    for topic, each in held.items():
        if each.files and (model := PREDICTIONS.owner(topic)):
            last |= dict.fromkeys((SHADOW.of(model), CORRECTIONS.of(model)))
    return last


def expiries(kafka: KafkaSettings, last: Mapping[str, Places | None], now: datetime) -> dict[str, datetime | None]:
    """When the last record of an entity is gone from each topic that still has one, at the latest; None is for ever.

    `last` are the offsets of its last records by topic; where it is None, nobody knows, and the last may be of now.
    The broker deletes segments whole: a record goes with the last one of its segment, which is open for `segment.ms`.

    Raises:
        confluent_kafka.KafkaException: the broker refused or did not answer.
        Fault: a topic cannot be read.
    """
    config = _configured(kafka, list(last))
    found: dict[str, datetime | None] = {}
    with Reader(kafka, "modelbus.erasure") as reader:
        for topic, places in last.items():
            written = _written(reader, topic, places, now)
            if written is None:
                continue
            retention, segment = (int(config[topic][name].value) for name in ("retention.ms", "segment.ms"))
            open_for = timedelta(milliseconds=segment + retention)
            found[topic] = None if retention < 0 else written + open_for + _SWEEP
    return found


def _written(reader: Reader, topic: str, places: Places | None, now: datetime) -> datetime | None:
    """When the last of the entity's records that the log still has was written."""
    spans = reader.spans(topic)
    if places is None:
        return now if any(low < end for low, end in spans.values()) else None
    times = []
    for partition, offset in places.items():
        low, end = spans[partition]
        if low <= offset < end:
            for batch in reader.read(topic, partition, offset, offset + 1):
                times += [message.timestamp()[1] for message in batch]
    return datetime.fromtimestamp(max(times) / 1000, UTC) if times else None


def _configured(kafka: KafkaSettings, topics: list[str]) -> dict[str, Any]:
    asked = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    admin = AdminClient(kafka.librdkafka())  # answers end with it
    answers = admin.describe_configs(asked, request_timeout=_ASK_SECONDS)
    return {resource.name: answer.result(_ASK_SECONDS) for resource, answer in answers.items()}
