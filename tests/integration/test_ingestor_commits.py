"""One table on real S3: commits from the right snapshot only, announcements from the log, failures ridden out."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from compose.embedded.stack import Stack
from schemas.events.ingestor import DatasetCommitted
from schemas.specs import BoolFeature
from schemas.topics import DATA
from services.ingestor.announcements import METADATA, Announcer
from services.ingestor.app import MIGRATIONS
from services.ingestor.domain.blocks import Taken, block_of
from services.ingestor.domain.sources import Source
from services.ingestor.intake import Intake
from services.ingestor.parking import Parking
from services.ingestor.settings import Settings
from services.ingestor.store import Store
from services.ingestor.stream import Stream
from shared import postgres
from shared.kafka import control_topics, ensure_topics
from shared.settings import KafkaSettings, PostgresSettings, S3Settings
from shared.tables import Tables, append, commits_since, compact
from tests.integration import ingestor_parts as parts

pytestmark = pytest.mark.stack


@pytest.fixture
async def source(stack: Stack) -> Source:
    await ensure_topics(KafkaSettings(), control_topics(KafkaSettings()))
    spec = parts.stream_spec(partitions=2)
    return Source(kind="data", owner=spec.stream, spec=spec)


@pytest.fixture
async def pool(stack: Stack) -> AsyncIterator[asyncpg.Pool]:
    """A database schema that no other ingestor uses."""
    async with postgres.open_pool(PostgresSettings(), "ingestor_commits") as opened:
        await opened.execute("DROP SCHEMA IF EXISTS ingestor_commits CASCADE")
        await postgres.migrate(opened, "ingestor_commits", [postgres.SHARED_MIGRATIONS, MIGRATIONS])
        yield opened


def intake(source: Source, settings: S3Settings | None = None, **limits: int) -> Intake:
    kafka = KafkaSettings()
    tables = Tables(settings or S3Settings())
    return Intake(source, tables=tables, parking=Parking(kafka), settings=Settings(**limits))  # type: ignore[arg-type]


def fill(table: Intake, partition: int, offsets: range) -> None:
    records = [Taken(partition, offset, 0, b"N1", json.dumps(parts.data(offset)).encode()) for offset in offsets]
    assert table.add(block_of(records), now=0) == len(offsets)
    table.cut()


def places(source: Source) -> list[tuple[int, int]]:
    rows = Tables(S3Settings()).read("data", source.owner, None, ["partition", "offset"])
    return sorted(zip(rows["partition"].to_pylist(), rows["offset"].to_pylist(), strict=True))


async def said(pool: asyncpg.Pool) -> list[tuple[str, int]]:
    """Event id and rows added of what waits in the outbox, in order."""
    rows = await pool.fetch("SELECT headers, value FROM outbox ORDER BY position")
    return [(dict(row["headers"])["ce_id"], json.loads(row["value"])["rows_added"]) for row in rows]


async def test_of_two_owners_of_a_partition_one_commits_and_the_other_reads_again(source: Source) -> None:
    owner, zombie = intake(source), intake(source)
    for table in (owner, zombie):
        table.place([0])
        fill(table, 0, range(5))

    assert owner.commit() == set()
    with pytest.raises(DeltaError):  # made from a snapshot that is no longer the newest
        zombie.commit()
    assert zombie.commit() == {0}  # loaded anew, it sees that the partition has moved
    assert zombie.place([0]) == {0: 5}
    fill(zombie, 0, range(5, 7))
    assert zombie.commit() == set()

    assert places(source) == [(0, offset) for offset in range(7)]


async def test_owners_of_different_partitions_share_a_table(source: Source) -> None:
    one, other = intake(source), intake(source)
    one.place([0])
    other.place([1])
    fill(one, 0, range(3))
    fill(other, 1, range(2))

    assert one.commit() == set()
    with pytest.raises(DeltaError):
        other.commit()
    assert other.commit() == set()

    assert places(source) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


async def test_each_commit_is_announced_once_and_in_order_also_by_a_later_life(
    source: Source, pool: asyncpg.Pool
) -> None:
    table = intake(source)
    table.place([0, 1])
    fill(table, 0, range(3))
    table.commit()
    fill(table, 1, range(4))
    table.commit()  # and then it dies, before it has said anything

    later = intake(source)
    announcers = [Announcer(pool), Announcer(pool)]
    await asyncio.gather(*(each.announce(source.table, later.table()) for each in announcers))

    assert await said(pool) == [(f"{source.table}@1", 3), (f"{source.table}@2", 4)]
    (last,) = await pool.fetch("SELECT value FROM outbox ORDER BY position DESC LIMIT 1")
    event = json.loads(last["value"])
    assert (event["offsets"], event["rows_total"], event["kind"]) == ({"0": 3, "1": 4}, 7, "data")


async def test_a_commit_that_was_made_but_seemed_to_fail_is_announced_and_not_repeated(
    source: Source, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_but_unanswered(*arguments: Any) -> None:
        append(*arguments)
        raise OSError("the answer was lost")

    table = intake(source)
    table.place([0])
    fill(table, 0, range(3))
    table.announced = True
    monkeypatch.setattr("services.ingestor.intake.append", made_but_unanswered)
    with pytest.raises(OSError, match="lost"):
        table.commit()

    assert not table.announced
    await Announcer(pool).announce(source.table, table.table())
    table.announced = True  # had the commit been seen only now, it would still be unsaid
    assert table.commit() == {0}
    assert not table.announced
    assert table.place([0]) == {0: 3}
    await Announcer(pool).announce(source.table, table.table())

    assert await said(pool) == [(f"{source.table}@1", 3)]
    assert places(source) == [(0, 0), (0, 1), (0, 2)]


async def test_compaction_keeps_rows_places_and_older_versions_and_says_nothing(
    source: Source, pool: asyncpg.Pool
) -> None:
    table = intake(source, compact_files=4)
    table.place([0])
    for number in range(5):
        fill(table, 0, range(number, number + 1))
        table.commit()

    table.tidy()
    await Announcer(pool).announce(source.table, table.table())
    fill(table, 0, range(5, 6))
    table.commit()
    await Announcer(pool).announce(source.table, table.table())

    assert len(table.table().file_uris()) == 2
    assert [name for name, _ in await said(pool)] == [f"{source.table}@{version}" for version in (1, 2, 3, 4, 5, 7)]
    assert places(source) == [(0, offset) for offset in range(6)]
    assert Tables(S3Settings()).read("data", source.owner, 3).num_rows == 3


async def test_no_more_than_a_commit_is_taken_while_a_table_is_compacted(
    stack: Stack, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compact_slowly(table: DeltaTable) -> None:
        time.sleep(1)  # in which all that there is could be taken
        compact(table)

    monkeypatch.setattr("services.ingestor.intake.compact", compact_slowly)
    spec = await parts.apply(parts.stream_spec(partitions=1))
    parts.publish(DATA.of(spec.stream), [parts.data(number) for number in range(600)])
    async with pool.acquire() as connection:
        await Store(connection).declare_stream(spec, revision=1)
    settings = Settings(commit_rows=100, compact_files=2)
    stream = Stream(kafka=KafkaSettings(), pool=pool, tables=Tables(S3Settings()), settings=settings)

    running = asyncio.create_task(stream.run())
    await asyncio.to_thread(parts.until, lambda: parts.holds("data", spec.stream, {0: 600}))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    table = Tables(S3Settings()).open("data", spec.stream)
    commits = [commit[METADATA] for _, commit in commits_since(table, 0) if METADATA in commit]
    assert max(DatasetCommitted.decode(commit.encode()).rows_added for commit in commits) < 200


async def test_of_two_that_compact_from_one_snapshot_one_fails_and_no_row_is_there_twice(source: Source) -> None:
    table = intake(source)
    table.place([0])
    for number in range(5):
        fill(table, 0, range(number, number + 1))
        table.commit()
    first, second = (Tables(S3Settings()).open("data", source.owner) for _ in range(2))

    compact(first)
    with pytest.raises(CommitFailedError):
        compact(second)

    assert places(source) == [(0, offset) for offset in range(5)]
    assert len(first.file_uris()) == 1


async def test_a_feature_declared_later_becomes_a_column(source: Source) -> None:
    table = intake(source)
    table.place([0])
    fill(table, 0, range(1))
    table.commit()

    wider = source.spec.model_copy(update={"features": source.spec.features | {"rain": BoolFeature(type="bool")}})
    table.learn(Source(kind="data", owner=source.owner, spec=wider))
    value = json.dumps(parts.data(1, features={"rain": True})).encode()
    table.add(block_of([Taken(0, 1, 0, None, value)]), now=0)
    table.cut()
    table.commit()

    tables = Tables(S3Settings())
    assert tables.read("data", source.owner, 2, ["offset", "f_rain"]).sort_by("offset")["f_rain"].to_pylist() == [
        None,
        True,
    ]
    assert tables.read("data", source.owner, 1, ["offset", "f_rain"]).column_names == ["offset"]


async def test_only_refused_records_still_move_the_table_on(source: Source, pool: asyncpg.Pool) -> None:
    table = intake(source)
    table.place([0])
    table.add(block_of([Taken(0, 0, 0, b"k", b"{")]), now=0)
    table.cut()

    table.commit()
    await Announcer(pool).announce(source.table, table.table())

    assert intake(source).place([0]) == {0: 1}
    assert await said(pool) == [(f"{source.table}@1", 0)]
    assert parts.letters(source.topic)[0, 0].value() == b"{"


@dataclass
class _Outage:
    """A way to a server that can be cut off and restored; what is under way breaks."""

    port: int
    loop: asyncio.AbstractEventLoop
    up: bool = True
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """From any thread."""
        self.up = False
        for writer in [*self.open]:
            self.loop.call_soon_threadsafe(writer.transport.abort)

    def restore(self) -> None:
        self.up = True


@asynccontextmanager
async def _way_to(address: str) -> AsyncIterator[_Outage]:
    host, port = address.rsplit(":", 1)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not way.up:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        way.open |= {writer, there_writer}
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))
        way.open -= {writer, there_writer}

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    way = _Outage(server.sockets[0].getsockname()[1], asyncio.get_running_loop())
    async with server:
        yield way


@pytest.mark.slow
@pytest.mark.parametrize("part", ["MODELBUS_S3_ENDPOINT", "MODELBUS_POSTGRES_DSN"])
async def test_an_outage_is_ridden_out_by_the_same_process(stack: Stack, tmp_path: Path, part: str) -> None:
    address = {
        "MODELBUS_S3_ENDPOINT": stack.environment["MODELBUS_S3_ENDPOINT"],
        "MODELBUS_POSTGRES_DSN": stack.environment["MODELBUS_POSTGRES_DSN"].rsplit("@", 1)[1].split("/")[0],
    }[part]
    spec = await parts.apply(parts.stream_spec(partitions=2))

    async with _way_to(address) as way:
        detour = {part: stack.environment[part].replace(address, f"127.0.0.1:{way.port}")}
        await asyncio.to_thread(_outlive, way, spec.stream, tmp_path / "log", detour)

    rows = Tables(S3Settings()).read("data", spec.stream, None, ["id"])
    assert len(set(rows["id"].to_pylist())) == rows.num_rows == 5000


def _outlive(way: _Outage, stream: str, log: Path, detour: dict[str, str]) -> None:
    """Twelve seconds without (thirty in `make chaos`); the process must not end in them."""
    topic, table = f"data.{stream}", f"data/{stream}"
    with parts.ingestor(log, **detour) as process:
        parts.publish(topic, [parts.data(number) for number in range(100)])
        parts.until(lambda: _rows_said(table) == 100)
        way.cut()
        parts.publish(topic, [parts.data(number) for number in range(100, 5000)])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(12)
        way.restore()
        parts.until(lambda: _rows_said(table) == 5000)


def _rows_said(table: str) -> int:
    return sum(event.rows_added for event in parts.committed(table).values())
