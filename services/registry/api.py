"""The HTTP API: what people and programs ask of the registry. Every route names the role it needs."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request

from schemas.declarations import MAX_BYTES, Declaration, read
from schemas.events.monitor import WindowMeasured
from services.registry.access import Approver, ModelName, Number, Operator, Viewer, part, tokens_of
from services.registry.acts import Acts, Order, Word
from services.registry.artifacts import artifacts
from services.registry.cards import cards
from services.registry.chain import Chain
from services.registry.comments import comments
from services.registry.delivering import delivering
from services.registry.domain.plan import Change, Misfits
from services.registry.erasures import erasures
from services.registry.lineage import Lineage, LineageView
from services.registry.mlflow import mlflow
from services.registry.past import past
from services.registry.problems import ApplyRefused, add_problems, problem, with_lines
from services.registry.reading import Reading
from services.registry.settings import Settings
from services.registry.views import (
    AlertView,
    AuditView,
    Because,
    ChainView,
    ChangeView,
    ModelView,
    Ordered,
    Page,
    PlanView,
    RolloutView,
    RunView,
    StatusView,
    StreamView,
    TableView,
    VersionSummary,
    VersionView,
)
from shared.access import Actor, Doorkeeper, bare_app

_YAML = ("text/yaml", "application/yaml", "text/x-yaml", "application/x-yaml")
_LARGEST = 2**31 - 1
Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=0, le=_LARGEST)]
Place = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
After = Annotated[str, Query(max_length=255, pattern=r"^[^\x00]*$")]
From = Annotated[int, Query(ge=0, le=2**63 - 1)]
people = APIRouter(tags=["acts"])
record = APIRouter(tags=["record"])


ROUTERS = (people, comments, erasures, record, past, artifacts, cards, delivering, mlflow)


def api(settings: Settings) -> FastAPI:
    """The app; the parts in `app.state` are set when the database is open."""
    routes = [route for router in ROUTERS for route in router.routes]  # not routers: check_routes sees each
    app = bare_app("modelbus registry", routes)
    app.add_middleware(Doorkeeper, tokens=tokens_of(settings), people={"approver": settings.approvers}, refuse=problem)
    add_problems(app)
    return app


def _named(model: ModelName, version: Number) -> tuple[str, int]:
    return model, version


Named = Annotated[tuple[str, int], Depends(_named)]
Doing = Annotated[Acts, part("acts", Acts)]
Looking = Annotated[Reading, part("reading", Reading)]
Tracing = Annotated[Lineage, part("lineage", Lineage)]
Chained = Annotated[Chain, part("chain", Chain)]


async def _yaml(request: Request, source: Annotated[str, Query(max_length=255)] = "<text>") -> list[Declaration]:
    """The body as declarations; never more than its bound is read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _YAML:
        raise HTTPException(415, f"content-type: expected one of {', '.join(_YAML)}, got {kind or 'none'}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"expected at most {MAX_BYTES} bytes")
    try:
        return read(body.decode(), source)
    except UnicodeDecodeError as error:
        raise HTTPException(422, f"body: expected UTF-8, got {error.reason} at byte {error.start}") from None


@people.post("/apply")
async def apply(
    actor: Operator,
    acts: Doing,
    declarations: Annotated[list[Declaration], Depends(_yaml)],
    dry_run: bool = False,
    reason: Annotated[str, Query(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")] = "applied",
) -> PlanView:
    """Declare streams and models, or say what that would change."""
    specs = [declaration.spec for declaration in declarations]
    try:
        changes = await (acts.plan(specs) if dry_run else acts.apply(specs, Word(actor=str(actor), reason=reason)))
    except Misfits as unfit:
        raise ApplyRefused(with_lines(unfit, declarations)) from None
    return PlanView(dry_run=dry_run, changes=[_change(change) for change in changes])


def _change(change: Change) -> ChangeView:
    return ChangeView.model_validate(change)


@people.post("/models/{model}/rollback")
async def rollback(model: ModelName, because: Because, actor: Operator, acts: Doing) -> Ordered:
    """End the running rollout, or restore the champion before."""
    return await _order(acts, model, "rollback", actor, because)


@people.post("/models/{model}/freeze")
async def freeze(model: ModelName, because: Because, actor: Operator, acts: Doing) -> Ordered:
    """Leave who serves as it is until unfrozen."""
    return await _order(acts, model, "freeze", actor, because)


@people.post("/models/{model}/unfreeze")
async def unfreeze(model: ModelName, because: Because, actor: Operator, acts: Doing) -> Ordered:
    """Let rollouts go on."""
    return await _order(acts, model, "unfreeze", actor, because)


@people.post("/models/{model}/promote")
async def promote(model: ModelName, because: Because, actor: Operator, acts: Doing) -> Ordered:
    """Make the challenger the champion without waiting for evidence."""
    return await _order(acts, model, "promote", actor, because)


async def _order(acts: Acts, model: str, order: Order, actor: Actor, because: Because) -> Ordered:
    return Ordered(event_id=await acts.order(model, order, _word(actor, because)))


def _word(actor: Actor, because: Because) -> Word:
    return Word(actor=str(actor), reason=because.reason)


@people.post("/models/{model}/train")
async def train(model: ModelName, because: Because, actor: Operator, acts: Doing) -> Ordered:
    """Ask for a training run now."""
    return Ordered(event_id=await acts.train(model, _word(actor, because)))


@people.post("/models/{model}/versions/{version}/approve")
async def approve(version: Named, because: Because, actor: Approver, acts: Doing, reading: Looking) -> VersionView:
    """Say yes to a version that awaits approval."""
    await acts.approve(*version, _word(actor, because))
    return await reading.version(*version)


@people.post("/models/{model}/versions/{version}/refuse")
async def refuse(version: Named, because: Because, actor: Approver, acts: Doing, reading: Looking) -> VersionView:
    """Say no to a version that awaits approval, for good."""
    await acts.refuse(*version, _word(actor, because))
    return await reading.version(*version)


@people.post("/models/{model}/versions/{version}/retire")
async def retire(version: Named, because: Because, actor: Operator, acts: Doing, reading: Looking) -> VersionView:
    """Never use a version again; one that is live must be rolled back first."""
    await acts.retire(*version, _word(actor, because))
    return await reading.version(*version)


@record.get("/streams")
async def streams(_: Viewer, reading: Looking, after: After = "", limit: Limit = 100) -> Page[StreamView]:
    """Streams by name."""
    return await reading.streams(after, limit)


@record.get("/streams/{stream}")
async def stream(stream: ModelName, _: Viewer, reading: Looking) -> StreamView:
    """One stream as declared now."""
    return await reading.stream(stream)


@record.get("/models")
async def models(_: Viewer, reading: Looking, after: After = "", limit: Limit = 100) -> Page[ModelView]:
    """Models by name."""
    return await reading.models(after, limit)


@record.get("/models/{model}")
async def model(model: ModelName, _: Viewer, reading: Looking) -> ModelView:
    """One model as declared now, and who serves it."""
    return await reading.model(model)


@record.get("/models/{model}/versions")
async def versions(
    model: ModelName, _: Viewer, reading: Looking, after: Before = None, limit: Limit = 100
) -> Page[VersionSummary]:
    """Versions of a model, newest first."""
    return await reading.versions(model, after, limit)


@record.get("/models/{model}/versions/{version}")
async def version(version: Named, _: Viewer, reading: Looking) -> VersionView:
    """All that is known of a version."""
    return await reading.version(*version)


@record.get("/lineage/{model}/{version}")
async def lineage(version: Named, _: Viewer, traced: Tracing) -> LineageView:
    """All that led to a version and came of it: who asked, data, code, gates, approvals, rollouts, trace."""
    return await traced.of(*version)


@record.get("/models/{model}/rollouts")
async def rollouts(
    model: ModelName, _: Viewer, reading: Looking, after: Before = None, limit: Limit = 100
) -> Page[RolloutView]:
    """Rollouts of a model with their steps, newest first."""
    return await reading.rollouts(model, after, limit)


@record.get("/models/{model}/runs")
async def runs(model: ModelName, _: Viewer, reading: Looking, after: Place = None, limit: Limit = 100) -> Page[RunView]:
    """Training runs of a model, newest first."""
    return await reading.runs(model, after, limit)


@record.get("/models/{model}/alerts")
async def alerts(
    model: ModelName, _: Viewer, reading: Looking, after: Place = None, limit: Limit = 100
) -> Page[AlertView]:
    """Alerts of a model, newest first."""
    return await reading.alerts(model, after, limit)


@record.get("/models/{model}/windows")
async def windows(
    model: ModelName, _: Viewer, reading: Looking, after: Place = None, limit: Limit = 100
) -> Page[WindowMeasured]:
    """The latest measured windows of a model, newest first; only so many are kept."""
    return await reading.windows(model, after, limit)


@record.get("/tables")
async def tables(_: Viewer, reading: Looking, after: After = "", limit: Limit = 100) -> Page[TableView]:
    """The latest version of every table, by name."""
    return await reading.tables(after, limit)


@record.get("/audit")
async def audit(_: Viewer, reading: Looking, after: From = 0, limit: Limit = 100) -> Page[AuditView]:
    """Every change and who made it, oldest first; each row is sealed with the one before."""
    return await reading.audit(after, limit)


@record.get("/audit/verify")
async def verify(_: Viewer, chain: Chained) -> ChainView:
    """Whether every row is as it was sealed, and every head that was said is there."""
    return ChainView.model_validate(await chain.verify())


@record.get("/status")
async def status(_: Viewer, reading: Looking) -> StatusView:
    """Everything at a glance."""
    return await reading.status(datetime.now(UTC))


@record.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request, _: Viewer) -> dict[str, Any]:
    """This API, described."""
    described: dict[str, Any] = request.app.openapi()
    return described
