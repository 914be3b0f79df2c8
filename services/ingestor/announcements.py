"""dataset.committed is derived from the Delta log, so a crash between the two commits loses no event."""

import asyncio

import asyncpg
from deltalake import DeltaTable

from schemas.events.ingestor import DatasetCommitted
from services.ingestor.domain.sources import Source
from services.ingestor.store import Store
from shared.outbox import unit_of_work
from shared.tables import commits_since

METADATA = "modelbus.dataset_committed"  # of a Delta commit: the event that it is announced by


def offsets_of(source: Source, table: DeltaTable) -> dict[int, int]:
    """Up to where a snapshot holds its topic."""
    return {p: table.transaction_version(source.app_id(p)) or 0 for p in range(source.spec.partitions)}


class Announcer:
    """Says each commit of a table once, in order of versions, under the id `<table>@<version>`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def announce(self, name: str, table: DeltaTable) -> None:
        """Say what the log of `table` holds beyond what has been said of it, as far as this snapshot goes."""
        while True:
            async with self._pool.acquire() as connection:
                said = await Store(connection).announced(name)
            commits = await asyncio.to_thread(commits_since, table, said)
            if not commits or await self._say(name, said, commits):
                return

    async def _say(self, name: str, said: int, commits: list[tuple[int, dict[str, str]]]) -> bool:
        """False when somebody else has announced this table meanwhile."""
        async with unit_of_work(self._pool, "ingestor") as work:
            if not await Store(work.connection).announce(name, after=said, version=commits[-1][0]):
                return False
            for version, commit in commits:
                if METADATA in commit:  # creation and compaction add no rows
                    event = DatasetCommitted.decode(commit[METADATA].encode())
                    await work.emit(event.model_copy(update={"version": version}), id=f"{name}@{version}")
        return True
