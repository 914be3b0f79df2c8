"""Wiring of the monitor: which event goes to which handler, and what runs beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.events.deployer import LoadFailed, RolloutChanged, RolloutEnded, RolloutSwitched
from schemas.events.ingestor import DatasetCommitted
from schemas.events.registry import (
    ModelApplied,
    ModelRefused,
    ModelRegistered,
    ModelRetired,
    StreamApplied,
    TrainingOrdered,
)
from schemas.events.trainer import TrainingFailed
from schemas.events.validator import ModelRejected
from schemas.topics import DEPLOYER, INGESTOR, REGISTRY, TRAINER, VALIDATOR
from services.monitor import handlers as on
from services.monitor.settings import Settings
from services.monitor.watch import Watch
from shared.bus import Handlers
from shared.objects import Objects
from shared.service import Service, open_service
from shared.settings import S3Settings

MIGRATIONS = Path(__file__).parent / "migrations"


def handlers(_: Service) -> Handlers:
    """Event → handler."""
    return {
        REGISTRY: {
            StreamApplied: on.on_stream_applied,
            ModelApplied: on.on_model_applied,
            ModelRegistered: on.on_model_registered,
            ModelRefused: on.on_model_refused,
            ModelRetired: on.on_model_retired,
            TrainingOrdered: on.on_training_ordered,
        },
        INGESTOR: {DatasetCommitted: on.on_dataset_committed},
        TRAINER: {TrainingFailed: on.on_training_failed},
        VALIDATOR: {ModelRejected: on.on_model_rejected},
        DEPLOYER: {
            RolloutChanged: on.on_rollout_changed,
            RolloutSwitched: on.on_rollout_switched,
            RolloutEnded: on.on_rollout_ended,
            LoadFailed: on.on_load_failed,
        },
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    """The running monitor."""
    settings = Settings()
    async with open_service("monitor", http=settings, migrations=[MIGRATIONS], handlers=handlers) as service:
        watch = Watch(pool=service.pool, kafka=service.kafka, objects=Objects(S3Settings()), settings=settings)
        service.health.checks["watch"] = watch.moves
        service.go("watch", watch.run())
        yield service
