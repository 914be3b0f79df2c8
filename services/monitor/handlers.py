"""What the monitor does with each event it hears: it remembers. The decisions are made by time, in watch.py."""

from schemas.events.deployer import LoadFailed, RolloutChanged, RolloutEnded, RolloutSwitched
from schemas.events.ingestor import DatasetCommitted
from schemas.events.monitor import AlertRaised, AlertResolved
from schemas.events.registry import (
    ModelApplied,
    ModelRefused,
    ModelRegistered,
    ModelRetired,
    StreamApplied,
    TrainingOrdered,
)
from schemas.events.trainer import TrainingFailed
from schemas.events.validator import ModelRejected
from services.monitor.domain.facts import Said
from services.monitor.store import Store
from services.monitor.words import event_id
from shared import telemetry
from shared.outbox import Work


async def on_stream_applied(event: StreamApplied, work: Work) -> None:
    await Store(work.connection).keep_stream(event)


async def on_model_applied(event: ModelApplied, work: Work) -> None:
    await Store(work.connection).keep_model(event)


async def on_training_ordered(event: TrainingOrdered, work: Work) -> None:
    await Store(work.connection).keep_order(event, _said(work).event_id)


async def on_dataset_committed(event: DatasetCommitted, work: Work) -> None:
    if event.kind != "predictions":
        await Store(work.connection).keep_table_version(event, _said(work))


async def on_training_failed(event: TrainingFailed, work: Work) -> None:
    await Store(work.connection).close_run(event.run_id, f"failed: {event.reason}")


async def on_model_rejected(event: ModelRejected, work: Work) -> None:
    await Store(work.connection).close_run(event.run_id, f"rejected: {event.explanation}")


async def on_model_registered(event: ModelRegistered, work: Work) -> None:
    await Store(work.connection).keep_release(event.release)


async def on_model_refused(event: ModelRefused, work: Work) -> None:
    await Store(work.connection).close_run_of_version(event.model, event.version, f"refused: {event.reason}")


async def on_model_retired(event: ModelRetired, work: Work) -> None:
    """A version that waited for approval will not be rolled out any more; an alert about what it is made of is over."""
    store = Store(work.connection)
    await store.close_run_of_version(event.model, event.version, f"retired: {event.reason}")
    if await store.forget_altered(event.model, event.version):
        assert work.cause is not None
        why, alert = f"retired by {event.actor}: {event.reason}", _altered(event.model, event.version)
        said = AlertResolved(model=event.model, alert=alert, explanation=why, resolved_at=work.cause.time)
        await work.emit(said, id=event_id(said.event, alert))


async def on_rollout_changed(event: RolloutChanged, work: Work) -> None:
    """Both versions are in the event, so that answers can be measured whatever else is late."""
    store = Store(work.connection)
    await store.keep_release(event.champion)
    if event.challenger:
        await store.keep_release(event.challenger)
    await store.keep_rollout(event, _said(work))
    if event.phase == "serving":
        await store.close_run(event.champion.candidate.run_id, "serving")


async def on_rollout_switched(event: RolloutSwitched, work: Work) -> None:
    await Store(work.connection).keep_served(event.model, event.partition, event.offset)


async def on_rollout_ended(event: RolloutEnded, work: Work) -> None:
    await Store(work.connection).close_run_of_version(event.model, event.version, event.outcome)


async def on_load_failed(event: LoadFailed, work: Work) -> None:
    """Somebody must look: a version was altered after it had been signed. Each scorer says so; it is told once."""
    if event.cause != "integrity" or not await Store(work.connection).keep_altered(event.model, event.version):
        return
    assert work.cause is not None
    alert = _altered(event.model, event.version)
    said = AlertRaised(
        model=event.model,
        alert=alert,
        kind="operations",
        severity="critical",
        features=(),
        explanation=f"version {event.version} was altered since it was signed, and does not serve: {event.explanation}",
        raised_at=work.cause.time,
        version=event.version,
    )
    await work.emit(said, id=event_id(said.event, alert))


def _altered(model: str, version: int) -> str:
    return f"{model}-altered-v{version}"


def _said(work: Work) -> Said:
    """The event being handled, and the span that handles it."""
    assert work.cause is not None
    return Said(
        event_id=work.cause.id,
        correlation_id=work.cause.correlation_id,
        traceparent=telemetry.current_traceparent(),
    )
