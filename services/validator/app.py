"""The validator's wiring: event → handler, and the runner of its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.events.deployer import RolloutChanged
from schemas.events.trainer import ModelTrained
from schemas.topics import DEPLOYER, TRAINER
from services.validator.domain.words import WORDS
from services.validator.handlers import on_model_trained, on_rollout_changed
from services.validator.settings import Settings
from shared import jobs
from shared.bus import Handlers
from shared.jobs import JobRunner, Limits
from shared.service import Service, open_service

MIGRATIONS = [jobs.MIGRATIONS, Path(__file__).parent / "migrations"]
CHILD = "services.validator.jobs"


def handlers(_: Service) -> Handlers:
    return {
        TRAINER: {ModelTrained: on_model_trained},
        DEPLOYER: {RolloutChanged: on_rollout_changed},
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    """The validator, running."""
    settings = Settings()
    limits = Limits(timeout_seconds=settings.timeout_seconds, memory_bytes=settings.memory_mb * 2**20)
    async with open_service("validator", http=settings, migrations=MIGRATIONS, handlers=handlers) as service:
        runner = JobRunner(pool=service.pool, service="validator", module=CHILD, words=WORDS, limits=limits)
        service.go("jobs", runner.run())
        yield service
