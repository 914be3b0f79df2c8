"""What the rollout remembers."""

from pathlib import Path

from schemas.events.deployer import RolloutSwitched
from services.deployer.domain.corrections import Withdrawal
from services.deployer.domain.rollout import Rollout
from shared import queries
from shared.postgres import Connection

_QUERIES = queries.load(Path(__file__).parent / "queries.sql")


class Store:
    """Rollouts and withdrawals, inside one transaction."""

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

    async def ask_correction(self, asked: Withdrawal) -> None:
        await self._connection.execute(
            _QUERIES["ask_correction"], asked.model, asked.revision, asked.partitions, asked.model_dump(mode="json")
        )

    async def leads_corrections(self) -> bool:
        """Whether this connection's process publishes corrections, until the connection ends."""
        return bool(await self._connection.fetchval(_QUERIES["lead_corrections"]))

    async def due_corrections(self) -> list[Withdrawal]:
        """Those whose version serves nowhere any more, the oldest first."""
        return [
            Withdrawal.model_validate(each[0]) for each in await self._connection.fetch(_QUERIES["due_corrections"])
        ]

    async def corrected(self, done: Withdrawal) -> None:
        await self._connection.execute(_QUERIES["correction_done"], done.model, done.revision)

    async def switched(self, rollout: Rollout, since: int | None = None) -> int:
        """Partitions that are served under the rollout's current revision, or under one from `since` on."""
        least = rollout.revision if since is None else since
        count: int = await self._connection.fetchval(_QUERIES["switched_partitions"], rollout.model, least)
        return count
