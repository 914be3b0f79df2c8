"""Postgres without an ORM: one pool a service, one schema a service, numbered migrations."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from shared import queries
from shared.settings import PostgresSettings

Connection: TypeAlias = Any  # asyncpg ships no types; a connection or its pool proxy
AWAY = (  # Postgres is not there, or is going or coming: whoever needs it waits
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the client's own state, when a connection ends in the middle of something
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
)
QUERIES = queries.load(Path(__file__).parent / "queries.sql")
SHARED_MIGRATIONS = Path(__file__).parent / "migrations"


async def _jsonb_as_objects(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@asynccontextmanager
async def open_pool(settings: PostgresSettings, schema: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool whose connections live in `schema`; bounded by `settings.pool_size`. Waits for the server to come up.

    Raises:
        ValueError: `schema` is not a plain name.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", schema):
        raise ValueError(f"schema: expected a plain lower-case name, got {schema!r}")
    pool = await _until_up(
        lambda: asyncpg.create_pool(
            settings.dsn.get_secret_value(),
            min_size=1,
            max_size=settings.pool_size,
            init=_jsonb_as_objects,
            command_timeout=60,
            server_settings={"search_path": schema, "application_name": f"modelbus-{schema}", "timezone": "UTC"},
        )
    )
    try:
        yield pool
    finally:
        await asyncio.wait_for(pool.close(), timeout=10)


async def _until_up(connect: Any, attempts: int = 60) -> asyncpg.Pool:
    for attempt in range(attempts):
        try:
            return await connect()
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
            if attempt == attempts - 1:
                raise
            await asyncio.sleep(0.5)
    raise AssertionError("unreachable")


async def migrate(pool: asyncpg.Pool, schema: str, folders: Sequence[Path]) -> list[str]:
    """Bring `schema` up to date; each migration is one transaction; concurrent starters take turns.

    Returns:
        The names of the migrations that were applied now.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"migrate:{schema}")
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        seen = {row["name"] for row in await connection.fetch(QUERIES["applied_migrations"])}
        files = [
            (f"{folder.parent.name}/{file.name}", file) for folder in folders for file in sorted(folder.glob("*.sql"))
        ]
        fresh = [(name, file) for name, file in files if name not in seen]
        for name, file in fresh:
            await connection.execute(file.read_text())
            await connection.execute(QUERIES["record_migration"], name)
    return [name for name, _ in fresh]
