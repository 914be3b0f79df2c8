"""The validator on real parts: handlers and store on Postgres, judgements in a child from S3 and the pinned tables."""

import asyncio
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.preprocessing import FunctionTransformer

from compose.embedded.stack import Stack
from schemas import envelope
from schemas.envelope import Envelope
from schemas.events.deployer import RolloutChanged
from schemas.events.parts import Candidate, Cut, Gate
from schemas.events.validator import ModelRejected, ModelValidated
from schemas.specs import StreamSpec
from services.validator.app import CHILD, MIGRATIONS
from services.validator.domain.words import WORDS
from services.validator.handlers import on_model_trained, on_rollout_changed
from services.validator.jobs import validate
from services.validator.store import Store
from shared.jobs import JobRunner, Limits
from shared.outbox import unit_of_work
from shared.settings import S3Settings
from shared.tables import Tables
from tests.conftest import PoolFor
from tests.integration import validator_parts as parts

ROWS = 8_000


@dataclasses.dataclass(frozen=True)
class World:
    """A filled stream and a good candidate on it."""

    stream: StreamSpec
    cut: Cut
    good: Candidate


@pytest.fixture(scope="module")
async def world(stack: Stack) -> World:
    await parts.store().ensure_bucket()
    stream = parts.stream_spec()
    cut = parts.fill(Tables(S3Settings()), stream, ROWS)
    return World(stream, cut, parts.trained(parts.model_spec(stream), stream, cut))


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    return await pool_for("validator", MIGRATIONS)


def changed(candidate: Candidate, revision: int, version: int) -> RolloutChanged:
    return RolloutChanged(
        model=candidate.model, stream_spec=candidate.stream_spec, revision=revision, phase="serving",
        champion=parts.release(candidate, version), challenger=None, share=0, salt="s", step=0, reason="",
    )  # fmt: skip


async def hear_trained(pool: asyncpg.Pool, candidate: Candidate) -> None:
    event = parts.trained_event(candidate)
    async with unit_of_work(pool, "validator", parts.heard(event)) as work:
        await on_model_trained(event, work)


async def hear_changed(pool: asyncpg.Pool, event: RolloutChanged) -> None:
    async with unit_of_work(pool, "validator", parts.heard(event)) as work:
        await on_rollout_changed(event, work)


