"""What the registry does with what it hears: decide, save, emit, and note it in the audit log."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from schemas.events.base import Event
from schemas.events.deployer import (
    CorrectionsPublished,
    LoadFailed,
    PredictionsWithdrawn,
    RolloutChanged,
    RolloutEnded,
    RolloutSwitched,
    ScoringMeasured,
)
from schemas.events.ingestor import DatasetCommitted, EntityErased
from schemas.events.monitor import (
    AlertRaised,
    AlertResolved,
    DataQuarantined,
    RolloutMeasured,
    TrainingRequested,
    WindowMeasured,
)
from schemas.events.parts import Artifact, Candidate, Gate, Release
from schemas.events.registry import ApprovalRequested, EntityForgotten, ModelRegistered
from schemas.events.trainer import ModelTrained, TrainingFailed, TrainingProgressed
from schemas.events.validator import ModelRejected, ModelValidated
from services.registry.chain import note
from services.registry.domain import openlineage
from services.registry.domain.audit import Entry
from services.registry.domain.stages import Passage, Stage, stage_at_end, stages_after, strictest
from services.registry.store import Model, Store
from services.registry.telling import tell
from shared.errors import TooEarly
from shared.outbox import Work


async def on_dataset_committed(event: DatasetCommitted, work: Work) -> None:
    await Store(work.connection).commit_dataset(event, _at(work))


async def on_entity_erased(event: EntityErased, work: Work) -> None:
    actor, reason = await Store(work.connection).erased(event, _at(work))
    left = [each.expires_at for each in event.remaining]
    said = EntityForgotten(
        receipt=event.receipt,
        rows=sum(each.rows for each in event.tables),
        letters=event.letters,
        artifacts=0,  # what is made of rows holds counts and weights, and names nobody
        expires_at=None if None in left else max(filter(None, left), default=None),
        actor=actor,
        reason=reason,
    )
    await work.emit(said)
    what = event.model_dump(mode="json")
    await _note(work, event, subject="an entity", reason=reason, what=what)


async def on_training_requested(event: TrainingRequested, work: Work) -> None:
    store = Store(work.connection)
    await store.run_requested(event, _at(work), _trace_id(work))
    await tell(work, openlineage.requested(event, _at(work)))
    what = {"run_id": event.run_id, "cut": event.cut.model_dump(mode="json")}
    await _note(work, event, subject=f"model {event.model}", reason=f"{event.reason}: {event.explanation}", what=what)


async def on_training_progressed(event: TrainingProgressed, work: Work) -> None:
    await Store(work.connection).run_progressed(event, _at(work), _trace_id(work))


async def on_model_trained(event: ModelTrained, work: Work) -> None:
    store = Store(work.connection)
    version = await _number(store, work, event.candidate)
    await store.note_stage(_to(work, event.model, version, "trained", f"run {event.run_id}"))
    await store.run_trained(event, version, _at(work), _trace_id(work))
    await tell(work, openlineage.trained(event, _at(work)))
    what = {"run_id": event.run_id, "onnx": event.candidate.onnx.digest, "manifest": event.candidate.manifest.digest}
    await _note(work, event, subject=f"{event.model}:{version}", reason=f"run {event.run_id}", what=what)


async def on_training_failed(event: TrainingFailed, work: Work) -> None:
    store = Store(work.connection)
    await store.run_failed(event, _at(work), _trace_id(work))
    await tell(work, openlineage.failed(event, _at(work)))
    what = {"run_id": event.run_id}
    await _note(work, event, subject=f"model {event.model}", reason=f"{event.reason}: {event.explanation}", what=what)


async def on_model_validated(event: ModelValidated, work: Work) -> None:
    store = Store(work.connection)
    model = await _locked(store, event.model)
    version = await _number(store, work, event.candidate)
    if not await _is_unjudged(store, event.model, version):
        return
    await _judge(store, work, event, version)
    release = Release(version=version, candidate=event.candidate, attestation=event.attestation)
    approval = strictest(model.spec.rollout.approval, event.candidate.spec.rollout.approval)
    said = ModelRegistered(model=event.model, version=version, release=release, gates=event.gates, approval=approval)
    await work.emit(said, correlation_id=event.run_id)
    if approval != "none":
        expires_at = _at(work) + model.spec.rollout.expires
        await store.ask_approval(event.model, version, approval, expires_at)
        waits = _to(work, event.model, version, "awaiting_approval", f"approval is {approval}")
        await store.move(replace(waits, actor="registry"))
        asked = ApprovalRequested(model=event.model, version=version, approval=approval, expires_at=expires_at)
        await work.emit(asked, correlation_id=event.run_id)
    what = _verdicts(event.gates, event.report)
    await _note(work, event, subject=f"{event.model}:{version}", reason="all gates passed", what=what)


async def on_model_rejected(event: ModelRejected, work: Work) -> None:
    store = Store(work.connection)
    version = await _number(store, work, event.candidate)
    if await _is_unjudged(store, event.model, version):
        await _judge(store, work, event, version)
        what = _verdicts(event.gates, event.report)
        await _note(work, event, subject=f"{event.model}:{version}", reason=event.explanation, what=what)


async def on_rollout_changed(event: RolloutChanged, work: Work) -> None:
    store = Store(work.connection)
    model = await _locked(store, event.model)
    if event.revision <= model.rollout_revision:
        return
    rollout = await store.serve(event, _at(work), _trace_id(work))
    if rollout == event.revision:
        await tell(work, openlineage.began(event, rollout, _at(work)))
    for version, stage in stages_after(event, await store.stages(event.model)).items():
        await store.move(_to(work, event.model, version, stage, event.reason))
    what: dict[str, Any] = {
        "revision": event.revision,
        "phase": event.phase,
        "champion": event.champion.version,
        "challenger": event.challenger.version if event.challenger else None,
        "share": event.share,
        "frozen": event.frozen,
    }
    await _note(work, event, subject=f"model {event.model}", reason=event.reason, what=what)


async def on_rollout_switched(event: RolloutSwitched, work: Work) -> None:
    store = Store(work.connection)
    await store.switch(event, _at(work))


async def on_rollout_ended(event: RolloutEnded, work: Work) -> None:
    store = Store(work.connection)
    await _locked(store, event.model)
    about = {"outcome": event.outcome, "reason": event.reason}
    if rollout := await store.end_rollout(event.model, event.version, **about, at=_at(work)):
        first, before = rollout
        await tell(work, openlineage.ended(event, first, _at(work), again=before is not None))
    if stage := stage_at_end(event, (await store.stages(event.model)).get(event.version)):
        await store.move(_to(work, event.model, event.version, stage, event.reason))
    what = {"outcome": event.outcome, "revision": event.revision}
    await _note(work, event, subject=f"{event.model}:{event.version}", reason=event.reason, what=what)


async def on_rollout_measured(event: RolloutMeasured, work: Work) -> None:
    await Store(work.connection).measure_rollout(event)


async def on_scoring_measured(event: ScoringMeasured, work: Work) -> None:
    await Store(work.connection).score_rollout(event)


async def on_predictions_withdrawn(event: PredictionsWithdrawn, work: Work) -> None:
    store = Store(work.connection)
    what = event.model_dump(mode="json")
    await store.withdraw(event.model, event.version, what)
    await _note(work, event, subject=f"{event.model}:{event.version}", reason=event.cause, what=what)


async def on_corrections_published(event: CorrectionsPublished, work: Work) -> None:
    store = Store(work.connection)
    what = {"corrections": event.count, "revision": event.revision}
    await store.correct(event.model, event.version, what)
    subject, reason = f"{event.model}:{event.version}", f"{event.count} predictions withdrawn one by one"
    await _note(work, event, subject=subject, reason=reason, what=what)


async def on_load_failed(event: LoadFailed, work: Work) -> None:
    what = {"revision": event.revision, "cause": event.cause}
    await _note(work, event, subject=f"{event.model}:{event.version}", reason=event.explanation, what=what)


async def on_window_measured(event: WindowMeasured, work: Work) -> None:
    await Store(work.connection).add_window(event)


async def on_alert_raised(event: AlertRaised, work: Work) -> None:
    store = Store(work.connection)
    await store.raise_alert(event)
    what = {"alert": event.alert, "kind": event.kind, "severity": event.severity, "features": list(event.features)}
    await _note(work, event, subject=f"model {event.model}", reason=event.explanation, what=what)


async def on_alert_resolved(event: AlertResolved, work: Work) -> None:
    store = Store(work.connection)
    await store.resolve_alert(event.alert, event.resolved_at, event.explanation)
    await _note(work, event, subject=f"model {event.model}", reason=event.explanation, what={"alert": event.alert})


async def on_data_quarantined(event: DataQuarantined, work: Work) -> None:
    store = Store(work.connection)
    await store.quarantine(event)
    what = {"span": event.span.model_dump(mode="json"), "features": list(event.features)}
    await _note(work, event, subject=f"stream {event.stream}", reason=event.explanation, what=what)


async def _locked(store: Store, name: str) -> Model:
    model = await store.lock_model(name)
    if model is None:
        raise TooEarly(f"model {name!r} is not declared here")
    return model


async def _number(store: Store, work: Work, candidate: Candidate) -> int:
    await _locked(store, candidate.model)
    return await store.number(candidate, _traceparent(work), _at(work))


async def _is_unjudged(store: Store, model: str, version: int) -> bool:
    """A run is judged once; a second verdict under another event id changes nothing."""
    known = await store.version(model, version)
    return known is not None and known.stage == "trained"


async def _judge(store: Store, work: Work, event: ModelValidated | ModelRejected, version: int) -> None:
    stage: Stage = "rejected" if isinstance(event, ModelRejected) else "registered"
    explanation = event.explanation if isinstance(event, ModelRejected) else "all gates passed"
    await store.judge(event, version, explanation)
    await store.move(_to(work, event.model, version, stage, explanation))
    await store.run_judged(event, version, _at(work), _trace_id(work))
    await tell(work, openlineage.judged(event, _at(work)))


def _verdicts(gates: Sequence[Gate], report: Artifact | None) -> dict[str, Any]:
    return {"gates": {gate.name: gate.verdict for gate in gates}, "report": report.digest if report else None}


async def _note(work: Work, event: Event, *, subject: str, reason: str, what: dict[str, Any]) -> None:
    """An audit row for what was heard, under the id it was heard by; last in the transaction."""
    event_id = work.cause.id if work.cause else ""
    entry = Entry(
        at=_at(work),
        actor=_actor(work),
        action=event.event,
        subject=subject,
        reason=reason,
        event_id=event_id,
        what=what,
    )
    await note(work, entry)


def _to(work: Work, model: str, version: int, stage: Stage, reason: str) -> Passage:
    return Passage(model=model, version=version, stage=stage, at=_at(work), actor=_actor(work), reason=reason)


def _actor(work: Work) -> str:
    """The service whose word this is."""
    return work.cause.source.rpartition("/")[2] if work.cause else "unknown"


def _at(work: Work) -> datetime:
    """When the cause was said: the same however often the record is rebuilt."""
    return work.cause.time if work.cause else datetime.now(UTC)


def _traceparent(work: Work) -> str | None:
    """Of the cause, not of its handling: the same however often the record is rebuilt."""
    return work.cause.traceparent if work.cause else None


def _trace_id(work: Work) -> str | None:
    traceparent = _traceparent(work)
    return traceparent.split("-")[1] if traceparent else None
