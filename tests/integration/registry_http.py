"""A registry that commands find, on a record that a test writes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from services.registry.acts import Acts
from services.registry.api import api
from services.registry.reading import Reading
from shared.health import serve
from shared.settings import HttpSettings, KafkaSettings
from tests.integration.test_registry_api import SETTINGS, TOKENS


@asynccontextmanager
async def reachable(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Its API over HTTP, for viewers."""
    app = api(SETTINGS)
    app.state.acts = Acts(pool=pool, kafka=KafkaSettings(bootstrap_servers="nowhere:1"))
    app.state.reading = Reading(pool)
    async with serve(app, HttpSettings()) as port:
        monkeypatch.setenv("MODELBUS_REGISTRY_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MODELBUS_REGISTRY_VIEWER_TOKEN", TOKENS["viewer"])
        yield
