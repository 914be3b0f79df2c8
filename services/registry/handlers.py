"""What the registry does with what it hears: decide, save, emit, and note it in the audit log."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.events.base import Event
from schemas.events.deployer import LoadFailed, PredictionsWithdrawn, RolloutChanged, RolloutEnded, RolloutSwitched
from schemas.events.ingestor import DatasetCommitted
from schemas.events.monitor import (
    AlertRaised,
    AlertResolved,
    DataQuarantined,
    RolloutMeasured,
    TrainingRequested,
    WindowMeasured,
)
from schemas.events.parts import Artifact, Candidate, Gate, Release
from schemas.events.registry import ApprovalRequested, ModelRegistered
from schemas.events.trainer import ModelTrained, TrainingFailed, TrainingProgressed
from schemas.events.validator import ModelRejected, ModelValidated
from services.registry.domain.audit import Entry
from services.registry.domain.stages import Stage, stage_at_end, stages_after
from services.registry.store import Model, Store
from shared import telemetry
from shared.errors import TooEarly
from shared.outbox import Work


async def on_dataset_committed(event: DatasetCommitted, work: Work) -> None:
    await Store(work.connection).commit_dataset(event, _at(work))


async def on_training_requested(event: TrainingRequested, work: Work) -> None:
    store = Store(work.connection)
    about = (event.run_id, event.model, event.reason, event.explanation, event.cut.time)
    await store.run_requested(*about, _at(work), _trace_id())
    what = {"run_id": event.run_id, "cut": event.cut.model_dump(mode="json")}
    await _note(store, work, event, f"model {event.model}", f"{event.reason}: {event.explanation}", what)


async def on_training_progressed(event: TrainingProgressed, work: Work) -> None:
    await Store(work.connection).run_progressed(event, _at(work), _trace_id())


async def on_model_trained(event: ModelTrained, work: Work) -> None:
    store = Store(work.connection)
    version = await _number(store, work, event.candidate)
    await store.note_stage(event.model, version, "trained", _at(work), "trainer", f"run {event.run_id}")
    seconds = (event.fit_seconds, event.run_seconds)
    await store.run_trained(event.run_id, event.model, *seconds, version, _at(work), _trace_id())
    what = {"run_id": event.run_id, "onnx": event.candidate.onnx.digest, "manifest": event.candidate.manifest.digest}
    await _note(store, work, event, f"{event.model}:{version}", f"run {event.run_id}", what)


async def on_training_failed(event: TrainingFailed, work: Work) -> None:
    store = Store(work.connection)
    about: dict[str, Any] = {"failure": event.reason, "explanation": event.explanation}
    await store.run_finished(event.run_id, event.model, "failed", _at(work), _trace_id(), **about)
    what = {"run_id": event.run_id}
    await _note(store, work, event, f"model {event.model}", f"{event.reason}: {event.explanation}", what)


async def on_model_validated(event: ModelValidated, work: Work) -> None:
    store = Store(work.connection)
    model = await _locked(store, event.model)
    version = await _number(store, work, event.candidate)
    if not await _is_unjudged(store, event.model, version):
        return
    await _judge(store, work, event, version, "registered", "all gates passed")
    release = Release(version=version, candidate=event.candidate)
    approval = model.spec.rollout.approval
    said = ModelRegistered(model=event.model, version=version, release=release, gates=event.gates, approval=approval)
    await work.emit(said, correlation_id=event.run_id)
    if approval != "none":
        expires_at = _at(work) + model.spec.rollout.expires
        await store.ask_approval(event.model, version, approval, expires_at)
        await store.move(event.model, version, "awaiting_approval", _at(work), "registry", approval)
        asked = ApprovalRequested(model=event.model, version=version, approval=approval, expires_at=expires_at)
        await work.emit(asked, correlation_id=event.run_id)
    await _note(
        store, work, event, f"{event.model}:{version}", "all gates passed", _verdicts(event.gates, event.report)
    )


async def on_model_rejected(event: ModelRejected, work: Work) -> None:
    store = Store(work.connection)
    version = await _number(store, work, event.candidate)
    if await _is_unjudged(store, event.model, version):
        await _judge(store, work, event, version, "rejected", event.explanation)
        what = _verdicts(event.gates, event.report)
        await _note(store, work, event, f"{event.model}:{version}", event.explanation, what)


async def on_rollout_changed(event: RolloutChanged, work: Work) -> None:
    store = Store(work.connection)
    model = await _locked(store, event.model)
    if event.revision <= model.rollout_revision:
        return
    await store.serve(event, _at(work), _trace_id())
    for version, stage in stages_after(event, await store.stages(event.model)).items():
        await store.move(event.model, version, stage, _at(work), "deployer", event.reason)
    what: dict[str, Any] = {
        "revision": event.revision,
        "phase": event.phase,
        "champion": event.champion.version,
        "challenger": event.challenger.version if event.challenger else None,
        "share": event.share,
        "frozen": event.frozen,
    }
    await _note(store, work, event, f"model {event.model}", event.reason, what)


async def on_rollout_switched(event: RolloutSwitched, work: Work) -> None:
    store = Store(work.connection)
    await store.switch(event.model, event.revision, event.partition, event.offset, _at(work))


async def on_rollout_ended(event: RolloutEnded, work: Work) -> None:
    store = Store(work.connection)
    await _locked(store, event.model)
    await store.end_rollout(event.model, event.version, event.outcome, event.reason, _at(work))
    stage = stage_at_end(event)
    if (await store.stages(event.model)).get(event.version) != stage:
        await store.move(event.model, event.version, stage, _at(work), "deployer", event.reason)
    what = {"outcome": event.outcome, "revision": event.revision}
    await _note(store, work, event, f"{event.model}:{event.version}", event.reason, what)


async def on_rollout_measured(event: RolloutMeasured, work: Work) -> None:
    await Store(work.connection).measure_rollout(event)


async def on_predictions_withdrawn(event: PredictionsWithdrawn, work: Work) -> None:
    store = Store(work.connection)
    what = event.model_dump(mode="json")
    await store.withdraw(event.model, event.version, what)
    await _note(store, work, event, f"{event.model}:{event.version}", event.cause, what)


async def on_load_failed(event: LoadFailed, work: Work) -> None:
    what = {"revision": event.revision}
    store = Store(work.connection)
    await _note(store, work, event, f"{event.model}:{event.version}", event.explanation, what)


async def on_window_measured(event: WindowMeasured, work: Work) -> None:
    await Store(work.connection).add_window(event)


async def on_alert_raised(event: AlertRaised, work: Work) -> None:
    store = Store(work.connection)
    await store.raise_alert(event)
    what = {"alert": event.alert, "kind": event.kind, "severity": event.severity, "features": list(event.features)}
    await _note(store, work, event, f"model {event.model}", event.explanation, what)


async def on_alert_resolved(event: AlertResolved, work: Work) -> None:
    store = Store(work.connection)
    await store.resolve_alert(event.alert, event.resolved_at, event.explanation)
    await _note(store, work, event, f"model {event.model}", event.explanation, {"alert": event.alert})


async def on_data_quarantined(event: DataQuarantined, work: Work) -> None:
    store = Store(work.connection)
    await store.quarantine(event)
    what = {"span": event.span.model_dump(mode="json"), "features": list(event.features)}
    await _note(store, work, event, f"stream {event.stream}", event.explanation, what)


async def _locked(store: Store, name: str) -> Model:
    model = await store.lock_model(name)
    if model is None:
        raise TooEarly(f"model {name!r} is not declared here")
    return model


async def _number(store: Store, work: Work, candidate: Candidate) -> int:
    await _locked(store, candidate.model)
    return await store.number(candidate, telemetry.current_traceparent(), _at(work))


async def _is_unjudged(store: Store, model: str, version: int) -> bool:
    """A run is judged once; a second verdict under another event id changes nothing."""
    known = await store.version(model, version)
    return known is not None and known.stage == "trained"


async def _judge(
    store: Store, work: Work, event: ModelValidated | ModelRejected, version: int, stage: Stage, explanation: str
) -> None:
    await store.judge(event.model, version, event.gates, event.report, explanation)
    await store.move(event.model, version, stage, _at(work), "validator", explanation)
    about: dict[str, Any] = {"version": version, "explanation": explanation}
    await store.run_finished(event.run_id, event.model, stage, _at(work), _trace_id(), **about)


def _verdicts(gates: Sequence[Gate], report: Artifact | None) -> dict[str, Any]:
    return {"gates": {gate.name: gate.verdict for gate in gates}, "report": report.digest if report else None}


async def _note(store: Store, work: Work, event: Event, subject: str, reason: str, what: dict[str, Any]) -> None:
    """An audit row for what was heard, under the id it was heard by; last in the transaction."""
    actor = work.cause.source.rpartition("/")[2] if work.cause else "unknown"
    event_id = work.cause.id if work.cause else ""
    entry = Entry(
        at=_at(work), actor=actor, action=event.event, subject=subject, reason=reason, event_id=event_id, what=what
    )
    await store.audit(entry)


def _at(work: Work) -> datetime:
    """When the cause was said: the same however often the record is rebuilt."""
    return work.cause.time if work.cause else datetime.now(UTC)


def _trace_id() -> str | None:
    traceparent = telemetry.current_traceparent()
    return traceparent.split("-")[1] if traceparent else None
