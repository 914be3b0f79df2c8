"""`modelbus replay`: what another version would have predicted, from the log and from the table, leaving no trace."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner, Result

from cli.replay import replay
from cli.value import value
from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutEnded, RolloutSwitched
from schemas.events.parts import Release
from schemas.events.validator import ModelRejected, ModelValidated
from schemas.specs import Costs
from schemas.topics import DATA, LABELS, PREDICTIONS
from services.deployer.consuming import GROUP
from services.registry.app import MIGRATIONS
from shared.settings import S3Settings
from shared.tables import Tables, append, schema_of
from tests.conftest import PoolFor
from tests.integration.registry_http import reachable
from tests.integration.registry_kit import declare, hear
from tests.scoring_world import EPOCH, NOTHING, World, changed, scorers, until

pytestmark = pytest.mark.stack
EVENTS = 600
FELL = 60  # offset
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    return await pool_for("registry", [MIGRATIONS])


@pytest.fixture
async def run(pool: asyncpg.Pool, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    async def invoke(*arguments: str, command: Callable[..., None] = replay) -> Result:
        app = typer.Typer()
        app.command()(command)
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, catch_exceptions=False))

    monkeypatch.setenv("COLUMNS", "200")
    async with reachable(pool, monkeypatch):
        yield invoke


async def test_a_span_is_scored_again_by_any_version_from_the_log_and_the_table_and_nothing_moves(
    run: Run, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    world = await World.made("past")
    model = world.models[0].model
    first, second = world.release(1), world.release(2)
    costs = Costs(false_positive=1, false_negative=5)
    await declare(pool, world.stream, *(each.model_copy(update={"costs": costs}) for each in world.models))
    about: dict[str, Any] = {"model": model, "gates": (), "report": NOTHING}
    await hear(pool, ModelValidated(run_id="a", candidate=first.candidate, **about), run_id="a")
    await hear(pool, ModelRejected(run_id="b", candidate=second.candidate, explanation="worse", **about), run_id="b")
    with scorers(tmp_path):
        world.say(changed(1, first))
        world.feed(EVENTS)
        await until(lambda: len(world.predictions()) == EVENTS)
    label(world)
    forget(world, 40)
    before = ends(world)
    span = "--from", "2013-01-01T00:01Z", "--to", "2013-01-01T00:09Z"
    lines, table = tmp_path / "again.jsonl", tmp_path / "other.parquet"

    again = json.loads((await run(f"{model}:1", *span, "--out", str(lines), "--json")).stdout)
    other = json.loads((await run(f"{model}:2", *span, "--out", str(table), "--json")).stdout)
    told = await run(f"{model}:2", *span)
    await fall(pool, first, second)
    worth = json.loads((await run(model, *span, "--json", command=value)).stdout)

    served = {each["event_id"]: each for each in world.predictions()}
    wanted = {f"e{number}" for number in range(60, 540)}
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert {row["event_id"] for row in rows} == wanted
    assert all((row["score"], row["label"]) == (served[row["event_id"]]["score"], row["served_label"]) for row in rows)
    assert again["beside"] == {"1": {"rows": 480, "equal_scores": 480, "furthest_score": 0.0, "changed_labels": 0.0}}
    assert again["labelled"] == 240
    assert again["metrics"]["replayed"] == again["metrics"]["served"]
    others = pq.read_table(table).to_pylist()
    assert {row["event_id"] for row in others} == wanted
    changed_labels = sum(row["label"] != row["served_label"] for row in others) / 480
    assert other["beside"]["1"]["changed_labels"] == changed_labels
    assert other["beside"]["1"]["equal_scores"] < 480
    assert f"{model}:2 answers 480 records" in told.stdout
    instead = [row for row in others if row["truth"] is not None and row["offset"] >= FELL]
    served_cost, cost = (sum(map(priced(name), instead)) for name in ("served_label", "label"))
    assert worth["retraining"]["1"]["labelled"] == 240
    assert worth["retraining"]["1"]["earned"] == 0
    assert worth["rollbacks"]["2"] == {
        "labelled": len(instead), "cost": served_cost, "instead": cost, "earned": cost - served_cost,
    }  # fmt: skip
    assert 0 < len(instead) < 240
    assert ends(world) == before


def priced(name: str) -> Callable[[dict[str, Any]], float]:
    """What an answer costs: a false alarm one, a miss five."""
    return lambda row: 0.0 if row[name] == row["truth"] else 5.0 if row["truth"] == "true" else 1.0


async def fall(pool: asyncpg.Pool, first: Release, second: Release) -> None:
    """The record says that the second version was tried, and fell at the same offset of every partition."""
    model = first.candidate.model
    for step in (changed(1, first), changed(2, first, second), changed(3, first)):
        await hear(pool, step)
    for partition in range(4):
        place = {"partition": partition, "offset": FELL, "revision": 3}
        await hear(pool, RolloutSwitched(model=model, stream=first.candidate.spec.stream, **place))
    await hear(pool, RolloutEnded(model=model, revision=3, version=2, outcome="rolled_back", reason="worse"))


async def test_what_cannot_be_replayed_is_said_in_words(run: Run, pool: asyncpg.Pool) -> None:
    world = await World.made("unreplayed")
    model = world.models[0].model
    await declare(pool, world.stream, *world.models)
    lost = world.release(1, onnx=b"no model").candidate
    await hear(
        pool, ModelRejected(model=model, run_id="a", candidate=lost, gates=(), report=None, explanation="x"), run_id="a"
    )
    span = "--from", "2013-01-01", "--to", "2013-01-02"

    backwards = await run(f"{model}:1", "--from", "2013-01-02", "--to", "2013-01-01")
    unknown = await run(f"{model}:9", *span)
    broken = await run(f"{model}:1", *span)
    wordless = await run(f"{model}:1", *span, "--out", "answers.csv")

    assert all(each.exit_code == 1 for each in (backwards, unknown, broken, wordless))
    assert "there is nothing between" in backwards.stderr
    assert "is not known" in unknown.stderr
    assert "expected ONNX bytes" in broken.stderr
    assert "ends with .parquet or .jsonl" in wordless.stderr


def label(world: World) -> None:
    """What came of every other event."""
    producer = Producer(world.kafka.librdkafka() | {"partitioner": "murmur2_random"})
    for number in range(0, EVENTS, 2):
        entity, time = f"machine-{number % 50}", (EPOCH + timedelta(seconds=number)).isoformat()
        said = {"id": f"e{number}", "entity": entity, "time": time, "label": number % 3 == 0}
        producer.produce(LABELS.of(world.stream.stream), json.dumps(said), entity)
    assert producer.flush(30) == 0


def forget(world: World, count: int) -> None:
    """The first `count` records of each partition are in the table, and gone from the log."""
    topic, schema = DATA.of(world.stream.stream), schema_of("data", world.stream)
    rows, gone = [], defaultdict(int)
    for message in world.read(topic):
        if message.offset() < count:
            record = json.loads(message.value())
            place = {"partition": message.partition(), "offset": message.offset(), "flags": []}
            time = EPOCH + timedelta(seconds=int(record["id"][1:]))
            features = {f"f_{name}": value for name, value in record["features"].items()}
            rows.append({"id": record["id"], "entity": record["entity"], "time": time, **place, **features})
            gone[message.partition()] = message.offset() + 1
    tables = Tables(S3Settings())
    table = tables.ensure("data", world.stream.stream, schema)
    append(table, pa.Table.from_pylist(rows, schema), {f"{topic}/{p}": end for p, end in gone.items()}, {})
    admin = AdminClient(world.kafka.librdkafka())
    places = [TopicPartition(topic, partition, end) for partition, end in gone.items()]
    for future in admin.delete_records(places).values():
        future.result(30)


def ends(world: World) -> list[Any]:
    """What a replay must not move: the ends of the topics and the places of the scorers."""
    admin = AdminClient(world.kafka.librdkafka())
    topics = (DATA.of(world.stream.stream), PREDICTIONS.of(world.models[0].model))
    found = [
        (message.topic(), message.partition(), message.offset()) for each in topics for message in world.read(each)
    ]
    places = [TopicPartition(topics[0], partition) for partition in range(world.stream.partitions)]
    (groups,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, places)]).values()
    listed = {group.group_id for group in admin.list_consumer_groups().result(30).valid}
    return [found, [(each.partition, each.offset) for each in groups.result(30).topic_partitions], listed]
