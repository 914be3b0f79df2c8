"""What people read of the record: pages of views over queries.sql."""

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from typing import Any, TypeVar

import asyncpg

from schemas.events.deployer import Scoring
from schemas.events.monitor import WindowMeasured
from services.registry.acts import NotDeclared
from services.registry.store import QUERIES
from services.registry.views import (
    AlertView,
    ApprovalView,
    AuditView,
    ModelStatus,
    ModelView,
    Page,
    RolloutView,
    RunView,
    Serving,
    StageView,
    StatusView,
    StepView,
    StreamStatus,
    StreamView,
    TableView,
    VersionSummary,
    VersionView,
    View,
    audit_view,
)

END = 2**63 - 1
END_OF_VERSIONS = 2**31 - 1
GLANCE = 200  # streams, models and tables in the overview
V = TypeVar("V", bound=View)


class Reading:
    """Reads over the service's pool; each is one or a few statements, not a transaction."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    async def _rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.pool.fetch(QUERIES[query], *arguments)]

    async def streams(self, after: str, limit: int) -> Page[StreamView]:
        rows = await self._rows("read_streams", after, limit)
        return _page([StreamView.model_validate(row) for row in rows], rows, "name", limit)

    async def stream(self, name: str) -> StreamView:
        """Raises NotDeclared."""
        return StreamView.model_validate(_one(await self._rows("read_stream", name), f"stream {name!r}"))

    async def models(self, after: str, limit: int) -> Page[ModelView]:
        rows = await self._rows("read_models", after, limit)
        return _page([_model(row) for row in rows], rows, "name", limit)

    async def model(self, name: str) -> ModelView:
        """Raises NotDeclared."""
        return _model(_one(await self._rows("read_model", name), f"model {name!r}"))

    async def versions(self, model: str, after: int | None, limit: int) -> Page[VersionSummary]:
        await self.model(model)
        rows = await self._rows("read_versions", model, END_OF_VERSIONS if after is None else after, limit)
        return _page([VersionSummary.model_validate(row) for row in rows], rows, "version", limit)

    async def version(self, model: str, version: int) -> VersionView:
        """Raises NotDeclared."""
        row = _one(await self._rows("read_version", model, version), f"version {model}:{version}")
        candidate = row["candidate"]
        rollouts = await self.rollouts_of(model, version)
        return VersionView.model_validate(
            row
            | {name: candidate[name] for name in ("spec", "stream_spec", "cut", "signature")}
            | {"artifacts": {name: candidate[name] for name in ("onnx", "skops", "manifest", "reference")}}
            | {
                "stages": [StageView.model_validate(each) for each in await self._rows("read_stages", model, version)],
                "approvals": [
                    ApprovalView.model_validate(each) for each in await self._rows("read_approvals", model, version)
                ],
                "rollout": rollouts[0] if rollouts else None,
                "erasures": await self._rows("read_erasures_of", model, version),
            }
        )

    async def rollouts(self, model: str, after: int | None, limit: int) -> Page[RolloutView]:
        await self.model(model)
        rows = await self._rows("read_rollouts", model, END_OF_VERSIONS if after is None else after, limit, None)
        return _page(await self._with_steps(model, rows), rows, "first_revision", limit)

    async def rollouts_of(self, model: str, version: int) -> list[RolloutView]:
        """All that tried a version, newest first."""
        return await self._with_steps(model, await self._rows("read_rollouts", model, END_OF_VERSIONS, None, version))

    async def _with_steps(self, model: str, rollouts: Sequence[dict[str, Any]]) -> list[RolloutView]:
        steps = await self._rows("read_steps", model, [rollout["first_revision"] for rollout in rollouts])
        return [
            RolloutView.model_validate(
                rollout
                | {
                    "scoring": _sum(rollout["scorings"]),
                    "steps": [
                        StepView.model_validate(step)
                        for step in steps
                        if step["first_revision"] == rollout["first_revision"]
                    ],
                }
            )
            for rollout in rollouts
        ]

    async def run(self, run_id: str) -> RunView | None:
        rows = await self._rows("read_run", run_id)
        return RunView.model_validate(rows[0]) if rows else None

    async def runs(self, model: str, after: int | None, limit: int) -> Page[RunView]:
        return await self._newest("read_runs", RunView, model, after, limit)

    async def alerts(self, model: str, after: int | None, limit: int) -> Page[AlertView]:
        return await self._newest("read_alerts", AlertView, model, after, limit)

    async def _newest(self, query: str, view: type[V], model: str, after: int | None, limit: int) -> Page[V]:
        await self.model(model)
        rows = await self._rows(query, model, END if after is None else after, limit)
        return _page([view.model_validate(row) for row in rows], rows, "position", limit)

    async def windows(self, model: str, after: int | None, limit: int) -> Page[WindowMeasured]:
        await self.model(model)
        rows = await self._rows("read_windows", model, END if after is None else after, limit)
        return _page([WindowMeasured.model_validate(row["measured"]) for row in rows], rows, "position", limit)

    async def tables(self, after: str, limit: int) -> Page[TableView]:
        rows = await self._rows("read_tables", after, limit)
        return _page([TableView.model_validate(row) for row in rows], rows, "name", limit)

    async def audit(self, after: int, limit: int) -> Page[AuditView]:
        rows = await self._rows("read_audit", after, limit)
        return _page([audit_view(row) for row in rows], rows, "position", limit)

    async def status(self, at: datetime) -> StatusView:
        """The overview; bounded, so a very large installation sees its first `GLANCE` of each."""
        streams, models = await self.streams("", GLANCE), await self.models("", GLANCE)
        return StatusView(
            at=at,
            streams=[
                StreamStatus(
                    name=each.name, revision=each.revision, partitions=each.spec.partitions, models=each.models
                )
                for each in streams.items
            ],
            models=[await self._status(model) for model in models.items],
            tables=(await self.tables("", GLANCE)).items,
        )

    async def _status(self, model: ModelView) -> ModelStatus:
        runs, windows = await self.runs(model.name, None, 1), await self.windows(model.name, None, 1)
        rollouts = await self.rollouts(model.name, None, 1)
        alerts = await self._rows("read_open_alerts", model.name, 20)
        return ModelStatus(
            name=model.name,
            stream=model.stream,
            owner=model.spec.owner,
            serving=model.serving,
            versions={row["stage"]: row["versions"] for row in await self._rows("count_stages", model.name)},
            champion=await self._summary(model.name, model.serving.champion),
            challenger=await self._summary(model.name, model.serving.challenger),
            awaiting=[row["version"] for row in await self._rows("read_awaiting", model.name)],
            run=next(iter(runs.items), None),
            rollout=next(iter(rollouts.items), None),
            window=next(iter(windows.items), None),
            open_alerts=[AlertView.model_validate(row) for row in alerts],
        )

    async def _summary(self, model: str, version: int | None) -> VersionSummary | None:
        if version is None:
            return None
        rows = await self._rows("read_version", model, version)
        return VersionSummary.model_validate(rows[0]) if rows else None


def _sum(scorings: Sequence[dict[str, Any]]) -> Scoring | None:
    """What the scorers saw under all revisions of a rollout."""
    return reduce(Scoring.plus, map(Scoring.model_validate, scorings)) if scorings else None


def _one(rows: Sequence[dict[str, Any]], what: str) -> dict[str, Any]:
    if not rows:
        raise NotDeclared(f"{what} is not known")
    return rows[0]


def _page(items: list[Any], rows: Sequence[dict[str, Any]], key: str, limit: int) -> Page[Any]:
    return Page(items=items, next=str(rows[-1][key]) if len(rows) == limit else None)


def _model(row: dict[str, Any]) -> ModelView:
    return ModelView.model_validate(row | {"serving": Serving.model_validate(row)})
