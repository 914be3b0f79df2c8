"""The record made again from the topics: on a real bus, after its database was dropped."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import takewhile
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from cli import record
from compose.embedded.stack import Stack
from schemas.envelope import Envelope
from schemas.events.registry import AuditAdvanced, ModelRegistered
from schemas.topics import REGISTRY
from services.registry.app import opened
from shared import postgres
from shared.reading import Reader, heard
from shared.settings import KafkaSettings, PostgresSettings
from tests.conftest import own_stack  # noqa: F401  # it is this file's stack
from tests.integration.registry_kit import hear, outbox, validated
from tests.integration.registry_world import MODELS, Serving, World, dump, settled

SEED = 11
pytestmark = pytest.mark.stack


Lived = tuple[World, dict[str, list[str]], int]


@pytest.fixture(scope="module")
async def pool(stack: Stack) -> AsyncIterator[asyncpg.Pool]:
    async with postgres.open_pool(PostgresSettings(), "registry") as pool:
        yield pool


@pytest.fixture(scope="module")
async def lived(pool: asyncpg.Pool) -> AsyncIterator[Lived]:
    """A world that was lived through with a registry that is stopped now: its database, and how much it had said."""
    tokens = {
        role: os.environ[f"MODELBUS_REGISTRY_{role.upper()}_TOKEN"] for role in ("viewer", "operator", "approver")
    }
    url = f"http://127.0.0.1:{os.environ['MODELBUS_REGISTRY_HTTP_PORT']}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        world = World(client=client, tokens=tokens, random=Random(SEED))
        async with opened():
            await world.apply("1h")
            await asyncio.gather(*(world.live(model, 6) for model in MODELS), world.apply("2h"), world.forget())
            await world.act("/models/flood/freeze", "operator", "ann")
            world.producer.flush(10)
            await settled(pool, set(world.said))
        yield world, await dump(pool), len(await asyncio.to_thread(said_by_registry))


def said_by_registry() -> list[Envelope]:
    with Reader(KafkaSettings(), "modelbus.test", 500) as reader:
        return [
            said
            for number, span in reader.spans(REGISTRY.name).items()
            for batch in reader.read(REGISTRY.name, number, *span)
            for said in heard(batch)
        ]


async def test_a_record_that_is_dropped_is_rebuilt_equal_and_goes_on(pool: asyncpg.Pool, lived: Lived) -> None:
    world, before, words = lived
    await pool.execute("DROP SCHEMA registry CASCADE")

    async with opened():
        after, again = await dump(pool), len(await asyncio.to_thread(said_by_registry))
        verdict = await world.look("/audit/verify")
        await world.act("/models/flood/unfreeze", "operator", "ann")

    assert len(before["audit"]) > 100
    assert before.keys() == await tables(pool)
    assert after == before
    assert (verdict["broken"], verdict["rows"], again) == (None, len(before["audit"]), words)
    assert await pool.fetchval("SELECT max(position) FROM audit") == len(before["audit"]) + 1


async def tables(pool: asyncpg.Pool) -> set[str]:
    names = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'registry'")
    return {row["tablename"] for row in names} - {"migration", "outbox"}


async def run(*arguments: str) -> Result:
    """`modelbus registry …`, in a thread, as the registry lives in this loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(record.app, arguments))


async def test_a_record_is_checked_against_the_bus_beside_a_registry_that_goes_on(
    pool: asyncpg.Pool, lived: Lived
) -> None:
    async with opened():
        equal = await run("check")
        await pool.execute("UPDATE version SET stage = 'champion' WHERE model = 'flood' AND version = 1")
        await pool.execute("DELETE FROM alert WHERE model = 'ice'")
        different = await run("check")
    await pool.execute("DROP SCHEMA registry CASCADE")  # and is made again for whoever comes next

    assert (equal.exit_code, different.exit_code) == (0, 1), equal.output + different.output
    assert "equal: the record is what the bus tells" in equal.output
    assert [line.partition(":")[0] for line in different.output.splitlines()] == ["alert", "version"]
    assert await pool.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'registry_beside'") == 0


