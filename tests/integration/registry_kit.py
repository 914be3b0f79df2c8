"""What the registry's tests share: a declared model, events as the bus delivers them, and what was said."""

import uuid
from datetime import UTC, datetime
from typing import Any

import asyncpg

from schemas import envelope
from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged
from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Candidate, Gate, Release
from schemas.events.registry import AuditAdvanced
from schemas.events.trainer import ModelTrained
from schemas.events.validator import ModelRejected, ModelValidated
from schemas.specs import ModelSpec, StreamSpec
from schemas.topics import OPENLINEAGE, TOPIC_OF
from services.registry import app
from services.registry.domain.plan import plan
from services.registry.store import Store
from shared import telemetry
from shared.outbox import first_hearing, unit_of_work
from shared.settings import KafkaSettings
from tests.contract.examples import example

NOWHERE = KafkaSettings(bootstrap_servers="nowhere:1")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TRACE = "ab" * 16
HANDLERS = app.by_event()

STREAM = StreamSpec.model_validate(
    {
        "stream": "rivers",
        "entity": "gauge",
        "features": {"level": {"type": "float"}},
        "label": {"type": "bool", "delay": "1h"},
    }
)


def model(**changed: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "model": "flood",
            "stream": "rivers",
            "owner": "water-board",
            "task": "binary",
            "features": ["level"],
            "training": {"window": "60d", "min_rows": 500, "estimators": ["logistic_regression"]},
        }
        | changed
    )


async def declare(pool: asyncpg.Pool, *specs: StreamSpec | ModelSpec) -> None:
    """Into the record alone, where a test needs no broker."""
    async with unit_of_work(pool, "registry") as work:
        store = Store(work.connection)
        for change in plan(specs, await store.declared()):
            if change.verdict != "unchanged":
                await store.save(change, "test", "a test", NOW)


async def hear(
    pool: asyncpg.Pool, event: Event, *, id: str | None = None, run_id: str = "run", at: datetime = NOW
) -> str:
    """As the bus does: in a span of the lifecycle's trace, in one transaction, once."""
    writer = TOPIC_OF[type(event)].writer
    heard = Envelope(
        id=id or str(uuid.uuid4()),
        source=f"modelbus/{writer}",
        time=at,
        correlation_id=run_id,
        causation_id=None,
        traceparent=f"00-{TRACE}-{'cd' * 8}-01",
        event=event,
    )
    with telemetry.span("process", parent=heard.traceparent):
        async with unit_of_work(pool, "registry", heard) as work:
            if await first_hearing(work, heard):
                await HANDLERS[type(event)](event, work)
    return heard.id


async def said(pool: asyncpg.Pool) -> list[Envelope]:
    """What stands in the outbox, in order, without the heads of the audit log that go with it."""
    return [each for each in await outbox(pool) if not isinstance(each.event, AuditAdvanced)]


async def heads(pool: asyncpg.Pool) -> dict[int, set[str]]:
    """The heads of the audit log that stand in the outbox."""
    found = [each.event for each in await outbox(pool) if isinstance(each.event, AuditAdvanced)]
    return {head.position: {head.hash.removeprefix("sha256:")} for head in found}


async def outbox(pool: asyncpg.Pool) -> list[Envelope]:
    rows = await pool.fetch("SELECT headers, value FROM outbox WHERE topic <> $1 ORDER BY position", OPENLINEAGE)
    read = [envelope.read([(name, value.encode()) for name, value in row["headers"]], row["value"]) for row in rows]
    return [each for each in read if each is not None]


def candidate(run_id: str) -> Candidate:
    made = Candidate.model_validate(example(Candidate.model_json_schema()))
    parts = {"model": "flood", "run_id": run_id, "spec": model(), "stream_spec": STREAM, "metrics": {"roc_auc": 0.9}}
    return made.model_copy(update=parts)


def trained(run_id: str) -> ModelTrained:
    return ModelTrained(model="flood", run_id=run_id, candidate=candidate(run_id), fit_seconds=2.5, run_seconds=4)


def validated(run_id: str) -> ModelValidated:
    gate = Gate(name="roc_auc", value=0.9, threshold=0.8, verdict="passed", reason="0.9 ≥ 0.8")
    report = candidate(run_id).manifest
    return ModelValidated(model="flood", run_id=run_id, candidate=candidate(run_id), gates=(gate,), report=report)


def rejected(run_id: str) -> ModelRejected:
    gate = Gate(name="roc_auc", value=0.5, threshold=0.8, verdict="failed", reason="0.5 < 0.8")
    parts: dict[str, Any] = {"candidate": candidate(run_id), "gates": (gate,), "report": None}
    return ModelRejected(model="flood", run_id=run_id, explanation="roc_auc failed", **parts)


def requested(run_id: str) -> TrainingRequested:
    made = TrainingRequested.model_validate(example(TrainingRequested.model_json_schema()))
    parts = {"model": "flood", "run_id": run_id, "reason": "first", "spec": model(), "stream_spec": STREAM}
    return made.model_copy(update=parts)


def changed(
    revision: int, phase: str, champion: int, challenger: int | None = None, share: float = 0
) -> RolloutChanged:
    parts: dict[str, Any] = {
        "phase": phase,
        "champion": Release(version=champion, candidate=candidate("any")),
        "challenger": Release(version=challenger, candidate=candidate("any")) if challenger else None,
    }
    return RolloutChanged(
        model="flood", stream_spec=STREAM, revision=revision, share=share, salt="s", step=0, reason="step", **parts
    )