@asynccontextmanager
async def running(pool: asyncpg.Pool, module: str = CHILD) -> AsyncIterator[None]:
    limits = Limits(timeout_seconds=140, crash_back_off_seconds=0.05)
    task = asyncio.create_task(
        JobRunner(pool=pool, service="validator", module=module, words=WORDS, limits=limits).run()
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def said(pool: asyncpg.Pool, seconds: float = 150) -> Envelope:
    """The first word in the outbox."""
    async with asyncio.timeout(seconds):
        while True:
            if row := await pool.fetchrow("DELETE FROM outbox RETURNING headers, value"):
                break
            await asyncio.sleep(0.05)
    found = envelope.read([(name, value.encode()) for name, value in row["headers"]], row["value"])
    assert found
    return found


def judge(candidate: Candidate) -> dict[str, Gate]:
    """The gates of a judgement in this process, by name."""
    request = {"candidate": candidate.model_dump(mode="json"), "champion": None}
    gates = [Gate.model_validate(gate) for gate in validate(request, lambda _: None)["gates"]]
    return {gate.name: gate for gate in gates}


def failed(gates: dict[str, Gate]) -> set[str]:
    return {name for name, gate in gates.items() if gate.verdict == "failed"}


async def test_a_good_candidate_is_validated_with_a_report_in_the_lifecycle_that_asked(
    pool: asyncpg.Pool, world: World
) -> None:
    candidate = parts.another_run(world.good)

    async with running(pool):
        await hear_trained(pool, candidate)
        heard = await said(pool)

    assert isinstance(heard.event, ModelValidated)
    assert heard.event.candidate == candidate
    assert (heard.correlation_id, heard.causation_id) == ("the-lifecycle", "the-cause")
    verdicts = {gate.name: gate.verdict for gate in heard.event.gates}
    assert verdicts["roc_auc"] == verdicts["parity"] == verdicts["slices"] == verdicts["robustness"] == "passed"
    assert verdicts["roc_auc_vs_champion"] == "no_champion"
    assert verdicts["monotonic"] == "not_asked"
    report = json.loads(parts.store().get_now(heard.event.report.digest))
    assert report["verdict"] == "validated"
    assert {gate["name"]: gate["verdict"] for gate in report["gates"]} == verdicts
    assert report["data"]["rows"] > 1000
    assert report["metrics"] == pytest.approx(candidate.metrics)
    assert len(report["curves"]["roc"]) > 50
    assert sum(tenth["rows"] for tenth in report["curves"]["reliability"]) == report["data"]["rows"]
    slices = next(gate for gate in report["gates"] if gate["name"] == "slices")["evidence"]["slices"]
    assert {each["value"] for each in slices} == {"a", "b", "c"}


async def test_a_candidate_that_is_worse_than_the_champion_is_rejected_and_says_so(
    pool: asyncpg.Pool, world: World
) -> None:
    gates = {"roc_auc": {"min": 0.0, "not_worse_than_champion": 0.01}}
    spec = parts.model_spec(world.stream, "kind", "flag", gates=gates)
    poor = parts.trained(spec, world.stream, world.cut)
    champion = world.good.model_copy(update={"model": spec.model})

    async with running(pool):
        await hear_changed(pool, changed(champion, 1, version=4))
        await hear_trained(pool, poor)
        heard = await said(pool)

    assert isinstance(heard.event, ModelRejected)
    assert [gate.name for gate in heard.event.gates if gate.verdict == "failed"] == ["roc_auc_vs_champion"]
    assert "champion version 4" in heard.event.explanation
    assert heard.event.report is not None


async def test_a_child_that_cannot_judge_is_tried_again_and_then_the_candidate_is_rejected(
    pool: asyncpg.Pool, world: World
) -> None:
    async with running(pool, module="services.validator.there_is_no_such_module"):
        await hear_trained(pool, world.good)
        heard = await said(pool)

    assert isinstance(heard.event, ModelRejected)
    assert heard.event.report is None
    assert "could not be judged (crashed)" in heard.event.explanation
    assert "there_is_no_such_module" in heard.event.explanation
    assert await pool.fetchval("SELECT crashes FROM job") == 2


async def test_a_run_that_is_told_of_twice_is_judged_once(pool: asyncpg.Pool, world: World) -> None:
    await hear_trained(pool, world.good)
    await hear_trained(pool, world.good)

    assert await pool.fetchval("SELECT count(*) FROM job") == 1


async def test_the_highest_revision_names_the_champion_whatever_the_order(pool: asyncpg.Pool, world: World) -> None:
    for revision, version in ((1, 1), (3, 2), (2, 1)):
        await hear_changed(pool, changed(world.good, revision, version))

    async with pool.acquire() as connection:
        champion = await Store(connection).champion(world.good.model)
        other = await Store(connection).champion("another-model")

    assert champion == parts.release(world.good, 2)
    assert other is None


async def test_a_job_carries_the_champion_of_the_moment_its_candidate_was_heard_of(
    pool: asyncpg.Pool, world: World
) -> None:
    await hear_changed(pool, changed(world.good, 1, version=1))
    await hear_trained(pool, world.good)
    await hear_changed(pool, changed(world.good, 2, version=2))

    request = await pool.fetchval("SELECT request FROM job")

    assert request["champion"]["version"] == 1


async def test_the_held_out_rows_are_those_that_the_trainer_measured(world: World) -> None:
    assert judge(world.good)["roc_auc"].value == pytest.approx(world.good.metrics["roc_auc"])


async def test_onnx_with_data_outside_its_file_is_unsafe(world: World) -> None:
    graph = onnx.load_model_from_string(parts.store().get_now(world.good.onnx.digest))
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    weight.data_location = TensorProto.EXTERNAL
    weight.ClearField("float_data")
    weight.external_data.add(key="location", value="/etc/passwd")
    graph.graph.initializer.append(weight)
    bad = parts.resealed(world.good.model_copy(update={"onnx": parts.store().put_now(graph.SerializeToString())}))

    gates = judge(bad)

    assert {"safety", "roc_auc", "parity"} <= failed(gates)
    assert "external data" in gates["safety"].reason


async def test_a_skops_file_with_a_type_that_is_not_listed_is_unsafe(world: World) -> None:
    mean = FunctionTransformer(func=json.loads)
    bad = world.good.model_copy(update={"skops": parts.store().put_now(skops.io.dumps(mean))})

    gates = judge(bad)

    assert failed(gates) == {"safety", "parity"}
    assert "json" in gates["safety"].reason


async def test_a_pickle_instead_of_skops_is_unsafe(world: World) -> None:
    bad = world.good.model_copy(update={"skops": parts.store().put_now(b"\x80\x04\x95\x10\x00\x00\x00")})

    assert failed(judge(bad)) == {"safety", "parity"}


async def test_an_artifact_that_is_not_in_the_store_is_a_rejection_not_a_crash(world: World) -> None:
    nowhere = world.good.onnx.model_copy(update={"digest": f"sha256:{uuid.uuid4().hex * 2}"})

    gates = judge(parts.resealed(world.good.model_copy(update={"onnx": nowhere})))

    assert "safety" in failed(gates)
    assert "is not in the store" in gates["safety"].reason


async def test_a_manifest_of_another_run_is_unsafe(world: World) -> None:
    gates = judge(world.good.model_copy(update={"run_id": "another"}))

    assert "expected the run_id of the candidate" in gates["safety"].reason
    assert "safety" in failed(gates)


async def test_onnx_that_answers_unlike_scikit_learn_fails_parity(world: World) -> None:
    spec = parts.model_spec(world.stream).model_copy(update={"model": world.good.model})
    other = parts.trained(spec.model_copy(update={"training": other_seed(spec)}), world.stream, world.cut)

    gates = judge(parts.resealed(world.good.model_copy(update={"onnx": other.onnx})))

    assert failed(gates) == {"parity"}


def other_seed(spec: Any) -> Any:
    return spec.training.model_copy(update={"trials": 2, "estimators": ("logistic_regression",)})


async def test_onnx_of_other_columns_is_not_loaded(world: World) -> None:
    spec = parts.model_spec(world.stream, "x", "kind")
    narrow = parts.trained(spec, world.stream, world.cut)

    gates = judge(parts.resealed(world.good.model_copy(update={"onnx": narrow.onnx})))

    assert "safety" in failed(gates)
    assert "Got: 4 Expected: 2" in gates["safety"].reason


async def test_a_reference_without_bins_is_unsafe(world: World) -> None:
    gates = judge(
        parts.resealed(world.good.model_copy(update={"reference": parts.store().put_now(b'{"features":{}}')}))
    )

    assert failed(gates) == {"safety"}
    assert "reference" in gates["safety"].reason
