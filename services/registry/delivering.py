"""How a model is delivered, over HTTP."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter

from services.registry.access import ModelName, Viewer, part
from services.registry.domain.delivery import Delivery, delivery
from services.registry.reading import Reading
from services.registry.store import QUERIES
from services.registry.views import View

delivering = APIRouter(tags=["record"])


class DeliveryView(View):
    """Lead time, deployment frequency, change failure rate and time to restore; null where nothing was measured yet."""

    model: str
    deployments: int
    lead_seconds: float | None
    per_week: float | None
    failures: int
    failure_rate: float | None
    restore_seconds: float | None


async def measured(reading: Reading, model: str, now: datetime) -> Delivery:
    """Raises NotDeclared."""
    await reading.model(model)
    steps = await reading.pool.fetch(QUERIES["read_champions"], model)
    runs = await reading.pool.fetch(QUERIES["read_requests"], model)
    requested = {row["version"]: row["requested_at"] for row in runs}
    return delivery([(row["at"], row["champion"]) for row in steps], requested, now)


@delivering.get("/models/{model}/delivery")
async def read(model: ModelName, _: Viewer, reading: Annotated[Reading, part("reading", Reading)]) -> DeliveryView:
    """How fast and how safely new versions go live."""
    return DeliveryView(model=model, **asdict(await measured(reading, model, datetime.now(UTC))))
