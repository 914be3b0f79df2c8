"""What the validator does with what it hears."""

from schemas.events.deployer import RolloutChanged
from schemas.events.trainer import ModelTrained
from services.validator.store import Store
from shared import jobs
from shared.outbox import Work


async def on_model_trained(event: ModelTrained, work: Work) -> None:
    """Judge the candidate, beside the champion of this moment."""
    champion = await Store(work.connection).champion(event.model)
    request = {
        "candidate": event.candidate.model_dump(mode="json"),
        "champion": champion.model_dump(mode="json") if champion else None,
    }
    await jobs.enqueue(work, id=event.run_id, kind="validate", subject=event.model, request=request)


async def on_rollout_changed(event: RolloutChanged, work: Work) -> None:
    """Know whom the next candidate must match."""
    await Store(work.connection).keep_champion(event.model, event.revision, event.champion)
