"""MLflow's model registry, to read: what `MlflowClient` asks of models, versions, aliases, and a version's files.

A version's files are those that its bundle lists; `champion` and `challenger` are the aliases.

Source: MLflow REST API 2.0, Model Registry and mlflow-artifacts.
"""

import re
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from services.registry.access import ModelName, Number, Viewer, part
from services.registry.acts import NotDeclared
from services.registry.reading import Reading
from services.registry.views import ModelView, VersionSummary
from shared.errors import Refusal
from shared.objects import Objects
from shared.signing import BUNDLE, listed

Json = dict[str, Any]
_OVER = ("archived", "retired", "rolled_back", "rejected", "refused")
_STAGES: Final = {"champion": "Production", "shadow": "Staging", "canary": "Staging"} | dict.fromkeys(_OVER, "Archived")
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_NAMED = re.compile(r"name\s*=\s*'([^']*)'")
_NO_PROMPT = "tag.`mlflow.prompt.is_prompt` != 'true'"  # clients ask it of everything, and nothing here is one
_LARGEST = 2**31 - 1


class NotAsked(Refusal):
    """What MLflow knows to ask, and this registry does not answer."""


class _Route(APIRoute):
    """Refusals as MLflow's clients read them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except NotDeclared as error:
                return JSONResponse({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": str(error)}, 404)
            except NotAsked as error:
                return JSONResponse({"error_code": "INVALID_PARAMETER_VALUE", "message": str(error)}, 400)

        return answer


mlflow = APIRouter(prefix="/api/2.0", tags=["mlflow"], route_class=_Route)
Name = Annotated[str, Query(max_length=255)]
Numbered = Annotated[int, Query(ge=1, le=_LARGEST)]
Most = Annotated[int, Query(alias="max_results", ge=1, le=200_000)]
Token = Annotated[str, Query(alias="page_token", max_length=255)]
Filter = Annotated[str, Query(max_length=1000)]


class Shelf:
    """The record, as MLflow words it."""

    def __init__(self, reading: Reading, objects: Objects) -> None:
        self._reading, self._objects = reading, objects

    async def model(self, name: str) -> Json:
        """Raises NotDeclared."""
        return await self._worded(await self._reading.model(name))

    async def models(self, name: str | None, token: str, most: int) -> Json:
        """One by its name, or a page of all."""
        if name is not None:
            try:
                return {"registered_models": [await self.model(name)]}
            except NotDeclared:
                return {"registered_models": []}
        page = await self._reading.models(token, most)
        found = [await self._worded(each) for each in page.items]
        return {"registered_models": found, "next_page_token": page.next or ""}

    async def version(self, name: str, number: int) -> Json:
        """Raises NotDeclared."""
        return _version(await self._reading.model(name), await self._reading.version(name, number))

    async def aliased(self, name: str, alias: str) -> Json:
        """Raises NotDeclared."""
        number = _aliases(await self._reading.model(name)).get(alias)
        if number is None:
            raise NotDeclared(f"{name}: expected the alias of a version, champion or challenger, got {alias!r}")
        return await self.version(name, number)

    async def versions(self, name: str, token: str, most: int) -> Json:
        """A page of a model's, newest first."""
        model = await self._reading.model(name)
        page = await self._reading.versions(name, int(token) if token.isdecimal() else None, min(most, 500))
        found = [_version(model, each) for each in page.items]
        return {"model_versions": found, "next_page_token": page.next or ""}

    async def files(self, name: str, number: int) -> dict[str, str]:
        """Digests by name, the bundle's too; none of a version that was not signed. Raises NotDeclared."""
        attestation = (await self._reading.version(name, number)).attestation
        if attestation is None:
            return {}
        return listed(await self._objects.get(attestation.digest)) | {BUNDLE: attestation.digest}

    async def file(self, name: str, number: int, path: str) -> bytes:
        """Raises NotDeclared."""
        digest = (await self.files(name, number)).get(path)
        if digest is None:
            raise NotDeclared(f"{name}:{number} has no file {path!r}")
        return await self._objects.get(digest)

    async def _worded(self, model: ModelView) -> Json:
        newest = (await self._reading.versions(model.name, None, 1)).items
        return {
            "name": model.name,
            "creation_timestamp": _milliseconds(model.applied_at),
            "last_updated_timestamp": _milliseconds(model.applied_at),
            "description": f"{model.spec.task} on the stream {model.stream}, owned by {model.spec.owner}",
            "aliases": [{"alias": alias, "version": str(number)} for alias, number in _aliases(model).items()],
            "tags": _tags({"stream": model.stream, "task": model.spec.task, "owner": model.spec.owner}),
            "latest_versions": [_version(model, each) for each in newest],
        }


