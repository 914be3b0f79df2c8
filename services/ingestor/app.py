"""The ingestor's wiring: event → handler, and what runs beside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.events.registry import ErasureOrdered, ModelApplied, ModelRegistered, StreamApplied
from schemas.topics import REGISTRY
from services.ingestor.erasing import Eraser
from services.ingestor.handlers import on_erasure_ordered, on_model_applied, on_model_registered, on_stream_applied
from services.ingestor.housekeeping import Housekeeper
from services.ingestor.settings import Settings
from services.ingestor.stream import Stream
from shared.bus import Handlers
from shared.objects import Objects
from shared.service import Service, open_service
from shared.settings import S3Settings
from shared.tables import Tables

MIGRATIONS = Path(__file__).parent / "migrations"


def handlers(_: Service) -> Handlers:
    return {
        REGISTRY: {
            StreamApplied: on_stream_applied,
            ModelApplied: on_model_applied,
            ModelRegistered: on_model_registered,
            ErasureOrdered: on_erasure_ordered,
        }
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    """The ingestor, running."""
    settings, s3 = Settings(), S3Settings()
    async with open_service("ingestor", http=settings, migrations=[MIGRATIONS], handlers=handlers) as service:
        objects = Objects(s3)
        await objects.ensure_bucket()
        tables = Tables(s3)
        stream = Stream(kafka=service.kafka, pool=service.pool, tables=tables, settings=settings)
        housekeeper = Housekeeper(kafka=service.kafka, pool=service.pool, tables=tables, settings=settings)
        service.health.checks["stream"] = stream.alive
        service.go("stream", stream.run())
        service.go("housekeeping", housekeeper.run())
        service.go("erasing", Eraser(kafka=service.kafka, pool=service.pool, tables=tables, objects=objects).run())
        yield service
