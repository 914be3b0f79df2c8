"""What the trainer remembers: its runs are jobs (shared/jobs.py), one row each."""

from pathlib import Path

from shared import queries
from shared.postgres import Connection

QUERIES = queries.load(Path(__file__).with_name("queries.sql"))


class Store:
    """The runs of each model."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def open_runs(self, model: str, *, other_than: str) -> list[str]:
        """Ids of the model's runs that are not over, oldest first."""
        return [row["id"] for row in await self._connection.fetch(QUERIES["open_runs"], model, other_than)]
