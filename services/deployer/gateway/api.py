"""The routes of the Open Inference Protocol v2. All but the probes need the role `caller`."""

import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version as version_of
from typing import Annotated, Final, cast

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from opentelemetry.trace import SpanKind

from services.deployer.gateway import metrics, protocol
from services.deployer.gateway.answering import Answering, Reply
from services.deployer.gateway.description import INFERENCE, METADATA, PROBE, READY, SERVER, described
from services.deployer.gateway.errors import TooLarge, Unanswered, Unsupported
from services.deployer.gateway.problems import add_errors, refuse, unanswered
from services.deployer.gateway.protocol import HEADER_LENGTH, Asked, ModelReady, ServerMetadata, ServerReady
from services.deployer.settings import GatewaySettings
from shared import telemetry
from shared.access import Actor, Doorkeeper, Needs, bare_app
from shared.health import OPEN_ROUTES, Health

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
OPEN: Final = (*OPEN_ROUTES, "/v2/health/live", "/v2/health/ready")  # the protocol's own probes
EXTENSIONS: Final = ["binary_tensor_data"]
Caller = Annotated[Actor, Depends(Needs("caller"))]
routes = APIRouter(default_response_class=Response)


def api(settings: GatewaySettings, health: Health, answering: Answering) -> FastAPI:
    """The app, without the open routes of every process."""
    app = bare_app("modelbus gateway", routes.routes)
    app.state.health, app.state.answering = health, answering
    app.add_middleware(Doorkeeper, tokens={"caller": settings.caller_token}, refuse=refuse, open_routes=OPEN)
    add_errors(app)
    return app


def _answering(request: Request) -> Answering:
    return cast(Answering, request.app.state.answering)


Answers = Annotated[Answering, Depends(_answering)]


def _json(message: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(message), status, media_type="application/json")


@routes.get("/v2/health/live", **PROBE)
async def live(request: Request) -> Response:
    """Whether requests are received."""
    probed = _probed(request)
    return _json(probed, 200 if probed.live else 503)


@routes.get("/v2/health/ready", **PROBE)
async def ready(request: Request) -> Response:
    """Whether every model that is served can be asked; /readyz tells of the process alone."""
    probed = _probed(request)
    return _json(probed, 200 if probed.ready else 503)


def _probed(request: Request) -> ServerReady:
    health: Health = request.app.state.health
    alive = all(health.alive().values())
    return ServerReady(live=alive, ready=alive and health.ready and _answering(request).is_ready())


@routes.get("/v2/", include_in_schema=False)
@routes.get("/v2", **SERVER)
async def server(_: Caller) -> Response:
    """Who answers."""
    return _json(ServerMetadata(name="modelbus", version=version_of("modelbus"), extensions=EXTENSIONS))


@routes.get("/v2/models/{model}", **METADATA)
async def metadata(model: str, _: Caller, answering: Answers) -> Response:
    """What the champion takes and gives, and which versions are live."""
    return _json(answering.metadata(model))


@routes.get("/v2/models/{model}/versions/{version}", **METADATA)
async def version_metadata(model: str, version: str, _: Caller, answering: Answers) -> Response:
    """What a live version takes and gives."""
    return _json(answering.metadata(model, version))


@routes.get("/v2/models/{model}/ready", **READY)
async def model_ready(model: str, _: Caller, answering: Answers) -> Response:
    """200 when a version serves the model."""
    answering.serving(model)
    return _json(ModelReady(name=model, ready=True))


@routes.get("/v2/models/{model}/versions/{version}/ready", **READY)
async def version_ready(model: str, version: str, _: Caller, answering: Answers) -> Response:
    """200 when the version is live."""
    answering.version(model, version)
    return _json(ModelReady(name=model, ready=True))


@routes.post("/v2/models/{model}/infer", **INFERENCE)
async def infer(model: str, request: Request, _: Caller, answering: Answers) -> Response:
    """Publish each row as an event of `parameters.entity` and answer with the predictions committed for them."""
    return await _infer(model, request, answering, lambda asked: answering.infer(model, asked))


@routes.post("/v2/models/{model}/versions/{version}/infer", **INFERENCE)
async def infer_version(model: str, version: str, request: Request, _: Caller, answering: Answers) -> Response:
    """Ask one live version; nothing is published."""

    async def reply(asked: Asked) -> Reply:
        return answering.infer_version(model, version, asked)

    return await _infer(model, request, answering, reply)


async def _infer(
    model: str, request: Request, answering: Answering, reply: Callable[[Asked], Awaitable[Reply]]
) -> Response:
    """One request in one span; a refusal is an answer, too, and no error of the span."""
    began = time.perf_counter()
    known = model if answering.knows(model) else "unknown"  # names that strangers make up are no labels
    parent = request.headers.get("traceparent")
    with telemetry.span(f"infer {known}", kind=SpanKind.SERVER, parent=parent) as span:
        try:
            body, json_size = await reply(protocol.read(await _body(request), request.headers.get(HEADER_LENGTH)))
            response = _inferred(body, json_size)
        except Unanswered as error:
            response = unanswered(error)
        span.set_attribute("http.response.status_code", response.status_code)
    metrics.REQUESTS.labels(known, response.status_code).inc()
    metrics.SECONDS.labels(known).observe(time.perf_counter() - began)
    return response


def _inferred(body: bytes, json_size: int | None) -> Response:
    if json_size is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_size)})


async def _body(request: Request) -> bytes:
    """Never more than its bound is read."""
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise Unsupported(f"content-encoding: expected none, got {coding!r}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"body: expected at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


@routes.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request, _: Caller) -> Response:
    """This API, described."""
    return Response(msgspec.json.encode(described(request.app)), media_type="application/json")
