"""A stock MLflow, in an environment of its own, loads what modelbus makes and reads its registry."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from compose.embedded.keys import key_pair
from schemas.events.parts import Artifact, Candidate, Release
from schemas.events.trainer import ModelTrained
from schemas.events.validator import ModelValidated
from services.registry.api import api
from services.registry.app import MIGRATIONS
from services.registry.mlflow import Shelf
from services.registry.reading import Reading
from services.trainer.jobs import train
from services.trainer.provenance import provenance
from services.validator.attestation import attested
from shared.dataset import read_dataset
from shared.health import serve
from shared.matrix import Inputs, Projection
from shared.objects import Objects
from shared.runtime import Model
from shared.settings import HttpSettings, S3Settings
from shared.signing import listed
from shared.tables import Tables
from tests.conftest import PoolFor
from tests.integration.registry_kit import declare, hear
from tests.integration.test_registry_api import SETTINGS, TOKENS
from tests.integration.test_trainer import committed, request_of
from tests.scoring_world import ROOT, changed

HERE = Path(__file__).parent / "mlflow"
ROWS = 50


class Made(NamedTuple):
    """A trained version, rows of it, and what modelbus answers to them."""

    candidate: Candidate
    attestation: Artifact
    rows: Inputs
    answers: Any


def made(s3: S3Settings, task: str, key: Path) -> Made:
    request = request_of(committed(s3, task), task)
    with threadpool_limits(1):  # as in the trainer's child
        result = train(request.model_dump(mode="json"), lambda _: None, provenance())
    candidate, objects = Candidate.model_validate(result["candidate"]), Objects(s3)
    dataset = read_dataset(Tables(s3), request.spec, request.stream_spec, request.cut)
    rows = Projection(candidate.signature, request.stream_spec)(dataset.matrix)[:ROWS]
    scores = Model(objects.get_now(candidate.onnx.digest), candidate.signature).score(rows)
    answers = scores.score[:, None] if scores.probabilities is None else scores.probabilities
    return Made(candidate, attested(candidate, b"{}", objects, key), rows, answers)


def folder_of(version: Made, objects: Objects, folder: Path) -> Path:
    folder.mkdir()
    for name, digest in listed(objects.get_now(version.attestation.digest)).items():
        (folder / name).write_bytes(objects.get_now(digest))
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the client's environment."""
    uv, where = shutil.which("uv") or str(ROOT / ".uv/bin/uv"), tmp_path_factory.mktemp("mlflow") / "environment"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, where], check=True)
    python = where / "bin" / "python"
    lock = HERE / "requirements.lock"
    subprocess.run([uv, "pip", "sync", "-q", "--require-hashes", "--python", python, lock], check=True)
    return python


async def asked(python: Path, loads: list[dict[str, Any]], model: str | None = None, **settings: str) -> dict[str, Any]:
    """What the client got."""
    process = await asyncio.create_subprocess_exec(
        *(python, "-W", "ignore", HERE / "client.py"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"GIT_PYTHON_REFRESH": "quiet", "MLFLOW_DISABLE_TELEMETRY": "true"} | settings,
    )
    out, _ = await process.communicate(json.dumps({"loads": loads, "model": model}).encode())
    assert process.returncode == 0
    return dict(json.loads(out))


async def test_a_stock_mlflow_loads_versions_and_predicts_the_same_values(
    s3: S3Settings, client: Path, tmp_path: Path
) -> None:
    key, _ = key_pair(tmp_path / "keys")
    versions = [made(s3, task, key) for task in ("binary", "multiclass", "regression")]

    folders = [folder_of(each, Objects(s3), tmp_path / str(number)) for number, each in enumerate(versions)]
    loads = [
        {"uri": str(folder), "rows": version.rows.tolist()} for folder, version in zip(folders, versions, strict=True)
    ]
    found = await asked(client, loads)

    for version, answers in zip(versions, found["answers"], strict=True):
        assert np.array_equal(np.array(answers), version.answers), version.candidate.spec.task


@asynccontextmanager
async def registry(pool: asyncpg.Pool, objects: Objects) -> AsyncIterator[dict[str, str]]:
    """Over HTTP, and how MLflow finds it as a viewer."""
    app = api(SETTINGS)
    app.state.reading = Reading(pool)
    app.state.shelf = Shelf(app.state.reading, objects)
    async with serve(app, HttpSettings()) as port:
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_TRACKING_TOKEN": TOKENS["viewer"]}


async def test_a_stock_client_lists_models_versions_and_aliases_and_loads_the_champion(
    s3: S3Settings, client: Path, pool_for: PoolFor, tmp_path: Path
) -> None:
    pool = await pool_for("registry", [MIGRATIONS])
    version = made(s3, "binary", key_pair(tmp_path / "keys")[0])
    candidate = version.candidate
    await declare(pool, candidate.stream_spec, candidate.spec)
    await hear(pool, ModelTrained(model="m", run_id="run-1", candidate=candidate, fit_seconds=1, run_seconds=1))
    parts: dict[str, Any] = {"gates": (), "report": candidate.manifest, "attestation": version.attestation}
    await hear(pool, ModelValidated(model="m", run_id="run-1", candidate=candidate, **parts))
    later = candidate.model_copy(update={"run_id": "run-2"})
    await hear(pool, ModelTrained(model="m", run_id="run-2", candidate=later, fit_seconds=1, run_seconds=1))
    await hear(pool, changed(1, Release(version=1, candidate=candidate, attestation=version.attestation)))

    async with registry(pool, Objects(s3)) as settings:
        found = await asked(client, [{"uri": "models:/m@champion", "rows": version.rows.tolist()}], "m", **settings)

    assert np.array_equal(np.array(found.pop("answers")[0]), version.answers)
    assert found == {
        "models": ["m"],
        "aliases": {"champion": "1"},
        "versions": [["2", "None", "READY"], ["1", "Production", "READY"]],
        "latest": ["2"],
        "champion": "run-1",
        "run": "run-1",
        "missing": "RESOURCE_DOES_NOT_EXIST",
    }
