"""Cleaning on real S3: what models were trained on stays readable, and the table goes on."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition

from compose.embedded.stack import Stack
from schemas.events.parts import Release
from schemas.events.registry import ModelRegistered
from schemas.topics import REGISTRY
from services.ingestor.announcements import Announcer
from services.ingestor.app import MIGRATIONS
from services.ingestor.domain.sources import Source
from services.ingestor.housekeeping import clean, heard_all
from services.ingestor.intake import Intake
from services.ingestor.parking import Parking
from services.ingestor.settings import Settings
from services.ingestor.store import Store
from shared import postgres
from shared.settings import KafkaSettings, PostgresSettings, S3Settings
from shared.tables import NoTable, Tables
from tests.integration import ingestor_parts as parts
from tests.integration.test_ingestor_commits import fill
from tests.scoring_world import model_spec, release_of, stream_spec

pytestmark = pytest.mark.stack


@pytest.fixture
async def pool(stack: Stack) -> AsyncIterator[asyncpg.Pool]:
    async with postgres.open_pool(PostgresSettings(), "ingestor_keeping") as opened:
        await opened.execute("DROP SCHEMA IF EXISTS ingestor_keeping CASCADE")
        await postgres.migrate(opened, "ingestor_keeping", [postgres.SHARED_MIGRATIONS, MIGRATIONS])
        yield opened


@pytest.fixture
def source(stack: Stack) -> Source:
    spec = parts.stream_spec(partitions=2)
    return Source(kind="data", owner=spec.stream, spec=spec)


class Table:
    """A table that grows by commits of three rows and is compacted every ten files."""

    def __init__(self, source: Source) -> None:
        self.source, self.tables = source, Tables(S3Settings())
        self.intake = Intake(
            source, tables=self.tables, parking=Parking(KafkaSettings()), settings=Settings(compact_files=10)
        )
        self.intake.place([0])

    def grow(self, commits: int) -> None:
        for _ in range(commits):
            start = self.intake.ends[0]
            fill(self.intake, 0, range(start, start + 3))
            assert self.intake.commit() == set()
            self.intake.tidy()

    def version(self) -> int:
        return self.intake.table().version()

    def rows(self, version: int) -> pa.Table:
        return self.tables.read("data", self.source.owner, version).sort_by("offset")

    def clean(self, pinned: Sequence[int], said: int | None = None, cutoff: datetime | None = None) -> int:
        """As if all that was there were older than what is kept."""
        late = datetime.now(UTC) + timedelta(minutes=1)
        return clean(self.tables, self.source, pinned, self.version() if said is None else said, cutoff or late)

    def objects(self) -> set[str]:
        return set(self.tables.stored("data", self.source.owner))


@pytest.mark.slow
def test_pinned_versions_read_equal_after_every_cleaning_and_what_nobody_needs_goes(source: Source) -> None:
    table, pins = Table(source), [0]
    before = {0: table.rows(0)}
    for commits in (7, 45, 60):  # before the first checkpoint, on the way to it, beyond the second
        table.grow(commits)
        pins.append(table.version())
        before[pins[-1]] = table.rows(pins[-1])
        table.grow(13)
        objects = table.objects()

        removed = table.clean(pins)

        assert 0 < removed == len(objects) - len(table.objects())
        for version in pins:
            assert table.rows(version).equals(before[version])
        newest = table.rows(table.version())
        assert newest["offset"].to_pylist() == list(range(table.intake.ends[0]))
        assert table.clean(pins) == 0
    with pytest.raises(NoTable):
        table.rows(pins[1] + 1)
    table.grow(1)  # the very snapshot that was held goes on
    assert Table(source).intake.ends == table.intake.ends  # and so does a later life


def test_versions_that_are_young_stay_readable_without_a_pin(source: Source) -> None:
    table = Table(source)
    table.grow(25)
    before = {version: table.rows(version) for version in range(1, table.version() + 1)}

    assert table.clean([], cutoff=datetime.now(UTC) - timedelta(minutes=10)) == 0

    for version, rows in before.items():
        assert table.rows(version).equals(rows)


async def test_commits_that_have_not_been_announced_can_be_announced_after_a_cleaning(
    source: Source, pool: asyncpg.Pool
) -> None:
    table = Table(source)
    table.grow(20)
    await Announcer(pool).announce(source.table, table.intake.table())
    async with pool.acquire() as connection:
        announced = await Store(connection).announced(source.table)
    table.grow(60)

    table.clean([], said=announced)
    await Announcer(pool).announce(source.table, table.intake.table())

    said = await pool.fetch("SELECT value FROM outbox")
    assert sum(json.loads(row["value"])["rows_added"] for row in said) == 80 * 3


def test_a_version_to_be_kept_that_does_not_open_stops_the_cleaning_before_anything_goes(source: Source) -> None:
    table = Table(source)
    table.grow(60)
    objects = table.objects()

    with pytest.raises(NoTable):
        table.clean([10_000])

    assert table.objects() == objects


async def test_a_registered_version_pins_the_tables_of_its_cut(source: Source, pool: asyncpg.Pool) -> None:
    release = _released(source, version=4, data_version=12, labels_version=3)
    event = ModelRegistered(model="m", version=4, release=release, gates=(), approval="none")

    async with pool.acquire() as connection:
        store = Store(connection)
        for _ in range(2):
            await store.pin(event.release)
        labels = Source(kind="labels", owner=source.owner, spec=source.spec)
        predictions = Source(kind="predictions", owner="m", spec=source.spec)

        assert [await store.pinned(each) for each in (source, labels, predictions)] == [{12}, {3}, set()]


@pytest.mark.slow
async def test_an_ingestor_that_runs_cleans_up_and_keeps_what_has_been_registered(stack: Stack, tmp_path: Path) -> None:
    spec = await parts.apply(parts.stream_spec(partitions=1))
    source, tables = Source(kind="data", owner=spec.stream, spec=spec), Tables(S3Settings())
    often = {"MODELBUS_INGESTOR_COMMIT_SECONDS": "0.05", "MODELBUS_INGESTOR_COMPACT_FILES": "4"}
    with parts.ingestor(tmp_path / "log", **often):
        for number in range(12):
            parts.publish(source.topic, [parts.data(number)])
            parts.until(lambda: parts.holds("data", spec.stream, parts.ends(source.topic, 1)))
    newest = tables.open("data", spec.stream).version()
    before = {version: tables.read("data", spec.stream, version) for version in (newest // 2, newest)}

    release = _released(source, version=1, data_version=newest // 2, labels_version=0)
    parts.say(ModelRegistered(model="m", version=1, release=release, gates=(), approval="none"))
    soon = {"MODELBUS_INGESTOR_CLEAN_SECONDS": "0.5", "MODELBUS_INGESTOR_KEEP_DAYS": "0.00001"}
    with parts.ingestor(tmp_path / "log", **soon):
        needed = tables.files("data", spec.stream, None) | tables.files("data", spec.stream, newest // 2)
        parts.until(lambda: _files(tables, spec.stream) == needed)

    for version, rows in before.items():
        assert tables.read("data", spec.stream, version).equals(rows)


def _files(tables: Tables, stream: str) -> set[str]:
    return {name for name in tables.stored("data", stream) if not name.startswith("_delta_log/")}


async def test_nothing_counts_as_heard_until_the_group_has_come_to_the_end(stack: Stack) -> None:
    await parts.apply(parts.stream_spec())  # so that the registry has said something
    service = f"nobody-{uuid.uuid4().hex}"
    ends = parts.ends(REGISTRY.name, REGISTRY.partitions)

    heard = [heard_all(KafkaSettings(), service, REGISTRY)]
    for behind in (1, 0):
        reader = Consumer(KafkaSettings().librdkafka() | {"group.id": f"modelbus.{service}.registry"})
        places = [TopicPartition(REGISTRY.name, p, max(end - behind, 0)) for p, end in ends.items()]
        reader.commit(offsets=places, asynchronous=False)
        reader.close()
        heard.append(heard_all(KafkaSettings(), service, REGISTRY))

    assert heard == [False, False, True]


def _released(source: Source, *, version: int, data_version: int, labels_version: int) -> Release:
    release = release_of(version, model_spec("m", source.owner), stream_spec(source.owner))
    cut = release.candidate.cut.model_copy(update={"data_version": data_version, "labels_version": labels_version})
    return release.model_copy(update={"candidate": release.candidate.model_copy(update={"cut": cut})})
