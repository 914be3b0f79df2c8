"""What people have to say about models and versions, beside what they decide."""

from typing import Annotated

import asyncpg
from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.registry.access import ModelName, Operator, Viewer, part
from services.registry.acts import Acts, Word
from services.registry.reading import Reading
from services.registry.store import QUERIES
from services.registry.views import Ordered, View

_MOST = 500  # comments told of a model
comments = APIRouter(tags=["acts"])


class Remark(BaseModel):
    """What is said, about a model or a version of it."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)


class CommentView(View):
    version: int | None
    actor: str
    text: str
    at: AwareDatetime


class CommentsView(View):
    """Oldest first."""

    comments: list[CommentView]


async def comments_of(pool: asyncpg.Pool, model: str, version: int | None = None) -> list[CommentView]:
    """About a model with all its versions, or about one version."""
    rows = await pool.fetch(QUERIES["read_comments"], model, version, _MOST)
    return [CommentView.model_validate(dict(row)) for row in rows]


@comments.post("/models/{model}/comments")
async def comment(
    model: ModelName, remark: Remark, actor: Operator, acts: Annotated[Acts, part("acts", Acts)]
) -> Ordered:
    """Say something about a model, or a version of it."""
    said = await acts.comment(model, remark.version, Word(actor=str(actor), reason=remark.text))
    return Ordered(event_id=said)


@comments.get("/models/{model}/comments")
async def read(model: ModelName, _: Viewer, reading: Annotated[Reading, part("reading", Reading)]) -> CommentsView:
    """What was said about a model and its versions."""
    await reading.model(model)
    return CommentsView(comments=await comments_of(reading.pool, model))
