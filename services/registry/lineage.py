"""Where a version comes from, in one answer: the record of it, and what its manifest says it was made with."""

import asyncio
from dataclasses import dataclass

import asyncpg
from pydantic import ValidationError

from schemas.events.parts import Span
from services.registry.acts import NotDeclared
from services.registry.comments import CommentView, comments_of
from services.registry.reading import Reading
from services.registry.views import RolloutView, RunView, VersionView, View
from shared.errors import Fault
from shared.objects import Objects

_STORE_SECONDS = 0.5  # the answer does not wait longer for S3


class MadeWith(View):
    """Of the manifest: digests of code and lock, the libraries that shape a model, and what was left out."""

    code_version: str
    lock_hash: str | None
    libraries: dict[str, str]
    python: str
    quarantined: list[Span] = []


class LineageView(VersionView):
    """All that led to a version and came of it; `made_with` is null where `unreadable` says why."""

    seed: int
    run: RunView | None
    rollouts: list[RolloutView]
    comments: list[CommentView]
    made_with: MadeWith | None
    unreadable: str | None


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Over the service's database and the store of artifacts."""

    pool: asyncpg.Pool
    objects: Objects

    async def of(self, model: str, version: int) -> LineageView:
        """Raises NotDeclared, saying what there is."""
        reading = Reading(self.pool)
        try:
            known = await reading.version(model, version)
        except NotDeclared:
            raise NotDeclared(await self._expected(model, version)) from None
        made_with, unreadable = await self._made_with(known.artifacts.manifest.digest)
        run, rollouts, comments = await asyncio.gather(
            reading.run(known.run_id), reading.rollouts_of(model, version), comments_of(self.pool, model, version)
        )
        return LineageView(
            **dict(known), seed=known.spec.training.seed, run=run, rollouts=rollouts, comments=comments,
            made_with=made_with, unreadable=unreadable,
        )  # fmt: skip

    async def _expected(self, model: str, version: int) -> str:
        newest = (await Reading(self.pool).versions(model, None, 1)).items
        there = f"1 to {newest[0].version}" if newest else "none yet"
        return f"{model} has no version {version}; expected one of its versions: {there}"

    async def _made_with(self, manifest: str) -> tuple[MadeWith | None, str | None]:
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                data = await self.objects.get(manifest)
            return MadeWith.model_validate_json(data), None
        except TimeoutError:
            return None, f"the store did not give {manifest} in {_STORE_SECONDS} s"
        except Fault as error:
            return None, str(error)
        except ValidationError as error:
            return None, f"{manifest} is not a manifest: {error}"
