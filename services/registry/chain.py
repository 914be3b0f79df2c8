"""The audit log as a chain: rows are added with their head said, and held against the heads that were said."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import asyncpg

from schemas.events.registry import AuditAdvanced, AuditRow
from schemas.topics import REGISTRY
from services.registry.domain.audit import Break, Entry, Row, Verification
from services.registry.store import QUERIES, Store
from shared.outbox import Work
from shared.reading import Message, Reader, headers_of, heard
from shared.settings import KafkaSettings

_ROWS = 1000
_BATCH_RECORDS = 2000
_SAID = AuditAdvanced.type_name().encode()
Heads = dict[int, set[str]]


class Retold(Work):
    """Work whose outcome stands on the bus already: the record follows, and nothing is said again."""

    async def write(
        self, topic: str, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], context: str | None
    ) -> None:
        """Nothing."""


async def note(work: Work, entry: Entry) -> None:
    """Add to the audit log and say its new head. Last in the transaction: whoever holds the chain waits for nobody."""
    if isinstance(work, Retold):  # its row is restored as it was sealed
        return
    row = await Store(work.connection).audit(entry)
    sealed = AuditRow.model_validate({name: getattr(row, name) for name in AuditRow.model_fields})
    said = AuditAdvanced(chain="registry.audit", position=row.position, hash=f"sha256:{row.hash}", row=sealed)
    await work.emit(said, causation_id=entry.event_id or None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How far the chain is intact, up to which row the topic tells of it, and where it breaks first, if it does."""

    rows: int
    hash: str
    said_up_to: int
    broken: Break | None


@dataclass(kw_only=True)
class Said:
    """The heads that the registry's topic holds: hashes by position; more than one where the chain was said anew.

    What was read is remembered, so that the topic is read once.
    """

    heads: Heads = field(default_factory=dict)
    read_to: dict[int, int] = field(default_factory=dict)

    def read_on(self, kafka: KafkaSettings) -> None:
        """To the topic's end.

        Raises:
            confluent_kafka.KafkaException: the broker refused or did not answer.
        """
        with Reader(kafka, "modelbus.registry.audit", _BATCH_RECORDS) as reader:
            for partition, (start, end) in reader.spans(REGISTRY.name).items():
                for batch in reader.read(REGISTRY.name, partition, self.read_to.get(partition, start), end):
                    for head in _heads(batch):
                        self.heads.setdefault(head.position, set()).add(head.hash.removeprefix("sha256:"))
                self.read_to[partition] = end


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The chain, over the service's database and broker."""

    pool: asyncpg.Pool
    kafka: KafkaSettings
    said: Said = field(default_factory=Said)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def verify(self) -> Verdict:
        """Every row against the one before and against the topic; the topic first, as it only knows what is committed.

        One at a time: whoever asks meanwhile waits, and then reads only what is new.

        Raises:
            confluent_kafka.KafkaException: the broker refused or did not answer.
        """
        async with self.turn:
            await asyncio.to_thread(self.said.read_on, self.kafka)
            return await self.verify_against(self.said.heads)

    async def verify_against(self, heads: Heads) -> Verdict:
        """Every row against the one before, and against these heads."""
        seen = Verification(heads=heads)
        broken, rows = None, await self._rows(seen.position)
        while rows and broken is None:
            broken = await asyncio.to_thread(seen.follow, rows)
            rows = await self._rows(rows[-1].position)
        said_up_to = max(heads, default=0)
        return Verdict(rows=seen.position, hash=seen.hash, said_up_to=said_up_to, broken=broken or seen.end())

    async def _rows(self, after: int) -> list[Row]:
        return [Row(**row) for row in await self.pool.fetch(QUERIES["sealed_rows"], after, _ROWS)]


def _heads(records: Iterable[Message]) -> Iterator[AuditAdvanced]:
    """The rest is not decoded."""
    for said in heard(record for record in records if ("ce_type", _SAID) in headers_of(record)):
        if isinstance(said.event, AuditAdvanced):
            yield said.event
