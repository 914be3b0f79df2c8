"""Whether the record is what the bus tells: made again beside it, up to where it had come, and compared row by row."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from schemas.events.base import Event
from services.registry.chain import Said
from services.registry.domain.history import NotRebuilt
from services.registry.rebuild import Rebuild
from services.registry.retelling import Cut
from services.registry.store import QUERIES
from shared import postgres
from shared.bus import Handler
from shared.settings import KafkaSettings, PostgresSettings

SCHEMA = "registry"
_BESIDE = "registry_beside"
_SAID_WITHIN_SECONDS = 30.0
_MIGRATIONS = [postgres.SHARED_MIGRATIONS, Path(__file__).parent / "migrations"]
Dump = dict[str, Counter[str]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows of the audit log that both have, and tables whose rows differ: so many are only there, only made again."""

    rows: int
    different: Mapping[str, tuple[int, int]]


async def compared(
    kafka: KafkaSettings, database: PostgresSettings, handlers: Mapping[type[Event], Handler]
) -> Comparison:
    """The registry may go on meanwhile: both are compared as of one instant.

    Raises:
        NotRebuilt: the topics do not hold one whole history, or are behind.
        confluent_kafka.KafkaException: the broker refused or did not answer.
    """
    async with postgres.open_pool(database, SCHEMA) as pool:
        cut, there = await _as_of_now(pool)
    await _until_said(kafka, cut.position)
    async with postgres.open_pool(database, _BESIDE) as pool:
        await pool.execute(QUERIES["drop_beside"])
        try:
            await postgres.migrate(pool, _BESIDE, _MIGRATIONS)
            await Rebuild(pool=pool, kafka=kafka, handlers=handlers, cut=cut).run()
            async with pool.acquire() as connection:
                again = await _dump(connection)
        finally:
            await pool.execute(QUERIES["drop_beside"])
    return Comparison(rows=cut.position, different=_different(there, again))


async def _as_of_now(pool: asyncpg.Pool) -> tuple[Cut, Dump]:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        position = await connection.fetchval(QUERIES["last_position"])
        heard = {row["event_id"] for row in await connection.fetch(QUERIES["heard"])}
        return Cut(position=position, heard=heard), await _dump(connection)


async def _dump(connection: postgres.Connection) -> Dump:
    found: Dump = {}
    for row in await connection.fetch(QUERIES["dumped"]):
        found.setdefault(row["name"], Counter())[row["content"]] += 1
    return found


async def _until_said(kafka: KafkaSettings, position: int) -> None:
    said = Said()
    try:
        async with asyncio.timeout(_SAID_WITHIN_SECONDS):
            await asyncio.to_thread(said.read_on, kafka)
            while max(said.heads, default=0) < position:
                await asyncio.sleep(0.2)
                await asyncio.to_thread(said.read_on, kafka)
    except TimeoutError:
        told = max(said.heads, default=0)
        raise NotRebuilt(f"the bus tells of {told} rows of the audit log; expected {position}") from None


def _different(there: Dump, again: Dump) -> dict[str, tuple[int, int]]:
    empty: Counter[str] = Counter()
    both = {name: (there.get(name, empty), again.get(name, empty)) for name in sorted({*there, *again})}
    gaps = {name: ((one - other).total(), (other - one).total()) for name, (one, other) in both.items()}
    return {name: gap for name, gap in gaps.items() if any(gap)}
