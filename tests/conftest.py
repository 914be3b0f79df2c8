"""Real parts for every test: the embedded stack once a session, fresh Postgres schemas on demand."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from compose.embedded.stack import Stack
from shared import postgres
from shared.objects import Objects
from shared.settings import PostgresSettings, S3Settings

collect_ignore = ["integration/mlflow"]  # runs in an environment of its own, made by its test
PoolFor = Callable[[str, Sequence[Path]], Awaitable[asyncpg.Pool]]


async def started_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Kafka, Postgres, S3 and Zipkin, their settings in the environment of this process and its children."""
    before = dict(os.environ)
    async with Stack(tmp_path_factory.mktemp("stack")) as running:
        os.environ.update(running.environment)
        yield running
    os.environ.clear()
    os.environ.update(before)


stack = pytest.fixture(scope="session")(started_stack)
own_stack = pytest.fixture(scope="module", name="stack")(started_stack)  # import it where foreign events would be heard


@pytest.fixture(scope="module")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Settings]:
    """S3 alone, its settings in the environment for the children."""
    async with Stack(tmp_path_factory.mktemp("s3"), parts=frozenset({"s3"})) as running:
        settings = {name: value for name, value in running.environment.items() if name.startswith("MODELBUS_S3_")}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        await Objects(S3Settings()).ensure_bucket()
        yield S3Settings()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@pytest.fixture(scope="session")
async def database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresSettings]:
    """Postgres alone, for tests of handlers and stores; it starts in a second."""
    async with Stack(tmp_path_factory.mktemp("postgres"), parts=frozenset({"postgres"})) as running:
        yield PostgresSettings(dsn=SecretStr(running.environment["MODELBUS_POSTGRES_DSN"]))


@pytest.fixture
async def pool_for(database: PostgresSettings) -> AsyncIterator[PoolFor]:
    """`await pool_for("trainer", [migrations])`: a pool on a schema made anew."""
    async with AsyncExitStack() as opened:

        async def open_fresh(schema: str, migrations: Sequence[Path] = ()) -> asyncpg.Pool:
            pool = await opened.enter_async_context(postgres.open_pool(database, schema))
            await pool.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
            await postgres.migrate(pool, schema, [postgres.SHARED_MIGRATIONS, *migrations])
            return pool

        yield open_fresh


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """The spans of this process; the provider is set once a process, so a new exporter joins it."""
    exporter = InMemorySpanExporter()
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter
