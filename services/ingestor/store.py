"""What the ingestor remembers beside the tables themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from schemas.events.parts import Cut, Offsets, Release
from schemas.events.registry import ErasureOrdered
from schemas.specs import StreamSpec
from services.ingestor.domain.sources import Source, sources_of
from shared import queries
from shared.erasure import Held
from shared.postgres import Connection

QUERIES = queries.load(Path(__file__).parent / "queries.sql")
NOTHING_ANNOUNCED = -1


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """One that is not over: how far it reaches, by topic, and what it takes, once these are known."""

    receipt: str
    streams: list[str]
    event_id: str
    correlation_id: str
    traceparent: str | None
    ends: dict[str, Offsets] | None
    found: dict[str, Any] | None
    said: bool


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A registered version, and what it could see: the cut and the window before it, where that is known."""

    stream: str
    model: str
    version: int
    cut: Cut | None
    window: timedelta | None

    def saw(self, rows: Held) -> bool:
        """Whether it could see some of these rows of the data table; where nothing is known, it could."""
        if self.cut is None or self.window is None:
            return bool(rows.files)
        return rows.within(self.cut, self.window)


class Store:
    """Declarations, how far each table's log has been announced, which versions models were trained on, erasures."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def declare_stream(self, spec: StreamSpec, *, revision: int) -> None:
        await self._connection.execute(QUERIES["declare_stream"], spec.stream, revision, spec.model_dump_json())

    async def declare_model(self, model: str, spec: StreamSpec, *, revision: int) -> None:
        await self._connection.execute(QUERIES["declare_model"], model, revision, spec.model_dump_json())

    async def pin(self, release: Release) -> None:
        candidate = release.candidate
        cut = candidate.cut
        await self._connection.execute(
            QUERIES["pin"],
            candidate.model,
            release.version,
            candidate.stream_spec.stream,
            cut.data_version,
            cut.labels_version,
            cut.model_dump(mode="json"),
            candidate.spec.training.window,
        )

    async def pins(self, stream: str) -> list[Pin]:
        """What was trained on a stream."""
        rows = await self._connection.fetch(QUERIES["pinned_cuts"], stream)
        return [
            Pin(
                stream=stream,
                model=row["model"],
                version=row["version"],
                cut=Cut.model_validate(row["cut"]) if row["cut"] else None,
                window=row["seen"],
            )
            for row in rows
        ]

    async def order_erasure(
        self, event: ErasureOrdered, *, event_id: str, correlation_id: str, traceparent: str | None
    ) -> None:
        await self._connection.execute(
            QUERIES["order_erasure"], event.receipt, list(event.streams), event_id, correlation_id, traceparent
        )

    async def lead_erasures(self) -> bool:
        """Whether no other process erases; true for as long as this connection is held."""
        leads: bool = await self._connection.fetchval(QUERIES["lead_erasures"])
        return leads

    async def erasures(self) -> list[Erasure]:
        """Those that are not over."""
        rows = [dict(row) for row in await self._connection.fetch(QUERIES["erasures"])]
        for row in rows:
            ends = row["ends"] or {}
            row["ends"] = {t: {int(p): end for p, end in of.items()} for t, of in ends.items()} or None
        return [Erasure(**row) for row in rows]

    async def erase_before(self, receipt: str, ends: Mapping[str, Offsets]) -> None:
        await self._connection.execute(QUERIES["erase_before"], receipt, ends)

    async def found_to_erase(self, receipt: str, found: Mapping[str, Any]) -> None:
        await self._connection.execute(QUERIES["found_to_erase"], receipt, found)

    async def said_erased(self, receipt: str) -> None:
        await self._connection.execute(QUERIES["said_erased"], receipt)

    async def close_erasure(self, receipt: str) -> None:
        await self._connection.execute(QUERIES["close_erasure"], receipt)

    async def pinned(self, source: Source) -> set[int]:
        """Versions of a table that models were trained on."""
        if source.kind == "predictions":
            return set()  # no model is trained on predictions
        rows = await self._connection.fetch(QUERIES["pins"], source.owner)
        return {row[f"{source.kind}_version"] for row in rows}

    async def attempt(self, topic: str, starts: Mapping[int, int], life: str) -> int:
        """Before what starts at these offsets is read: how many processes have ended over some of it."""
        rows = await self._connection.fetch(QUERIES["attempt"], topic, [*starts], [*starts.values()], life)
        return max((row["deaths"] for row in rows), default=0)

    async def survived(self, topic: str, life: str) -> None:
        await self._connection.execute(QUERIES["survived"], topic, life)

    async def sources(self) -> dict[str, Source]:
        """Everything that is to be read, by topic."""
        streams = await self._connection.fetch(QUERIES["streams"])
        models = await self._connection.fetch(QUERIES["models"])
        return sources_of(
            streams=[StreamSpec.model_validate_json(row["spec"]) for row in streams],
            models={row["name"]: StreamSpec.model_validate_json(row["stream_spec"]) for row in models},
        )

    async def announced(self, table: str) -> int:
        """The last version of `table` whose log has been announced; -1 when none has."""
        version: int | None = await self._connection.fetchval(QUERIES["announced"], table)
        return NOTHING_ANNOUNCED if version is None else version

    async def announce(self, table: str, *, after: int, version: int) -> bool:
        """Move from `after` to `version`; False when somebody else has moved it."""
        return await self._connection.fetchval(QUERIES["announce"], table, after, version) is not None
