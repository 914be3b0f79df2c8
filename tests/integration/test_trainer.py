"""The trainer on real parts: Delta tables and artifacts on S3, jobs in Postgres, runs in child processes."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np
import pyarrow as pa
import pytest

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Cut
from schemas.events.trainer import ModelTrained, TrainingFailed, TrainingProgressed
from schemas.specs import ModelSpec, StreamSpec
from services.trainer.app import CHILD, MIGRATIONS
from services.trainer.domain.records import Recipe
from services.trainer.domain.words import WORDS
from services.trainer.handlers import on_training_requested
from shared import scikit
from shared.dataset import read_dataset
from shared.jobs import JobRunner
from shared.matrix import Projection
from shared.objects import Objects
from shared.outbox import unit_of_work
from shared.quality import metrics
from shared.runtime import Model
from shared.settings import S3Settings
from shared.tables import Tables, append, schema_of
from tests.conftest import PoolFor
from tests.unit.trainer_cases import START, cut_at, model_for, rows_for, stream_for

EVENTS: Sequence[type[Event]] = (ModelTrained, TrainingFailed, TrainingProgressed)
ROWS = 900


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    return await pool_for("trainer", MIGRATIONS)


def records_of(task: str) -> tuple[pa.Table, pa.Table]:
    """The unit tests' rows as data and label records of two partitions, one repeat among them."""
    spec, dataset = stream_for(task), rows_for(task, ROWS)
    values: dict[str, Any] = {"binary": bool, "regression": float, "multiclass": lambda c: spec.label.values[int(c)]}
    data: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for row, identity in enumerate(dataset.ids):
        time = dataset.times[row].astype(datetime).replace(tzinfo=UTC)
        place = {"id": identity, "entity": "e", "partition": row % 2, "offset": row}
        x, _, kind, flag = (None if np.isnan(value) else float(value) for value in dataset.matrix[row])
        features = {
            "f_x": x,
            "f_empty": None,
            "f_kind": None if kind is None else "abc"[int(kind)],
            "f_flag": flag == 1,
        }
        data.append(place | {"time": time, "flags": []} | features)
        label = values[task](dataset.labels[row])
        labels.append(place | {"time": time + timedelta(minutes=50), "label": label})
    data.append(data[5] | {"offset": ROWS, "f_x": 1e9})
    return (
        pa.Table.from_pylist(data, schema=schema_of("data", spec)),
        pa.Table.from_pylist(labels, schema=schema_of("labels", spec)),
    )


def committed(s3: S3Settings, task: str) -> Cut:
    """Tables of a stream of its own, and the cut that holds them; what comes later is in a later version."""
    tables, stream = Tables(s3), owner(task)
    spec = stream_for(task)
    data, labels = records_of(task)
    versions = []
    for kind, rows in (("data", data), ("labels", labels)):
        table = tables.ensure(kind, stream, schema_of(kind, spec))  # type: ignore[arg-type]  # one of the two kinds
        append(table, rows, {}, {})
        versions.append(table.version())
        append(table, rows, {}, {})
    return cut_at(START + timedelta(days=1), data=versions[0], labels=versions[1])


def owner(task: str) -> str:
    return f"stream-{task}"


def request_of(cut: Cut, task: str, run_id: str = "run-1", **training: Any) -> TrainingRequested:
    estimators = ["ridge"] if task == "regression" else ["logistic_regression"]
    spec = model_for(task, [*estimators, "hist_gradient_boosting"], **training)
    renamed = {"stream": owner(task)}
    return TrainingRequested(
        model="m",
        run_id=run_id,
        reason="first",
        explanation="enough rows have matured",
        spec=ModelSpec.model_validate(spec.model_dump() | renamed),
        stream_spec=StreamSpec.model_validate(stream_for(task).model_dump() | renamed),
        cut=cut,
    )


async def hear(pool: asyncpg.Pool, request: TrainingRequested) -> None:
    cause = Envelope(
        id=f"asked-{request.run_id}",
        source="modelbus/monitor",
        time=START,
        correlation_id=request.run_id,
        causation_id=None,
        traceparent=None,
        event=request,
    )
    async with unit_of_work(pool, "trainer", cause) as work:
        await on_training_requested(request, work)


async def said(pool: asyncpg.Pool) -> list[Event]:
    rows = await pool.fetch("SELECT headers, value FROM outbox ORDER BY position")
    by_name = {event.type_name(): event for event in EVENTS}
    return [by_name[dict(row["headers"])["ce_type"]].decode(row["value"]) for row in rows]


