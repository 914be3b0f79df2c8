"""The ingestor's wiring: event → handler, and what runs beside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.events.registry import ModelApplied, ModelRegistered, StreamApplied
from schemas.topics import REGISTRY
from services.ingestor.handlers import on_model_applied, on_model_registered, on_stream_applied
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
        }
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    """The ingestor, running."""
    settings, s3 = Settings(), S3Settings()
    async with open_service("ingestor", http=settings, migrations=[MIGRATIONS], handlers=handlers) as service:
        await Objects(s3).ensure_bucket()
        tables = Tables(s3)
        stream = Stream(kafka=service.kafka, pool=service.pool, tables=tables, settings=settings)
        housekeeper = Housekeeper(kafka=service.kafka, pool=service.pool, tables=tables, settings=settings)
        service.health.checks["stream"] = stream.alive
        service.go("stream", stream.run())
        service.go("housekeeping", housekeeper.run())
        yield service
