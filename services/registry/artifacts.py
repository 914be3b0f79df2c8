"""Whether the bytes of a version are still those that were recorded."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

import asyncpg
from fastapi import APIRouter

from schemas.events.parts import Artifact
from services.registry.access import ModelName, Number, Viewer, part
from services.registry.reading import Reading
from services.registry.views import View
from shared.objects import Missing, Objects, Tampered

NAMES = ("onnx", "skops", "manifest", "reference", "report", "attestation", "card", "card_data")
artifacts = APIRouter(tags=["record"])


class StoredView(View):
    """One artifact of a version, read from the store and held against its digest; `why` says what is wrong."""

    name: str
    digest: str
    verdict: Literal["intact", "tampered", "missing"]
    why: str | None = None


class ArtifactsView(View):
    """All that the record names of a version's bytes."""

    model: str
    version: int
    artifacts: list[StoredView]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Over the service's database and the store of artifacts."""

    pool: asyncpg.Pool
    objects: Objects

    async def of(self, model: str, version: int) -> ArtifactsView:
        """Every artifact that the record names; read one by one.

        Raises:
            NotDeclared: there is no such version.
            Fault: the store failed.
        """
        known = await Reading(self.pool).version(model, version)
        drawn = {"card": known.card.page, "card_data": known.card.data} if known.card else {}
        recorded = {**dict(known.artifacts), "report": known.report, "attestation": known.attestation, **drawn}
        read = [await self._read(name, recorded[name]) for name in NAMES if recorded.get(name) is not None]
        return ArtifactsView(model=model, version=version, artifacts=read)

    async def _read(self, name: str, artifact: Artifact) -> StoredView:
        try:
            await asyncio.to_thread(self.objects.get_now, artifact.digest)
        except Tampered as error:
            return StoredView(name=name, digest=artifact.digest, verdict="tampered", why=str(error))
        except Missing as error:
            return StoredView(name=name, digest=artifact.digest, verdict="missing", why=str(error))
        return StoredView(name=name, digest=artifact.digest, verdict="intact")


@artifacts.get("/models/{model}/versions/{version}/artifacts")
async def stored(
    model: ModelName,
    version: Number,
    _: Viewer,
    looking: Annotated[Stored, part("stored", Stored)],
) -> ArtifactsView:
    """Every artifact of a version, read again and held against the digest that is recorded."""
    return await looking.of(model, version)