async def test_a_running_registry_whose_record_is_dropped_ends_so_that_it_starts_anew(
    pool: asyncpg.Pool, lived: Lived
) -> None:
    async with opened() as service:
        await pool.execute("DROP SCHEMA registry CASCADE")
        relay = next(loop for loop in service.loops if loop.get_name() == "relay")
        with pytest.raises(asyncpg.UndefinedTableError):
            await asyncio.wait_for(relay, timeout=120)


async def test_who_was_live_at_any_instant_is_told_as_it_was_kept_by_hand(lived: Lived) -> None:
    world, random = lived[0], Random(SEED)
    first, last = min(world.said.values()), max(world.said.values())
    instants = [first + (last - first) * random.random() for _ in range(40)]
    instants += random.sample([each.since for kept in world.served.values() for each in kept], 10)

    async with opened():
        for at in instants:
            for model, kept in world.served.items():
                told = await world.look(f"/models/{model}/as-of", at=at.isoformat())

                assert _in_short(told) == _by_hand(kept, at), (model, at)


def _by_hand(kept: list[Serving], at: datetime) -> tuple[Any, ...]:
    past = [each for each in kept if each.since <= at]
    if not past:
        return None, None
    now, same = past[-1], list(takewhile(lambda each: each.champion == past[-1].champion, reversed(past)))
    return (now.phase, now.champion, now.challenger, now.reason), (same[-1].since, same[-1].reason)


def _in_short(told: dict[str, Any]) -> tuple[Any, ...]:
    if (serving := told["serving"]) is None:
        return None, told["champion"]
    champion = told["champion"]
    assert champion["version"] == serving["champion"]
    now = tuple(serving[name] for name in ("phase", "champion", "challenger", "reason"))
    return now, (datetime.fromisoformat(champion["since"]), champion["because"])


async def test_what_was_heard_and_never_said_is_heard_again_and_said_once(pool: asyncpg.Pool, lived: Lived) -> None:
    world, lost, half = lived[0], validated("lost"), validated("half")
    async with opened():  # makes the record again that the test before may have dropped
        pass
    for event, run_id in ((half, "half"), (lost, "lost")):  # by a registry whose words do not get out
        world.say(event, run_id, id=run_id)
        await hear(pool, event, id=run_id, run_id=run_id)
    _say_half(await outbox(pool))
    world.producer.flush(10)
    numbers = await pool.fetch("SELECT run_id, version FROM version WHERE run_id IN ('lost', 'half')")
    await pool.execute("DROP SCHEMA registry CASCADE")

    async with opened():
        await settled(pool, {"lost", "half"})
        # by their ids: a relay that is stopped between saying and forgetting says it again, and inboxes hear it once
        words = list({each.id: each for each in await asyncio.to_thread(said_by_registry)}.values())

    registered = [each.event for each in words if isinstance(each.event, ModelRegistered)]
    counted = Counter(each.release.candidate.run_id for each in registered)
    assert (counted["lost"], counted["half"]) == (1, 1)
    again = await pool.fetch("SELECT run_id, version FROM version WHERE run_id IN ('lost', 'half')")
    assert sorted(map(tuple, again)) == sorted(map(tuple, numbers))
    heads = [each.event.position for each in words if isinstance(each.event, AuditAdvanced)]
    assert sorted(heads) == list(range(1, len(heads) + 1))


def _say_half(words: list[Envelope]) -> None:
    """The relay dies when the first word is out, and not the head of the audit log that belongs to it."""
    said = next(each for each in words if each.causation_id == "half" and isinstance(each.event, ModelRegistered))
    producer, headers = Producer(KafkaSettings().librdkafka()), said.headers()
    about: Any = {"key": said.event.key.encode(), "value": said.event.encode(), "headers": headers}
    producer.produce(REGISTRY.name, **about)
    producer.flush(10)