def _version(model: ModelView, version: VersionSummary) -> Json:
    created = _milliseconds(version.created_at)
    return {
        "name": version.model,
        "version": str(version.version),
        "creation_timestamp": created,
        "last_updated_timestamp": created,
        "current_stage": _STAGES.get(version.stage, "None"),
        "description": version.explanation or "",
        "source": _source(version.model, version.version),
        "run_id": version.run_id,
        "status": "READY",
        "aliases": [alias for alias, number in _aliases(model).items() if number == version.version],
        "tags": _tags({"stage": version.stage} | {name: f"{value:.6g}" for name, value in version.metrics.items()}),
    }


def _aliases(model: ModelView) -> dict[str, int]:
    serving = model.serving
    named = {"champion": serving.champion, "challenger": serving.challenger}
    return {alias: number for alias, number in named.items() if number is not None}


def _source(name: str, number: int) -> str:
    return f"mlflow-artifacts:/{name}/{number}"


def _tags(tags: dict[str, str]) -> list[Json]:
    return [{"key": f"modelbus.{key}", "value": value} for key, value in tags.items()]


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _name_in(condition: str) -> str | None:
    """The name that a filter asks for; None when it asks for all.

    >>> _name_in("name='flight-delay' AND tag.`mlflow.prompt.is_prompt` != 'true'"), _name_in("")
    ('flight-delay', None)
    """
    asked = [each for each in _AND.split(condition.strip()) if each not in {"", _NO_PROMPT}]
    names = [found[1] for each in asked if (found := _NAMED.fullmatch(each))]
    if len(names) < len(asked) or len(names) > 1:
        raise NotAsked(f"filter: expected name = '…' or none, got {condition!r}")
    return names[0] if names else None


Shelves = Annotated[Shelf, part("shelf", Shelf)]


@mlflow.get("/mlflow/registered-models/search")
async def search_models(_: Viewer, shelf: Shelves, filter: Filter = "", most: Most = 100, token: Token = "") -> Json:
    """Models by name."""
    return await shelf.models(_name_in(filter), token, min(most, 500))


@mlflow.get("/mlflow/registered-models/get")
async def get_model(name: Name, _: Viewer, shelf: Shelves) -> Json:
    """One model, with its aliases and its newest version."""
    return {"registered_model": await shelf.model(name)}


@mlflow.get("/mlflow/registered-models/alias")
async def get_alias(name: Name, alias: Name, _: Viewer, shelf: Shelves) -> Json:
    """The version that is champion, or challenger."""
    return {"model_version": await shelf.aliased(name, alias)}


@mlflow.post("/mlflow/registered-models/get-latest-versions")
async def latest_versions(name: Annotated[str, Body(embed=True)], _: Viewer, shelf: Shelves) -> Json:
    """The newest version, whatever its stage."""
    return {"model_versions": (await shelf.model(name))["latest_versions"]}


@mlflow.get("/mlflow/model-versions/search")
async def search_versions(_: Viewer, shelf: Shelves, filter: Filter = "", most: Most = 100, token: Token = "") -> Json:
    """Versions of the model that the filter names, newest first."""
    if (name := _name_in(filter)) is None:
        raise NotAsked("filter: expected name = '…', got none")
    return await shelf.versions(name, token, most)


@mlflow.get("/mlflow/model-versions/get")
async def get_version(name: Name, version: Numbered, _: Viewer, shelf: Shelves) -> Json:
    """One version."""
    return {"model_version": await shelf.version(name, version)}


@mlflow.get("/mlflow/model-versions/get-download-uri")
async def download_uri(name: Name, version: Numbered, _: Viewer, shelf: Shelves) -> Json:
    """Where the files of a version are read from: here."""
    await shelf.version(name, version)
    return {"artifact_uri": _source(name, version)}


@mlflow.get("/mlflow-artifacts/artifacts")
async def list_files(path: Name, _: Viewer, shelf: Shelves) -> Json:
    """The files of a version, `<model>/<version>`."""
    name, _slash, rest = path.strip("/").partition("/")
    number, _slash, below = rest.partition("/")
    if below or not number.isdecimal() or not 1 <= int(number) <= _LARGEST:
        return {"files": []}
    return {"files": [{"path": each, "is_dir": False} for each in await shelf.files(name, int(number))]}


@mlflow.get("/mlflow-artifacts/artifacts/{model}/{version}/{file}", response_class=Response)
async def get_file(model: ModelName, version: Number, file: str, _: Viewer, shelf: Shelves) -> Response:
    """The bytes of one."""
    return Response(await shelf.file(model, version, file), media_type="application/octet-stream")
