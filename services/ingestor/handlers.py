"""What the ingestor does when it hears of a stream, a model or an erasure; the loops look up what it remembers."""

from schemas.events.registry import ErasureOrdered, ModelApplied, ModelRegistered, StreamApplied
from services.ingestor.store import Store
from shared import telemetry
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


async def on_erasure_ordered(event: ErasureOrdered, work: Work) -> None:
    """Take the entity out of what is kept of these streams, until it is done."""
    assert work.cause is not None
    await Store(work.connection).order_erasure(
        event,
        event_id=work.cause.id,
        correlation_id=work.cause.correlation_id,
        traceparent=telemetry.current_traceparent(),
    )
