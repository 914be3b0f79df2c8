"""What the rollout remembers."""

from pathlib import Path

from schemas.events.deployer import RolloutSwitched
from services.deployer.domain.rollout import Rollout
from shared import queries
from shared.postgres import Connection

_QUERIES = queries.load(Path(__file__).parent / "queries.sql")


class Store:
    """Rollouts, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rollout(self, model: str) -> Rollout:
        """The model's rollout, locked: deciders take turns."""
        await self._connection.execute(_QUERIES["know_model"], model)
        state = await self._connection.fetchval(_QUERIES["lock_rollout"], model)
        return Rollout(model=model) if state is None else Rollout.model_validate(state)

    async def save(self, rollout: Rollout) -> None:
        await self._connection.execute(_QUERIES["save_rollout"], rollout.model, rollout.model_dump(mode="json"))

    async def note_switch(self, switched: RolloutSwitched) -> None:
        await self._connection.execute(
            _QUERIES["note_switch"], switched.model, switched.partition, switched.revision, switched.offset
        )

    async def switched(self, rollout: Rollout, since: int | None = None) -> int:
        """Partitions that are served under the rollout's current revision, or under one from `since` on."""
        least = rollout.revision if since is None else since
        count: int = await self._connection.fetchval(_QUERIES["switched_partitions"], rollout.model, least)
        return count
