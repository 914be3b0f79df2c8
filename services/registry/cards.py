"""Model cards: what the validator drew of a version, under a line of how the version stands now."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Annotated

import asyncpg
from fastapi import APIRouter, Response

from schemas.events.parts import Card
from services.registry.access import ModelName, Number, Viewer, part
from services.registry.acts import NotDeclared
from services.registry.reading import Reading
from services.registry.views import VersionView
from shared.objects import Objects

_PLACE = b"<!-- standing -->"  # where the page leaves room for it
_INSIDE_ONLY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
cards = APIRouter(tags=["record"])


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Over the service's database and the store of artifacts."""

    pool: asyncpg.Pool
    objects: Objects

    async def page(self, model: str, version: int) -> bytes:
        """HTML that needs nothing else.

        Raises:
            NotDeclared: there is no such version, or it has no card.
            Fault: the store failed.
        """
        known, card = await self._card(model, version)
        page = await self.objects.get(card.page.digest)
        return page.replace(_PLACE, f'<div class="standing">{escape(standing(known))}</div>'.encode(), 1)

    async def data(self, model: str, version: int) -> bytes:
        """The JSON that the page was drawn from; raises as `page` does."""
        _, card = await self._card(model, version)
        return await self.objects.get(card.data.digest)

    async def _card(self, model: str, version: int) -> tuple[VersionView, Card]:
        known = await Reading(self.pool).version(model, version)
        if known.card is None:
            raise NotDeclared(f"{model}:{version} has no card: {known.explanation or 'it was not judged yet'}")
        return known, known.card


def standing(known: VersionView) -> str:
    """A version's number and stage, since when, and who said yes."""
    return "; ".join(_standing(known)) + "."


def _standing(known: VersionView) -> Iterator[str]:
    since = f" since {known.stages[-1].at:%Y-%m-%d %H:%M} UTC" if known.stages else ""
    yield f"Version {known.version}, {known.stage.replace('_', ' ')}{since}"
    if known.approvals:
        yield "approved by " + ", ".join(f"{each.actor} ({each.reason})" for each in known.approvals)
    if known.rollout and known.rollout.outcome:
        yield f"its rollout ended {known.rollout.outcome.replace('_', ' ')}: {known.rollout.reason}"


Drawn = Annotated[Cards, part("cards", Cards)]


@cards.get(
    "/models/{model}/versions/{version}/card", response_class=Response, responses={200: {"content": {"text/html": {}}}}
)
async def card(model: ModelName, version: Number, _: Viewer, drawn: Drawn) -> Response:
    """The model card of a version, also of one that was rejected, as one HTML page."""
    page = await drawn.page(model, version)
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": _INSIDE_ONLY})


@cards.get(
    "/models/{model}/versions/{version}/card.json",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
)
async def card_data(model: ModelName, version: Number, _: Viewer, drawn: Drawn) -> Response:
    """The numbers and sentences of a model card."""
    return Response(await drawn.data(model, version), media_type="application/json")
