"""The audit log on a real Postgres: whatever is done to its rows is found, and where."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from services.registry.acts import Acts, Word
from services.registry.app import MIGRATIONS
from services.registry.chain import Chain, Verdict
from tests.conftest import PoolFor
from tests.integration.registry_kit import NOWHERE, STREAM, declare, heads, hear, model, outbox, requested, validated

FLIP = """
CREATE FUNCTION flip(words text) RETURNS text LANGUAGE sql AS $$
    SELECT convert_from(set_byte(convert_to(words, 'UTF8'), 0, get_byte(convert_to(words, 'UTF8'), 0) # 1), 'UTF8') $$
"""
FLIPPED = {
    "position": "UPDATE audit SET position = position # 64 WHERE position = $1",
    "at": "UPDATE audit SET at = at + interval '1 microsecond' WHERE position = $1",
    "actor": "UPDATE audit SET actor = flip(actor) WHERE position = $1",
    "action": "UPDATE audit SET action = flip(action) WHERE position = $1",
    "subject": "UPDATE audit SET subject = flip(subject) WHERE position = $1",
    "reason": "UPDATE audit SET reason = flip(reason) WHERE position = $1",
    "what": "UPDATE audit SET what = (what::text || ' ')::json WHERE position = $1",
    "event_id": "UPDATE audit SET event_id = flip(event_id) WHERE position = $1",
    "previous_hash": "UPDATE audit SET previous_hash = flip(previous_hash) WHERE position = $1",
    "hash": "UPDATE audit SET hash = flip(hash) WHERE position = $1",
}


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    """With five rows of audit log."""
    pool = await pool_for("registry", [MIGRATIONS])
    await pool.execute(FLIP)
    await declare(pool, STREAM, model())
    await hear(pool, requested("a"))
    await hear(pool, validated("a"))
    acts, ann = Acts(pool=pool, kafka=NOWHERE), Word(actor="operator:ann", reason="looking")
    for order in ("freeze", "unfreeze"):
        await acts.order("flood", order, ann)
    await acts.train("flood", ann)
    return pool


async def verify(pool: asyncpg.Pool) -> Verdict:
    return await Chain(pool=pool, kafka=NOWHERE).verify_against(await heads(pool))


async def broken_at(pool: asyncpg.Pool) -> int | None:
    broken = (await verify(pool)).broken
    return broken.position if broken else None


@asynccontextmanager
async def tampered(pool: asyncpg.Pool, statement: str, *arguments: Any) -> AsyncIterator[None]:
    """By somebody who owns the database; undone afterwards."""
    await pool.execute("CREATE TABLE kept AS TABLE audit; ALTER TABLE audit DISABLE TRIGGER USER")
    await pool.execute(statement, *arguments)
    try:
        yield
    finally:
        await pool.execute("TRUNCATE audit; INSERT INTO audit SELECT * FROM kept; DROP TABLE kept")


async def test_every_act_says_the_head_it_leaves_once_and_in_its_lifecycle(pool: asyncpg.Pool) -> None:
    said = [each for each in await outbox(pool) if each.event.event == "audit.advanced"]
    rows = await pool.fetch("SELECT position, hash, event_id FROM audit ORDER BY position")

    assert {row["position"]: {row["hash"]} for row in rows} == await heads(pool)
    assert [each.causation_id for each in said] == [row["event_id"] for row in rows]
    assert [row["position"] for row in rows] == [1, 2, 3, 4, 5]


async def test_an_untouched_log_is_intact_to_its_head(pool: asyncpg.Pool) -> None:
    verdict = await verify(pool)

    assert (verdict.rows, verdict.said_up_to, verdict.broken) == (5, 5, None)
    assert verdict.hash == await pool.fetchval("SELECT hash FROM audit WHERE position = 5")


async def test_there_is_a_flip_for_every_column(pool: asyncpg.Pool) -> None:
    columns = await pool.fetch("SELECT attname FROM pg_attribute WHERE attrelid = 'audit'::regclass AND attnum > 0")

    assert {row["attname"] for row in columns} == FLIPPED.keys()


@pytest.mark.parametrize("position", [1, 3, 5])
async def test_a_flipped_byte_in_any_column_is_found(pool: asyncpg.Pool, position: int) -> None:
    for column, flipped in FLIPPED.items():
        async with tampered(pool, flipped, position):
            assert await broken_at(pool) == position, column

        assert await broken_at(pool) is None


async def test_deleted_rows_are_found_in_the_middle_and_at_both_ends(pool: asyncpg.Pool) -> None:
    for gone, first in (([3], 3), ([1], 1), ([4, 5], 4), ([5], 5), ([1, 2, 3, 4, 5], 1)):
        async with tampered(pool, "DELETE FROM audit WHERE position = ANY($1)", gone):
            assert await broken_at(pool) == first, gone


async def test_a_row_moved_into_the_place_of_a_deleted_one_is_found(pool: asyncpg.Pool) -> None:
    moved = "DELETE FROM audit WHERE position = 3; UPDATE audit SET position = position - 1 WHERE position > 3"
    async with tampered(pool, moved):
        assert await broken_at(pool) == 3


async def test_a_log_longer_than_a_page_is_followed_to_its_end(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.registry.chain._ROWS", 2)

    assert (await verify(pool)).rows == 5
    async with tampered(pool, "UPDATE audit SET reason = 'none' WHERE position = 4"):
        verdict = await verify(pool)
        assert (verdict.rows, verdict.broken and verdict.broken.position) == (3, 4)
