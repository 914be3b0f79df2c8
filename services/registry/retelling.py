"""The history told again, in its order, by the handlers that first heard it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.deployer import RolloutSwitched, ScoringMeasured
from schemas.events.ingestor import DatasetCommitted
from schemas.events.monitor import RolloutMeasured, WindowMeasured
from schemas.events.trainer import TrainingProgressed
from services.registry.chain import Retold, note
from services.registry.deeds import DEEDS
from services.registry.domain.audit import Row
from services.registry.domain.history import History, NotRebuilt
from services.registry.store import Store
from shared.bus import Handler
from shared.errors import ModelbusError
from shared.outbox import Work, first_hearing
from shared.postgres import Connection

UNNOTED = (DatasetCommitted, TrainingProgressed, WindowMeasured, RolloutMeasured, ScoringMeasured, RolloutSwitched)


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What was made again: rows of the audit log, and events that have none.

    `late` events had no outcome on the bus and were heard now; of the `unheard` that failed again, as it may have then.
    """

    rows: int
    unnoted: int
    late: int
    unheard: tuple[str, ...]


class Told(Protocol):
    """A strand of the history, in its order; `front` is the last of its events that awaits its row."""

    front: str | None
    over: bool

    async def next(self) -> Envelope | None: ...


@dataclass(frozen=True, kw_only=True)
class Late(Work):
    """Work of an event whose outcome may stand on the bus in part: `said`, by type and cause, is not said again."""

    said: set[tuple[str, str]] = field(default_factory=set)

    async def put(self, said: Envelope, context: str | None) -> None:
        if (said.event.type_name(), said.causation_id) not in self.said:
            await super().put(said, context)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How far a record had come: the length of its audit log, and the ids of all that it had heard."""

    position: int
    heard: Collection[str]


class Retelling:
    """Into one open transaction; with a `cut` no further than that, and nothing is heard that had not been."""

    def __init__(
        self,
        connection: Connection,
        history: History,
        handlers: Mapping[type[Event], Handler],
        cut: Cut | None = None,
    ) -> None:
        self._connection = connection
        self._cut = cut
        self._history = history
        self._handlers = handlers
        self._waiting = dict(history.done)  # by id: for their rows
        self._noted: set[str] = set()  # ids that have a row
        self._late: list[Envelope] = []
        self._unheard: list[str] = []
        self._unnoted = 0

    async def tell(self, strands: Sequence[Told]) -> Rebuilt:
        """All rows in their order, then what has none.

        Raises:
            NotRebuilt: a row's event is in no topic.
        """
        rows = self._history.rows(None if self._cut is None else self._cut.position)
        self._noted = {row.event_id for row in rows}
        for row in rows:
            while row.event_id not in self._waiting:
                if not await self._advance(strands):
                    raise NotRebuilt(f"row {row.position} is about event {row.event_id}, which is in no topic")
            await self._retell(self._waiting.pop(row.event_id), row)
            self._noted.discard(row.event_id)
        while await self._advance(strands):
            pass
        late = await self._hear_late() if self._cut is None else 0
        return Rebuilt(rows=len(rows), unnoted=self._unnoted, late=late, unheard=tuple(self._unheard))

    async def _advance(self, strands: Sequence[Told]) -> bool:
        """Draw the next event that has a row from every strand whose last one was told; False when all are over.

        From all when none was: a redriven event comes behind events that were heard before it.
        """
        going = [strand for strand in strands if not strand.over]
        for strand in [each for each in going if each.front not in self._waiting] or going:
            await self._draw(strand)
        return bool(going)

    async def _draw(self, strand: Told) -> None:
        while (heard := await strand.next()) is not None:
            if isinstance(heard.event, UNNOTED):
                if self._cut is not None and heard.id not in self._cut.heard:
                    continue
                self._unnoted += await self._try(Retold(connection=self._connection, service="registry", cause=heard))
            elif heard.id in self._noted:
                self._waiting[heard.id], strand.front = heard, heard.id
                return
            else:
                self._late.append(heard)

    async def _retell(self, heard: Envelope, row: Row) -> None:
        await self._hear(Retold(connection=self._connection, service="registry", cause=heard))
        await Store(self._connection).restore(row)

    async def _hear_late(self) -> int:
        """As if it came only now; first what was said in part, so that it gets the number that was said."""
        said = self._history.said
        causes = {cause for _, cause in said}
        late = sorted([*self._late, *self._waiting.values()], key=lambda each: (each.id not in causes, each.time))
        return sum(
            [
                await self._try(Late(connection=self._connection, service="registry", cause=each, said=said))
                for each in late
            ]
        )

    async def _try(self, work: Work) -> bool:
        """What cannot be heard was parked then, and is passed over now."""
        try:
            async with self._connection.transaction():
                return await self._hear(work)
        except (ModelbusError, asyncpg.PostgresError) as error:
            self._unheard.append(f"{work.cause and work.cause.id}: {error}")
            return False

    async def _hear(self, work: Work) -> bool:
        """False when it was heard before, or nothing is to be done."""
        heard = work.cause
        if heard is None:
            return False
        if deed := DEEDS.get(type(heard.event)):
            await note(work, await deed(heard.event, work))
            return True
        handler = self._handlers.get(type(heard.event))
        if handler is None or not await first_hearing(work, heard):
            return False
        await handler(heard.event, work)
        return True
