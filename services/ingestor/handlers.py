"""What the ingestor does when it hears of a stream or model; the loops look declarations and pins up."""

from schemas.events.registry import ModelApplied, ModelRegistered, StreamApplied
from services.ingestor.store import Store
from shared.outbox import Work


async def on_stream_applied(event: StreamApplied, work: Work) -> None:
    """Read its data and labels from now on, by this declaration."""
    await Store(work.connection).declare_stream(event.spec, revision=event.revision)


async def on_model_applied(event: ModelApplied, work: Work) -> None:
    """Read its predictions from now on."""
    await Store(work.connection).declare_model(event.model, event.stream_spec, revision=event.revision)


async def on_model_registered(event: ModelRegistered, work: Work) -> None:
    """Keep the tables readable at the versions that it was trained on."""
    await Store(work.connection).pin(event.release)
