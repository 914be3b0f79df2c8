"""Wiring of the registry: what it hears and who handles it; the HTTP API; the clock of approvals."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from fastapi import FastAPI

from schemas.events import deployer, ingestor, monitor, trainer, validator
from schemas.events.base import Event
from schemas.topics import DEPLOYER, INGESTOR, MONITOR, TRAINER, VALIDATOR
from services.registry import handlers as on
from services.registry.acts import Acts
from services.registry.api import api
from services.registry.artifacts import Stored
from services.registry.cards import Cards
from services.registry.chain import Chain
from services.registry.erasures import Erasures
from services.registry.lineage import Lineage
from services.registry.mlflow import Shelf
from services.registry.past import Past
from services.registry.reading import Reading
from services.registry.rebuild import Rebuild
from services.registry.settings import Settings
from shared.access import check_routes
from shared.bus import Handler, Handlers
from shared.objects import Objects
from shared.postgres import AWAY
from shared.service import Service, open_service
from shared.settings import S3Settings

log = logging.getLogger(__name__)
MIGRATIONS = Path(__file__).parent / "migrations"


def handlers(_: Service | None = None) -> Handlers:
    return {
        INGESTOR: {
            ingestor.DatasetCommitted: on.on_dataset_committed,
            ingestor.EntityErased: on.on_entity_erased,
        },
        MONITOR: {
            monitor.TrainingRequested: on.on_training_requested,
            monitor.WindowMeasured: on.on_window_measured,
            monitor.RolloutMeasured: on.on_rollout_measured,
            monitor.AlertRaised: on.on_alert_raised,
            monitor.AlertResolved: on.on_alert_resolved,
            monitor.DataQuarantined: on.on_data_quarantined,
        },
        TRAINER: {
            trainer.TrainingProgressed: on.on_training_progressed,
            trainer.ModelTrained: on.on_model_trained,
            trainer.TrainingFailed: on.on_training_failed,
        },
        VALIDATOR: {
            validator.ModelValidated: on.on_model_validated,
            validator.ModelRejected: on.on_model_rejected,
        },
        DEPLOYER: {
            deployer.RolloutChanged: on.on_rollout_changed,
            deployer.RolloutSwitched: on.on_rollout_switched,
            deployer.RolloutEnded: on.on_rollout_ended,
            deployer.PredictionsWithdrawn: on.on_predictions_withdrawn,
            deployer.CorrectionsPublished: on.on_corrections_published,
            deployer.LoadFailed: on.on_load_failed,
            deployer.ScoringMeasured: on.on_scoring_measured,
        },
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    settings = Settings()
    app = api(settings)

    @asynccontextmanager
    async def around(service: Service) -> AsyncIterator[None]:
        check_routes(app)
        await rebuild_if_empty(service)
        open_to_callers(app, service)
        yield

    async with open_service(
        "registry", http=settings, migrations=[MIGRATIONS], handlers=handlers, app=app, around=around
    ) as service:
        service.go("expiry", expiry(app.state.acts, settings.expiry_poll_seconds))
        yield service


def by_event() -> dict[type[Event], Handler]:
    """The handlers, whichever topic an event comes by."""
    return {event: handler for table in handlers().values() for event, handler in table.items()}


async def rebuild_if_empty(service: Service) -> None:
    """A registry whose database was lost makes it again from the topics before it hears anything new."""
    await Rebuild(pool=service.pool, kafka=service.kafka, handlers=by_event()).run()


def open_to_callers(app: FastAPI, service: Service) -> None:
    app.state.acts = Acts(pool=service.pool, kafka=service.kafka)
    app.state.reading = Reading(service.pool)
    app.state.chain = Chain(pool=service.pool, kafka=service.kafka)
    app.state.past = Past(pool=service.pool)
    objects = Objects(S3Settings())
    app.state.cards = Cards(pool=service.pool, objects=objects)
    app.state.stored = Stored(pool=service.pool, objects=objects)
    app.state.erasures = Erasures(pool=service.pool, objects=objects, acts=app.state.acts)
    app.state.lineage = Lineage(pool=service.pool, objects=objects)
    app.state.shelf = Shelf(app.state.reading, objects)


async def expiry(acts: Acts, poll_seconds: float) -> None:
    """Refuse what nobody approved in time; the one thing here that a clock decides."""
    while True:
        try:
            await acts.refuse_expired()
        except (*AWAY, asyncpg.PostgresError) as error:
            log.warning("expiry of approvals: %r; trying again", error)
        await asyncio.sleep(poll_seconds)
