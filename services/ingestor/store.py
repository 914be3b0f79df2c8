"""What the ingestor remembers beside the tables themselves."""

from collections.abc import Mapping
from pathlib import Path

from schemas.events.parts import Release
from schemas.specs import StreamSpec
from services.ingestor.domain.sources import Source, sources_of
from shared import queries
from shared.postgres import Connection

QUERIES = queries.load(Path(__file__).parent / "queries.sql")
NOTHING_ANNOUNCED = -1


class Store:
    """Declarations, how far each table's log has been announced, and which versions models were trained on."""

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
        )

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
