"""`modelbus registry`: is the record what the bus tells, and making it again."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import asyncpg
import typer
from confluent_kafka import KafkaException

from cli.client import Registry, RegistryError, fail, say, settings
from shared import postgres
from shared.errors import ModelbusError
from shared.settings import KafkaSettings, PostgresSettings

if TYPE_CHECKING:
    from services.registry.comparison import Comparison

app = typer.Typer(help="The registry's database, beside what the bus tells.", no_args_is_help=True)
_WITHIN_SECONDS = 120.0
_AGAIN_SECONDS = 0.2


@app.command("check")
def check() -> None:
    """Make the record again beside the one there is, from the lifecycle topics, and compare row by row.

    Exit code 0: they are equal. 1: they are not, and which tables. The registry goes on meanwhile.
    """
    found = _compared()
    if found.different:
        fail("\n".join(_told(found)))
    say(f"equal: the record is what the bus tells, up to row {found.rows:,} of the audit log")


@app.command("rebuild")
def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Drop the registry's database, so that the registry ends, starts anew and makes it again from the topics.

    Before, it is made beside, so that nothing is dropped that could not be made again.
    """
    found = _compared()
    for line in _told(found):
        say(line)
    if not yes:
        typer.confirm(f"Drop the record, and make {found.rows:,} acts again from the bus?", abort=True)
    asyncio.run(_drop())
    _await(found.rows)
    say(f"rebuilt: {found.rows:,} rows of the audit log and all that goes with them")


def _compared() -> "Comparison":
    from services.registry.app import by_event  # noqa: PLC0415  # a whole service: other commands need none of it
    from services.registry.comparison import compared  # noqa: PLC0415

    kafka, database = settings(KafkaSettings), settings(PostgresSettings)
    try:
        return asyncio.run(compared(kafka, database, by_event()))
    except KafkaException as error:
        fail(f"Kafka: {error.args[0].str()}")
    except (ModelbusError, OSError, asyncpg.PostgresError) as error:
        fail(str(error))


def _told(found: "Comparison") -> list[str]:
    return [
        f"{name}: {there:,} rows are not what the bus tells, and {again:,} that it tells are missing"
        for name, (there, again) in found.different.items()
    ]


async def _drop() -> None:
    """When there is nothing left to be said; what is heard meanwhile waits."""
    async with postgres.open_pool(settings(PostgresSettings), "registry") as pool, asyncio.timeout(_WITHIN_SECONDS):
        while not await _dropped(pool):  # noqa: ASYNC110  # nothing tells when all is said
            await asyncio.sleep(_AGAIN_SECONDS)


async def _dropped(pool: asyncpg.Pool) -> bool:
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(postgres.QUERIES["lock_outbox"])
            if await connection.fetchval(postgres.QUERIES["unsaid"]):
                return False
            await connection.execute(postgres.QUERIES["drop_schema"])
            return True
    except asyncpg.DeadlockDetectedError:  # with somebody who waits to say something: they go first
        return False


def _await(rows: int) -> None:
    """Until the registry has as many rows again."""
    deadline = time.monotonic() + _WITHIN_SECONDS
    while time.monotonic() < deadline:
        try:
            with Registry("viewer") as client:
                if client.get("/audit", after=rows - 1, limit=1)["items"] or not rows:
                    return
        except RegistryError:
            pass
        time.sleep(_AGAIN_SECONDS)
    fail(f"the registry has not made its record again in {_WITHIN_SECONDS:.0f} s; its log says why")
