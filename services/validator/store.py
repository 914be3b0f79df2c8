"""What the validator remembers: who is champion. Its jobs are rows of shared.jobs."""

from dataclasses import dataclass
from pathlib import Path

from schemas.events.parts import Release
from shared import queries
from shared.postgres import Connection

QUERIES = queries.load(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class Store:
    """On a connection, inside the caller's transaction."""

    connection: Connection

    async def keep_champion(self, model: str, revision: int, release: Release) -> None:
        """Remember who serves, unless a later revision is known already."""
        await self.connection.execute(QUERIES["keep_champion"], model, revision, release.model_dump(mode="json"))

    async def champion(self, model: str) -> Release | None:
        release = await self.connection.fetchval(QUERIES["champion"], model)
        return None if release is None else Release.model_validate(release)
