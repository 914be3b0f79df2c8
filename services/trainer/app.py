"""The trainer's wiring: event → handler, and the runner of its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.events.monitor import TrainingRequested
from schemas.topics import MONITOR
from services.trainer.domain.words import WORDS
from services.trainer.handlers import on_training_requested
from services.trainer.settings import Settings
from shared import jobs
from shared.bus import Handlers
from shared.jobs import JobRunner, Limits
from shared.objects import Objects
from shared.service import Service, open_service
from shared.settings import S3Settings

MIGRATIONS = [jobs.MIGRATIONS, Path(__file__).parent / "migrations"]
CHILD = "services.trainer.jobs"


def handlers(_: Service) -> Handlers:
    return {MONITOR: {TrainingRequested: on_training_requested}}


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    """The trainer, running."""
    settings = Settings()
    limits = Limits(
        concurrency=settings.concurrency,
        timeout_seconds=settings.timeout_seconds,
        memory_bytes=settings.memory_mb * 2**20,
    )
    async with open_service("trainer", http=settings, migrations=MIGRATIONS, handlers=handlers) as service:
        await Objects(S3Settings()).ensure_bucket()
        runner = JobRunner(pool=service.pool, service="trainer", module=CHILD, words=WORDS, limits=limits)
        service.go("jobs", runner.run())
        yield service
