"""Errors as people and programs read them: problem details, RFC 9457."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from confluent_kafka import KafkaException
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from schemas.declarations import Declaration, DeclarationsInvalid, Problem, kind_and_name
from services.registry.acts import NotDeclared
from services.registry.domain.plan import Misfits
from shared.errors import Fault, Forbidden, Refusal

log = logging.getLogger(__name__)


class ApplyRefused(Exception):
    """Declarations that do not fit what is declared, with the lines they stand on."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(each) for each in problems))


def with_lines(unfit: Misfits, declarations: Sequence[Declaration]) -> list[Problem]:
    """What does not fit, by the lines it stands on."""
    written = {kind_and_name(each.spec): each for each in declarations}
    return [
        Problem(
            source=written[misfit.kind, misfit.name].source,
            line=written[misfit.kind, misfit.name].line(*misfit.where),
            where=".".join(str(part) for part in misfit.where),
            found=misfit.found,
            expected=misfit.expected,
        )
        for misfit in unfit.misfits
    ]


def problem(status: int, kind: str, detail: str, **more: Any) -> JSONResponse:
    """`{type, title, status, detail}` and what else helps."""
    body = {"type": f"urn:modelbus:problem:{kind}", "title": HTTPStatus(status).phrase, "status": status}
    return JSONResponse(body | {"detail": detail} | more, status, media_type="application/problem+json")


def add_problems(app: FastAPI) -> None:
    """Every error of `app` becomes a problem; what was not foreseen says nothing about the inside."""

    @app.exception_handler(HTTPException)
    def http(_: Request, error: HTTPException) -> JSONResponse:
        response = problem(error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        return problem(422, "invalid", "; ".join(found))

    @app.exception_handler(DeclarationsInvalid)
    def undeclarable(_: Request, error: DeclarationsInvalid) -> JSONResponse:
        return problem(422, "declarations-invalid", str(error), problems=[vars(each) for each in error.problems])

    @app.exception_handler(ApplyRefused)
    def unfit(_: Request, error: ApplyRefused) -> JSONResponse:
        return problem(409, "declarations-unfit", str(error), problems=[vars(each) for each in error.problems])

    @app.exception_handler(Refusal)
    def refused(_: Request, error: Refusal) -> JSONResponse:
        if isinstance(error, Forbidden):
            return problem(403, "forbidden", str(error))
        return problem(*((404, "unknown") if isinstance(error, NotDeclared) else (409, "refused")), str(error))

    @app.exception_handler(Fault)
    def store(_: Request, error: Fault) -> JSONResponse:
        log.warning("a part failed: %s", error)
        return problem(503, "part-unavailable", str(error))

    @app.exception_handler(KafkaException)
    def broker(_: Request, error: KafkaException) -> JSONResponse:
        log.warning("the broker refused: %s", error)
        return problem(503, "broker-unavailable", "the broker refused or did not answer; try again")

    @app.exception_handler(Exception)
    def unforeseen(_: Request, error: Exception) -> JSONResponse:
        log.error("unforeseen", exc_info=error)
        return problem(500, "unforeseen", "something broke inside; the registry's log says what")
