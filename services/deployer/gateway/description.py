"""The OpenAPI document of the gateway, made of the very types that read and write its messages."""

from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.deployer.gateway.protocol import (
    Error,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
    ServerReady,
)

_SCHEMAS = "#/components/schemas/{name}"
_BYTES: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS.format(name=kind.__name__)}}}


def _route(kind: type[msgspec.Struct], **more: Any) -> dict[str, Any]:
    """What FastAPI is told of a route that answers with `kind` or an error."""
    error = {"description": "No answer, and why", "content": _content(Error)}
    responses = {200: {"description": "The answer", "content": _content(kind)}, "4XX": error, "5XX": error}
    return {"responses": responses, **more}


def _inference() -> dict[str, Any]:
    route = _route(InferenceResponse)
    route["responses"][200]["content"]["application/octet-stream"] = _BYTES
    body = {"required": True, "content": {**_content(InferenceRequest), "application/octet-stream": _BYTES}}
    return {**route, "openapi_extra": {"requestBody": body}}


_PROBED: Final = {"description": "The word of the process", "content": _content(ServerReady)}
PROBE: Final[dict[str, Any]] = {"responses": {200: _PROBED, 503: _PROBED}, "openapi_extra": {"security": []}}
SERVER: Final = _route(ServerMetadata)
METADATA: Final = _route(ModelMetadata)
READY: Final = _route(ModelReady)
INFERENCE: Final = _inference()


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    kinds = (Error, InferenceRequest, InferenceResponse, ModelMetadata, ModelReady, ServerMetadata, ServerReady)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS)
    bearer = {"caller": {"type": "http", "scheme": "bearer"}}
    return document | {"components": {"schemas": schemas, "securitySchemes": bearer}, "security": [{"caller": []}]}
