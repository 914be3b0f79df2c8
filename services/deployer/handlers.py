"""What the rollout does about what it hears: decide, save, emit."""

from schemas.events.deployer import (
    LoadFailed,
    PredictionsWithdrawn,
    RolloutEnded,
    RolloutSwitched,
    ScoringMeasured,
)
from schemas.events.monitor import RolloutMeasured
from schemas.events.parts import Release
from schemas.events.registry import ModelApproved, ModelRegistered, ModelRetired, RolloutOrdered
from services.deployer import metrics
from services.deployer.domain.corrections import Withdrawal
from services.deployer.domain.entrant import Entrant
from services.deployer.domain.rollout import Decision
from services.deployer.store import Store
from shared import telemetry
from shared.outbox import Work


async def on_model_registered(event: ModelRegistered, work: Work) -> None:
    """A version that needs nobody's approval may be rolled out."""
    if event.approval == "none":
        await _approve(event.release, work)


async def on_model_approved(event: ModelApproved, work: Work) -> None:
    await _approve(event.release, work)


async def on_rollout_measured(event: RolloutMeasured, work: Work) -> None:
    store = Store(work.connection)
    rollout = await store.rollout(event.model)
    await _conclude(rollout.measured(event, await store.switched(rollout)), work)


async def on_scoring_measured(event: ScoringMeasured, work: Work) -> None:
    rollout = await Store(work.connection).rollout(event.model)
    await _conclude(rollout.scored(event), work)


async def on_rollout_ordered(event: RolloutOrdered, work: Work) -> None:
    rollout = await Store(work.connection).rollout(event.model)
    await _conclude(rollout.ordered(event.order, f"{event.order} by {event.actor}: {event.reason}"), work)


async def on_model_retired(event: ModelRetired, work: Work) -> None:
    rollout = await Store(work.connection).rollout(event.model)
    await _conclude(rollout.retired(event.version, f"retired by {event.actor}: {event.reason}"), work)


async def on_rollout_switched(event: RolloutSwitched, work: Work) -> None:
    """Remembered only: the next measurement decides."""
    await Store(work.connection).note_switch(event)


async def on_load_failed(event: LoadFailed, work: Work) -> None:
    store = Store(work.connection)
    rollout = await store.rollout(event.model)
    switched = await store.switched(rollout, since=rollout.entered(event.version))
    why = f"not loaded: {event.explanation}"
    await _conclude(rollout.not_loaded(event.version, event.revision, switched, why), work)


async def _approve(release: Release, work: Work) -> None:
    rollout = await Store(work.connection).rollout(release.candidate.model)
    entrant = Entrant(
        release=release,
        correlation_id=work.cause.correlation_id if work.cause else release.candidate.run_id,
        traceparent=telemetry.current_traceparent(),
    )
    await _conclude(rollout.approved(entrant), work)


async def _conclude(decision: Decision, work: Work) -> None:
    """Save, and say each event in the lifecycle that it is about."""
    store = Store(work.connection)
    await store.save(decision.rollout)
    for event, about in decision.said:
        name = None
        if isinstance(event, PredictionsWithdrawn):
            withdrawal = Withdrawal.said(event, about)
            await store.ask_correction(withdrawal)
            name = withdrawal.event_id
        await work.emit(event, id=name, correlation_id=about.correlation_id, traceparent=about.traceparent)
        if isinstance(event, RolloutEnded):
            metrics.ROLLOUTS_ENDED.labels(event.model, event.outcome).inc()
