"""What the trainer does when it hears of something."""

from schemas.events.monitor import TrainingRequested
from schemas.events.trainer import TrainingFailed
from services.trainer.store import Store
from shared.jobs import cancel, enqueue
from shared.outbox import Work


async def on_training_requested(event: TrainingRequested, work: Work) -> None:
    """One run a model: the newest request replaces a run that is not over."""
    for run_id in await Store(work.connection).open_runs(event.model, other_than=event.run_id):
        if await cancel(work, run_id):
            explanation = f"replaced by run {event.run_id}"
            replaced = TrainingFailed(model=event.model, run_id=run_id, reason="cancelled", explanation=explanation)
            await work.emit(replaced, correlation_id=run_id)
    request = event.model_dump(mode="json")
    await enqueue(work, id=event.run_id, kind="train", subject=event.model, request=request)
