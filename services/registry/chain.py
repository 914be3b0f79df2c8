"""The audit log as a chain: rows are added with their head said, and held against the heads that were said."""

import asyncio
from dataclasses import dataclass

import asyncpg

from schemas import envelope
from schemas.events.registry import AuditAdvanced
from schemas.topics import REGISTRY
from services.registry.domain.audit import Break, Entry, Row, Verification
from services.registry.store import QUERIES, Store
from shared.outbox import Work
from shared.reading import Message, Reader
from shared.settings import KafkaSettings

_ROWS = 1000
_BATCH_RECORDS = 2000
_SAID = AuditAdvanced.type_name().encode()
Heads = dict[int, set[str]]


async def note(work: Work, *entries: Entry) -> None:
    """Add to the audit log and say its new head. Last in the transaction: whoever holds the chain waits for nobody."""
    position, sealed = await Store(work.connection).audit(*entries)
    said = AuditAdvanced(chain="registry.audit", position=position, hash=f"sha256:{sealed}")
    await work.emit(said, causation_id=entries[-1].event_id or None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How far the chain is intact, up to which row the topic tells of it, and where it breaks first, if it does."""

    rows: int
    hash: str
    said_up_to: int
    broken: Break | None


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The chain, over the service's database and broker."""

    pool: asyncpg.Pool
    kafka: KafkaSettings

    async def verify(self) -> Verdict:
        """Every row against the one before and against the topic; the topic first, as it only knows what is committed.

        Raises:
            confluent_kafka.KafkaException: the broker refused or did not answer.
        """
        return await self.verify_against(await asyncio.to_thread(heads_said, self.kafka))

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


def heads_said(kafka: KafkaSettings) -> Heads:
    """The heads that the registry's topic holds: hashes by position; more than one where the chain was said anew."""
    heads: Heads = {}
    with Reader(kafka, "modelbus.registry.audit", _BATCH_RECORDS) as reader:
        for partition, (start, end) in reader.spans(REGISTRY.name).items():
            for batch in reader.read(REGISTRY.name, partition, start, end):
                for head in filter(None, map(_head, batch)):
                    heads.setdefault(head.position, set()).add(head.hash.removeprefix("sha256:"))
    return heads


def _head(message: Message) -> AuditAdvanced | None:
    headers = message.headers() or []
    if ("ce_type", _SAID) not in headers:
        return None
    said = envelope.read(headers, message.value() or b"")
    return said.event if said and isinstance(said.event, AuditAdvanced) else None