async def run_to_the_end(pool: asyncpg.Pool, seconds: float = 120) -> list[Event]:
    """Run jobs until none is open; what was said."""
    runner = asyncio.create_task(JobRunner(pool=pool, service="trainer", module=CHILD, words=WORDS).run())
    try:
        async with asyncio.timeout(seconds):
            while True:
                if not await pool.fetchval("SELECT count(*) FROM job WHERE state IN ('waiting', 'running')"):
                    return await said(pool)
                await asyncio.sleep(0.1)
    finally:
        runner.cancel()
        with suppress(asyncio.CancelledError):
            await runner


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
async def test_a_request_becomes_a_candidate_whose_artifacts_are_in_the_store(
    pool: asyncpg.Pool, s3: S3Settings, task: Any
) -> None:
    request = request_of(committed(s3, task), task)

    await hear(pool, request)
    events = await run_to_the_end(pool)

    trained = events[-1]
    assert isinstance(trained, ModelTrained), trained
    candidate, objects = trained.candidate, Objects(s3)
    onnx, skops, manifest, reference = [
        await objects.get(part.digest)
        for part in (candidate.onnx, candidate.skops, candidate.manifest, candidate.reference)
    ]
    assert candidate.rows == ROWS
    assert 0 < trained.fit_seconds < trained.run_seconds
    assert Recipe.of_manifest(manifest) == Recipe.of_request(request)
    assert json.loads(manifest)["digests"] == {"onnx": candidate.onnx.digest, "reference": candidate.reference.digest}
    assert json.loads(reference)["rows"] == ROWS
    until = json.loads(manifest)["split"]
    dataset = read_dataset(Tables(s3), request.spec, request.stream_spec, request.cut)
    test = dataset.part(*(datetime.fromisoformat(until[f"{name}_until"]) for name in ("calibrate", "test")))
    inputs = Projection(candidate.signature, request.stream_spec)(test.matrix)
    scores = Model(onnx, candidate.signature).score(inputs)
    answers = scores.score if scores.probabilities is None else scores.probabilities
    assert metrics(task, test.labels, answers) == candidate.metrics
    assert scikit.loads(skops).predict(inputs[:1]) is not None
    stages = [event.stage for event in events if isinstance(event, TrainingProgressed)]
    assert stages == ["reading"] * 2 + ["searching"] * 3 + ["calibrating"] * 2 + ["exporting"] * 2


async def test_the_same_request_in_fresh_processes_gives_the_same_digests(pool: asyncpg.Pool, s3: S3Settings) -> None:
    cut = committed(s3, "binary")

    candidates = []
    for attempt in range(2):
        await pool.execute("DELETE FROM job")
        await hear(pool, request_of(cut, "binary"))
        trained = (await run_to_the_end(pool))[-1]
        assert isinstance(trained, ModelTrained), attempt
        candidates.append(trained.candidate)

    first, second = candidates
    assert (first.onnx, first.reference) == (second.onnx, second.reference)
    manifests = [json.loads(await Objects(s3).get(each.manifest.digest)) for each in (first, second)]
    assert all(manifest.pop("code_version") for manifest in manifests)  # sources may be edited while tests run
    assert manifests[0] == manifests[1]


async def test_too_few_matured_rows_end_the_run_as_insufficient_data(pool: asyncpg.Pool, s3: S3Settings) -> None:
    cut = committed(s3, "binary")
    early = cut.model_copy(update={"time": START + timedelta(minutes=120)})

    await hear(pool, request_of(early, "binary"))
    failed = (await run_to_the_end(pool))[-1]

    assert isinstance(failed, TrainingFailed)
    assert (failed.reason, failed.explanation[-6:]) == ("insufficient_data", "got 61")


async def test_a_newer_request_for_a_model_replaces_the_run_that_is_not_over(pool: asyncpg.Pool) -> None:
    cut = cut_at()

    await hear(pool, request_of(cut, "binary", "old"))
    await hear(pool, request_of(cut, "binary", "new"))

    events = await said(pool)
    assert [(event.run_id, event.reason) for event in events if isinstance(event, TrainingFailed)] == [
        ("old", "cancelled")
    ]
    states = {row["id"]: row["state"] for row in await pool.fetch("SELECT id, state FROM job")}
    assert states == {"old": "failed", "new": "waiting"}


async def test_a_table_that_is_not_there_crashes_the_run_and_is_said(pool: asyncpg.Pool, s3: S3Settings) -> None:
    request = request_of(cut_at(), "binary")
    nowhere = request.stream_spec.model_copy(update={"stream": "nowhere"})
    await hear(pool, request.model_copy(update={"stream_spec": nowhere}))
    await pool.execute("UPDATE job SET crashes = 2")  # two crashes of three are behind it

    failed = (await run_to_the_end(pool))[-1]

    assert isinstance(failed, TrainingFailed)
    assert failed.reason == "crashed"
    assert "nowhere" in failed.explanation
