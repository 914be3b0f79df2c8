"""An entity to be erased: who it is, for as long as that takes, and the receipt that stays. People ask approvers."""

import json
import secrets
from dataclasses import dataclass
from typing import Annotated

import asyncpg
from fastapi import APIRouter, HTTPException, Path
from pydantic import AwareDatetime, Field

from schemas.events.ingestor import Affected, ErasedTable, Remainder
from schemas.events.parts import Digest
from services.registry.access import Approver, Viewer, part
from services.registry.acts import Acts, NotDeclared
from services.registry.store import QUERIES
from services.registry.views import Because, Ordered, View
from shared.objects import Objects

_MOST = 500
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Receipt = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$", description="Of an erasure.")]
erasures = APIRouter(tags=["acts"])


class Wish(Because):
    """Who is to be erased, from all streams or from these; the reason stays on record and must not tell who."""

    entity: str = Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")
    streams: list[Name] | None = Field(default=None, min_length=1, max_length=500)


class WishView(Ordered):
    """The receipt is the SHA-256 of `proof`; whoever keeps that can show whom it is about."""

    receipt: Digest
    proof: str


class Told(View):
    """What is gone, what only time will take from the log (null: nothing will), and what cannot be made again."""

    tables: list[ErasedTable]
    letters: int
    remaining: list[Remainder]
    affected: list[Affected]


class ErasureView(View):
    """`told` is null until all is erased."""

    receipt: Digest
    streams: list[str]
    actor: str
    reason: str
    ordered_at: AwareDatetime
    erased_at: AwareDatetime | None
    told: Told | None


class ErasuresView(View):
    """Newest first."""

    erasures: list[ErasureView]


@dataclass(frozen=True, kw_only=True)
class Erasures:
    """Over the service's database and the store, where an entity's name lies until the ingestor has done its work."""

    pool: asyncpg.Pool
    objects: Objects
    acts: Acts

    async def order(self, wish: Wish, actor: str) -> WishView:
        """Say that the entity is to be erased.

        Raises:
            NotDeclared: there is no such stream.
            Fault: the store failed.
        """
        proof = json.dumps({"entity": wish.entity, "salt": secrets.token_hex(32)})
        receipt = (await self.objects.put(proof.encode())).digest
        try:
            event_id = await self.acts.forget(receipt, wish.streams, actor=actor, reason=wish.reason)
        except NotDeclared:  # after any other failure the order may stand, and needs the name
            await self.objects.remove(receipt)
            raise
        return WishView(event_id=event_id, receipt=receipt, proof=proof)

    async def read(self, receipt: str | None = None) -> list[ErasureView]:
        """One, or the newest."""
        rows = await self.pool.fetch(QUERIES["read_erasures"], receipt, _MOST)
        return [ErasureView.model_validate(dict(row)) for row in rows]


Erasing = Annotated[Erasures, part("erasures", Erasures)]


@erasures.post("/erasures")
async def forget(wish: Wish, actor: Approver, erasing: Erasing) -> WishView:
    """Have an entity erased from what is kept; what comes of it later is taken as ever."""
    if wish.entity in wish.reason:
        raise HTTPException(422, "reason: expected one that does not name the entity: it stays on record for ever")
    return await erasing.order(wish, str(actor))


@erasures.get("/erasures")
async def ordered(_: Viewer, erasing: Erasing) -> ErasuresView:
    """The newest erasures."""
    return ErasuresView(erasures=await erasing.read())


@erasures.get("/erasures/{receipt}")
async def erasure(receipt: Receipt, _: Viewer, erasing: Erasing) -> ErasureView:
    """One erasure, and what came of it."""
    found = await erasing.read(receipt)
    if not found:
        raise NotDeclared(f"there is no erasure {receipt}")
    return found[0]
