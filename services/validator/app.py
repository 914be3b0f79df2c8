"""The validator's wiring: what it hears, and the runner of its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.events.deployer import RolloutChanged
from schemas.events.parts import Artifact, Candidate, Gate
from schemas.events.trainer import ModelTrained
from schemas.topics import DEPLOYER, TRAINER
from services.validator import handlers as on
from services.validator.domain import verdict
from services.validator.settings import Settings
from shared import jobs
from shared.bus import Handlers
from shared.jobs import JobRunner, Limits, Words
from shared.service import Service, open_service

MIGRATIONS = [jobs.MIGRATIONS, Path(__file__).parent / "migrations"]
WORDS = Words(
    progressed=lambda _job, _said: (),
    finished=lambda job, said: [
        verdict.judged(
            Candidate.model_validate(job.request["candidate"]),
            [Gate.model_validate(gate) for gate in said["gates"]],
            Artifact.model_validate(said["report"]),
        )
    ],
    failed=lambda job, failure: [
        verdict.unjudged(Candidate.model_validate(job.request["candidate"]), failure.reason, failure.explanation)
    ],
)


def handlers(_service: Service) -> Handlers:
    return {
        TRAINER: {ModelTrained: on.on_model_trained},
        DEPLOYER: {RolloutChanged: on.on_rollout_changed},
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    settings = Settings()
    limits = Limits(timeout_seconds=settings.job_timeout_seconds, memory_bytes=settings.job_memory_bytes)
    async with open_service("validator", http=settings, migrations=MIGRATIONS, handlers=handlers) as service:
        runner = JobRunner(
            pool=service.pool, service="validator", module="services.validator.jobs", words=WORDS, limits=limits
        )
        service.go("jobs", runner.run())
        yield service
