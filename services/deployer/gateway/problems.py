"""Every error as the protocol says: {"error": what, where, and what was expected}."""

import logging

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from services.deployer.gateway.errors import Unanswered
from services.deployer.gateway.protocol import Error
from shared.errors import Forbidden

log = logging.getLogger(__name__)


def problem(status: int, detail: str) -> Response:
    """`{"error": …}`."""
    return Response(msgspec.json.encode(Error(error=detail)), status, media_type="application/json")


def refuse(status: int, _: str, detail: str) -> Response:
    """What the doorkeeper says; the protocol knows no kinds of errors."""
    return problem(status, detail)


def unanswered(error: Unanswered) -> Response:
    """What keeps a request from being answered."""
    response = problem(error.status, str(error))
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def add_errors(app: FastAPI) -> None:
    """What was not foreseen says nothing about the inside."""

    @app.exception_handler(Unanswered)
    def known(_: Request, error: Unanswered) -> Response:
        return unanswered(error)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        response = problem(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Forbidden)
    def forbidden(_: Request, error: Forbidden) -> Response:
        return problem(403, str(error))

    @app.exception_handler(Exception)
    def unforeseen(_: Request, error: Exception) -> Response:
        log.error("unforeseen", exc_info=error)
        return problem(500, "something broke inside; the gateway's log says what")
