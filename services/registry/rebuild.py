"""The record, made again from the lifecycle topics.

Order is all: numbers of versions and rows of the audit log depend on what was heard before what, across topics. The
rows themselves tell it, since everything of consequence has one; what has none (tables, windows, progress, evidence,
switches) is kept so that its order against the rest does not matter.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import asyncpg

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.topics import LIFECYCLE, REGISTRY
from services.registry.deeds import DEEDS
from services.registry.domain.history import History
from services.registry.retelling import Cut, Rebuilt, Retelling
from services.registry.store import QUERIES
from shared.bus import Handler
from shared.reading import Message, Reader, heard
from shared.settings import KafkaSettings

log = logging.getLogger(__name__)
_BATCH_RECORDS = 500


@dataclass(kw_only=True)
class Strand:
    """One partition of a lifecycle topic, event by event; `front` is the last of its events that awaits its row."""

    batches: Iterator[list[Message]]
    read: deque[Envelope] = field(default_factory=deque)
    front: str | None = None
    over: bool = False

    async def next(self) -> Envelope | None:
        """None at the end that was known when reading began."""
        while not self.read and not self.over:
            batch = await asyncio.to_thread(next, self.batches, None)
            self.over = batch is None
            self.read.extend(heard(batch or []))
        return self.read.popleft() if self.read else None


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """Over the registry's schema, migrated and empty, and the broker; `handlers` are those of the bus."""

    pool: asyncpg.Pool
    kafka: KafkaSettings
    handlers: Mapping[type[Event], Handler]
    cut: Cut | None = None

    async def run(self) -> Rebuilt | None:
        """Make the record again, in one transaction; None when there is one already, or nothing was ever said.

        Raises:
            NotRebuilt: the topics do not hold one whole history.
            confluent_kafka.KafkaException: the broker refused or did not answer.
        """
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(QUERIES["lock_rebuild"])
            if not await connection.fetchval(QUERIES["is_empty"]):
                return None
            history = await asyncio.to_thread(self._history)
            if history.is_empty():
                return None
            log.info("the record is empty and the bus tells of %s acts: rebuilding", len(history.heads))
            with ExitStack() as readers:
                strands = await asyncio.to_thread(self._strands, readers)
                told = await Retelling(connection, history, self.handlers, self.cut).tell(strands)
        log.info("rebuilt: %s", told)
        return told

    def _history(self) -> History:
        history = History(deeds=DEEDS.keys())
        with Reader(self.kafka, "modelbus.registry.rebuild", _BATCH_RECORDS) as reader:
            for number, span in reader.spans(REGISTRY.name).items():
                for batch in reader.read(REGISTRY.name, number, *span):
                    for said in heard(batch):
                        history.add(said)
        return history

    def _strands(self, readers: ExitStack) -> list[Strand]:
        """A reader a partition, as they are read in turns."""
        opened = partial(Reader, self.kafka, "modelbus.registry.rebuild", _BATCH_RECORDS)
        strands = []
        for topic in LIFECYCLE:
            with opened() as asking:
                spans = {} if topic is REGISTRY else asking.spans(topic.name)
            for number, span in spans.items():
                if span[0] < span[1]:
                    reader = readers.enter_context(opened())
                    strands.append(Strand(batches=reader.read(topic.name, number, *span)))
        return strands
