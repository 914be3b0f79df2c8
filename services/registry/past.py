"""What was live at an instant, and why: the record as of then, by the clock at which events were said."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from schemas.events.parts import Gate
from schemas.specs import ModelSpec
from services.registry.access import ModelName, Viewer, part
from services.registry.acts import NotDeclared
from services.registry.store import QUERIES
from services.registry.views import ApprovalView, AuditView, StepView, View, audit_view

_ACTS = 20  # of the latest that are told as reasons
Instant = Annotated[
    AwareDatetime,
    Query(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC), description="RFC 3339"),
]
past = APIRouter(tags=["record"])


class DeclaredView(View):
    """A model as it was declared."""

    revision: int
    spec: ModelSpec
    actor: str
    reason: str
    applied_at: AwareDatetime


class LiveView(View):
    """A version that was live: `since` when it served in this role without a break, and `because` of what."""

    version: int
    run_id: str
    stage: str
    since: AwareDatetime
    because: str
    asked: str | None
    gates: list[Gate]
    approvals: list[ApprovalView]
    trace_id: str | None


class AsOfView(View):
    """A model at an instant; `serving` is null before a first champion. `acts`: the latest about it, newest first."""

    model: str
    at: AwareDatetime
    declared: DeclaredView
    serving: StepView | None
    champion: LiveView | None
    challenger: LiveView | None
    stages: dict[int, str]
    open_alerts: list[str]
    acts: list[AuditView]


@dataclass(frozen=True, kw_only=True)
class Past:
    """Over the service's database."""

    pool: asyncpg.Pool

    async def of(self, model: str, at: datetime) -> AsOfView:
        """Raises NotDeclared: it was not declared then."""
        declared = await self._rows("past_declared", model, at)
        if not declared:
            raise NotDeclared(f"model {model!r} was not declared at {at.isoformat()}")
        steps, stages, alerts = await asyncio.gather(
            self._rows("past_step", model, at),
            self._rows("past_stages", model, at),
            self._rows("past_alerts", f"model {model}", at),
        )
        step = steps[0] if steps else {"champion": None, "challenger": None}
        live = [version for version in (step["champion"], step["challenger"]) if version is not None]
        subjects = [f"model {model}", *(f"{model}:{version}" for version in live)]
        acts = await self._rows("past_acts", subjects, at, _ACTS)
        return AsOfView(
            model=model,
            at=at,
            declared=DeclaredView.model_validate(declared[0]),
            serving=StepView.model_validate(steps[0]) if steps else None,
            champion=await self._live("past_champion", model, step["champion"], at),
            challenger=await self._live("past_challenger", model, step["challenger"], at),
            stages={row["version"]: row["stage"] for row in stages},
            open_alerts=[row["alert"] for row in alerts],
            acts=[audit_view(row) for row in acts],
        )

    async def _live(self, query: str, model: str, version: int | None, at: datetime) -> LiveView | None:
        if version is None:
            return None
        rows, approvals = (
            await self._rows(query, model, version, at),
            await self._rows("past_approvals", model, version, at),
        )
        return LiveView.model_validate(rows[0] | {"approvals": list(map(ApprovalView.model_validate, approvals))})

    async def _rows(self, query: str, *arguments: Any) -> Sequence[dict[str, Any]]:
        return [dict(row) for row in await self.pool.fetch(QUERIES[query], *arguments)]


@past.get("/models/{model}/as-of")
async def as_of(model: ModelName, _: Viewer, looking: Annotated[Past, part("past", Past)], at: Instant) -> AsOfView:
    """What was live at an instant, and why."""
    return await looking.of(model, at)
