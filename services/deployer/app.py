"""Wiring of the rollout: which event meets which handler."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.events.deployer import LoadFailed, RolloutSwitched, ScoringMeasured
from schemas.events.monitor import RolloutMeasured
from schemas.events.registry import ModelApproved, ModelRegistered, ModelRetired, RolloutOrdered
from schemas.topics import DEPLOYER, MONITOR, REGISTRY
from services.deployer import handlers as on
from services.deployer.corrections import correct
from services.deployer.settings import Settings
from shared.bus import Handlers
from shared.service import Service, open_service

MIGRATIONS = Path(__file__).parent / "migrations"


def handlers(_: Service) -> Handlers:
    return {
        REGISTRY: {
            ModelRegistered: on.on_model_registered,
            ModelApproved: on.on_model_approved,
            ModelRetired: on.on_model_retired,
            RolloutOrdered: on.on_rollout_ordered,
        },
        MONITOR: {RolloutMeasured: on.on_rollout_measured},
        DEPLOYER: {  # from the scorers
            RolloutSwitched: on.on_rollout_switched,
            LoadFailed: on.on_load_failed,
            ScoringMeasured: on.on_scoring_measured,
        },
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    """The rollout, running."""
    async with open_service("deployer", http=Settings(), migrations=[MIGRATIONS], handlers=handlers) as service:
        service.go("corrections", correct(service.pool, service.kafka))
        yield service
