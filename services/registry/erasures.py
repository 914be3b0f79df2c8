"""That an entity was erased, on record; who it was is not."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, ConfigDict, Field

from schemas.events.parts import Digest
from schemas.events.registry import EntityForgotten
from services.registry.access import Approver, part
from services.registry.acts import Acts
from services.registry.views import Because, Ordered

Count = Annotated[int, Field(ge=0, le=2**53)]
erasures = APIRouter(tags=["acts"])


class Receipt(Because):
    """Of an erasure: the digest of its receipt, and what was taken out of what is kept."""

    model_config = ConfigDict(extra="forbid")
    receipt: Digest
    rows: Count
    letters: Count
    artifacts: Count
    expires_at: AwareDatetime | None


@erasures.post("/erasures")
async def note_erasure(receipt: Receipt, actor: Approver, acts: Annotated[Acts, part("acts", Acts)]) -> Ordered:
    """Note that an entity was erased from what is kept, by whoever did it and holds the receipt."""
    said = EntityForgotten(actor=str(actor), **receipt.model_dump())
    return Ordered(event_id=await acts.forget(said))
