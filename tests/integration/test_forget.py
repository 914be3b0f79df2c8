"""`modelbus forget` on real parts: an entity is gone from all that is kept, whoever dies, and nothing else is."""

import asyncio
import io
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from cli.main import app as modelbus
from compose.embedded.stack import Stack
from schemas.declarations import parse
from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.ingestor import Kind
from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Candidate, Cut, Gate
from schemas.events.trainer import ModelTrained
from schemas.events.validator import ModelValidated
from schemas.specs import ModelSpec, StreamSpec
from schemas.topics import DATA, DEAD_LETTERS, LABELS, LIFECYCLE, TOPIC_OF
from services.ingestor.domain.sources import Source
from services.ingestor.housekeeping import clean
from services.registry.app import opened
from services.trainer.jobs import train
from services.trainer.provenance import provenance
from shared import postgres
from shared.objects import client_of
from shared.reading import Reader
from shared.settings import KafkaSettings, PostgresSettings, S3Settings
from shared.tables import Tables, compact
from tests.conftest import own_stack  # noqa: F401  # it is this file's stack
from tests.integration import ingestor_parts as parts

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
HER, HIM = "N14228-anna", "N14229-otto"
KINDS: tuple[Kind, ...] = ("data", "labels")
LATER = 300  # records until somebody is heard of for the first time
DECLARED = """\
stream: flights
entity: tailnum
partitions: 2
features:
  distance: {type: float, min: 0, max: 5000, on_range: reject}
  delay: {type: float}
label: {type: bool, delay: 8h}
---
model: late
stream: flights
owner: ops-team
task: binary
features: [distance, delay]
training: {window: 60d, min_rows: 100, estimators: [logistic_regression], trials: 1}
"""


def records(start: int, end: int, entity: str | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Data and labels; of this entity one in ten, and one in a hundred that no contract allows."""
    features = {n: {"distance": 100.0 + n * 37 % 900, "delay": float(n % 7)} for n in range(start, end)}
    data = [parts.data(n, features=features[n], **_who(n, entity)) for n in range(start, end)]
    labels = [
        {**{name: each[name] for name in ("id", "entity")}, "time": _time(n), "label": n * 37 % 900 > 450}
        for n, each in zip(range(start, end), data, strict=True)
    ]
    for n in range(start + 50, end, 100):
        data.append(parts.data(n, id=f"far{n}", features={"distance": 9e9}, **_who(start + 3 if entity else n, entity)))
    return data, labels


def _who(n: int, entity: str | None) -> dict[str, str]:
    return {"entity": entity} if entity and n % 10 == 3 else {}


def _time(n: int) -> str:
    return (parts.START + timedelta(minutes=n)).isoformat()


def publish(start: int, end: int, entity: str | None = None) -> list[dict[str, Any]]:
    data, labels = records(start, end, entity)
    parts.publish(DATA.of("flights"), data)
    parts.publish(LABELS.of("flights"), labels)
    return data


def said_by(event: Event) -> None:
    """As its service says it."""
    topic = TOPIC_OF[type(event)]
    said = Envelope(id=str(uuid.uuid4()), source=f"modelbus/{topic.writer}", time=datetime.now(UTC),
                    correlation_id="test", causation_id=None, traceparent=None, event=event)  # fmt: skip
    writer = parts.producer()
    writer.produce(topic.name, key=event.key, value=event.encode(), headers=[*said.headers()])
    assert writer.flush(30) == 0


def run(*arguments: str, **environment: str) -> Result:
    runner = CliRunner(env={"COLUMNS": "200", **environment})
    return runner.invoke(modelbus, arguments, catch_exceptions=False)


@dataclass
class World:
    """A registry in this process, an ingestor in its own that can be killed, and two versions of a model."""

    log: Path
    pool: asyncpg.Pool
    published: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[int, Candidate] = field(default_factory=dict)
    ingestor: Any = None

    def begin(self) -> None:
        self.ingestor = parts.spawn(self.log, MODELBUS_INGESTOR_COMPACT_FILES="3")

    def kill(self) -> None:
        self.ingestor.kill()
        self.ingestor.wait()

    def hold(self) -> None:
        """Until the tables hold all that was published."""
        for kind in KINDS:
            ends = parts.ends(f"{kind}.flights", 2)
            parts.until(lambda kind=kind, ends=ends: parts.holds(kind, "flights", ends))

    async def train(self, number: int) -> None:
        """A version of all that has been published, registered by the registry as if it had passed the gates."""
        versions = {kind: Tables(S3Settings()).open(kind, "flights").version() for kind in KINDS}
        cut = Cut(time=parts.START + timedelta(days=2), data_version=versions["data"],
                  labels_version=versions["labels"], data_offsets=parts.ends("data.flights", 2),
                  labels_offsets=parts.ends("labels.flights", 2))  # fmt: skip
        stream, model = parse(DECLARED, "declared")
        assert isinstance(stream, StreamSpec)
        assert isinstance(model, ModelSpec)
        asked = TrainingRequested(model="late", run_id=f"run-{number}", reason="first", explanation="enough rows",
                                  spec=model, stream_spec=stream, cut=cut)  # fmt: skip
        made = await asyncio.to_thread(train, asked.model_dump(mode="json"), lambda _: None, provenance())
        candidate = self.versions[number] = Candidate.model_validate(made["candidate"])
        gate = Gate(name="roc_auc", value=0.9, threshold=0.8, verdict="passed", reason="0.9 ≥ 0.8")
        named = {"model": "late", "run_id": asked.run_id, "candidate": candidate}
        said_by(ModelTrained(**named, fit_seconds=1, run_seconds=1))
        said_by(ModelValidated(**named, gates=(gate,), report=candidate.manifest))
        query = "SELECT 1 FROM ingestor.pin WHERE version = $1"
        await found(lambda: self.pool.fetchval(query, number))

    def rows(self, kind: Kind) -> list[dict[str, Any]]:
        read: list[dict[str, Any]] = Tables(S3Settings()).read(kind, "flights", None, ["id", "entity"]).to_pylist()
        return read

    def accepted(self, *without: str) -> Counter[str]:
        """Ids of what was published and fits, but for these entities' records."""
        good = [each for each in self.published if not each["id"].startswith("far")]
        return Counter(each["id"] for each in good if each["entity"] not in without)


async def found(look: Any, seconds: float = 60) -> Any:
    async with asyncio.timeout(seconds):
        while True:
            if there := await look():
                return there
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
async def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("forget")
    (folder / "declared.yaml").write_text(DECLARED)
    async with opened(), postgres.open_pool(PostgresSettings(), "ingestor") as pool:
        made = World(log=folder / "ingestor.log", pool=pool)
        applied = await asyncio.to_thread(run, "apply", str(folder / "declared.yaml"))
        assert applied.exit_code == 0, applied.output
        made.begin()
        try:
            made.published += await asyncio.to_thread(publish, 0, LATER)
            await asyncio.to_thread(made.hold)
            await made.train(1)
            for start in range(LATER, 2 * LATER, 100):  # several commits, some of them compacted
                made.published += await asyncio.to_thread(publish, start, start + 100, HER)
                await asyncio.to_thread(made.hold)
            made.published += await asyncio.to_thread(publish, 600, 660, HIM)
            await asyncio.to_thread(made.hold)
            await made.train(2)
            yield made
        finally:
            made.kill()


def everything_kept() -> Iterator[tuple[str, str]]:
    """Every object of the bucket as text, its name beside; Parquet column by column, statistics and all."""
    settings = S3Settings()
    client = client_of(settings)
    for each in client.list_objects(bucket_name=settings.bucket, recursive=True):
        data = client.get_object(bucket_name=settings.bucket, object_name=each.object_name).read()
        if each.object_name.endswith(".parquet"):
            file = pq.ParquetFile(io.BytesIO(data))
            groups = [file.metadata.row_group(number).to_dict() for number in range(file.num_row_groups)]
            yield each.object_name, f"{file.read().to_pylist()} {groups}"
        else:
            yield each.object_name, data.decode(errors="replace")


def objects_naming(entity: str) -> list[str]:
    return [name for name, text in everything_kept() if entity in text]


async def tables_naming(entity: str, pool: asyncpg.Pool) -> list[str]:
    """Of both services' databases."""
    query = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('ingestor', 'registry')"
    holds = "SELECT 1 FROM {} t WHERE strpos(t::text, $1) > 0"
    names = [row[0] for row in await pool.fetch(query)]
    return [name for name in names if await pool.fetchval(holds.format(name), entity)]


def topics_naming(entity: str) -> list[str]:
    """Of those that are kept for ever."""
    with Reader(KafkaSettings(), "test") as reader:
        return [
            topic
            for topic in (*(each.name for each in LIFECYCLE), DEAD_LETTERS)
            for partition, span in reader.spans(topic).items()
            for message in chain.from_iterable(reader.read(topic, partition, *span))
            if entity.encode() in (message.key() or b"") + (message.value() or b"") + str(message.headers()).encode()
        ]


def versions_free(kind: Kind) -> set[int] | None:
    """Those that a late writer would not find taken: it would take a commit for made that nobody ever reads."""
    tables = Tables(S3Settings())
    there = {int(name[11:31]) for name in tables.stored(kind, "flights") if name.endswith(".json")}
    return set(range(tables.open(kind, "flights").version() + 1)) - there or None


async def test_without_the_role_without_a_reason_or_of_nobody_nothing_is_forgotten(world: World) -> None:
    before = await asyncio.to_thread(objects_naming, HER)

    nobody = await asyncio.to_thread(run, "forget", "N0-nobody", "-r", "asked", "--yes")
    nowhere = await asyncio.to_thread(run, "forget", HER, "-r", "asked", "--yes", "--stream", "trains")
    why = await asyncio.to_thread(run, "forget", HER, "--yes")
    named = await asyncio.to_thread(run, "forget", HER, "-r", f"{HER} asked", "--yes")
    operator = {"MODELBUS_REGISTRY_APPROVER_TOKEN": os.environ["MODELBUS_REGISTRY_OPERATOR_TOKEN"]}
    role = await asyncio.to_thread(lambda: run("forget", HER, "-r", "asked", "--yes", **operator))
    asked = await asyncio.to_thread(run, "forget", HER, "-r", "asked")

    assert {each.exit_code for each in (nobody, nowhere, why, named, role, asked)} == {1}
    assert "nothing is kept of 'N0-nobody'" in nobody.stderr
    assert "stream 'trains' is not declared; expected one of flights" in nowhere.stderr
    assert "expected --reason" in why.stderr
    assert "does not name the entity" in named.stderr
    assert "approver" in role.stderr
    assert "Erase it for good?" in asked.output
    assert await asyncio.to_thread(objects_naming, HER) == before
    assert await world.pool.fetchval("SELECT count(*) FROM registry.erasure") == 0


async def test_what_would_go_is_said_before(world: World) -> None:
    told = await asyncio.to_thread(run, "forget", HER, "--dry-run")

    assert told.exit_code == 0, told.output
    assert "data/flights: 30 rows in " in told.output
    assert "labels/flights: 30 rows in " in told.output
    assert "dead letters: 3\n" in told.output
    assert "no longer reproducible bit for bit: late:2\n" in told.output
    assert told.output.count("not erased: ") == 2
    assert await asyncio.to_thread(topics_naming, HER) != []


async def test_an_entity_is_gone_from_all_that_is_kept_and_the_receipt_says_what_is_left(world: World) -> None:
    labels = len(world.rows("labels"))
    letters = await asyncio.to_thread(parts.letters, DATA.of("flights"))
    began = datetime.now(UTC)

    done = await asyncio.to_thread(run, "forget", HER, "--reason", "she asked", "--yes", "--stream", "flights")

    assert done.exit_code == 0, done.output
    assert await asyncio.to_thread(objects_naming, HER) == []
    assert await asyncio.to_thread(topics_naming, HER) == []
    assert await tables_naming(HER, world.pool) == []
    assert Counter(row["id"] for row in world.rows("data")) == world.accepted(HER)
    assert len(world.rows("labels")) == labels - 30
    assert [versions_free(kind) for kind in KINDS] == [None, None]
    stayed = await asyncio.to_thread(parts.letters, DATA.of("flights"))
    assert stayed.keys() == {place for place, letter in letters.items() if letter.key() != HER.encode()}
    receipt = json.loads(done.stdout[done.stdout.index("{") :])
    told = receipt["told"]
    assert {each["table"]: each["rows"] for each in told["tables"]} == {"data/flights": 30, "labels/flights": 30}
    assert all(each["files"] >= 1 for each in told["tables"])
    assert (told["letters"], told["affected"]) == (3, [{"model": "late", "version": 2}])
    expiries = {each["topic"]: datetime.fromisoformat(each["expires_at"]) for each in told["remaining"]}
    assert expiries.keys() == {"data.flights", "labels.flights"}
    week = timedelta(days=7)  # the broker's own retention, and how long a segment is open
    assert all(began + 2 * week - timedelta(minutes=5) < at < began + 2 * week + timedelta(minutes=7)
               for at in expiries.values())  # fmt: skip
    assert json.loads(receipt["proof"])["entity"] == HER
    listed = await asyncio.to_thread(run, "erasures", receipt["receipt"])
    assert json.loads(listed.output) == {name: value for name, value in receipt.items() if name != "proof"}


async def test_the_record_says_so_can_be_made_again_and_its_chain_holds(world: World) -> None:
    rows = await world.pool.fetch(
        "SELECT actor, action, subject, reason FROM registry.audit ORDER BY position DESC LIMIT 2"
    )
    verified = await asyncio.to_thread(run, "audit", "verify")
    again = await asyncio.to_thread(run, "registry", "check")

    assert [row["action"] for row in rows] == ["entity.erased", "forget"]
    assert {(row["subject"], row["reason"]) for row in rows} == {("an entity", "she asked")}
    assert verified.exit_code == 0, verified.output
    assert again.exit_code == 0, again.output


async def test_a_version_that_saw_its_rows_is_not_made_again_and_one_that_did_not_is_bit_for_bit(world: World) -> None:
    for kind in KINDS:
        pinned = {getattr(candidate.cut, f"{kind}_version") for candidate in world.versions.values()}
        await asyncio.to_thread(tidied, kind, pinned)

    saw = await asyncio.to_thread(run, "reproduce", "late:2")
    before = await asyncio.to_thread(run, "reproduce", "late:1")

    assert saw.exit_code == 1
    assert "was not made again (erased): rows that it learned from are gone for good, by erasure sha256:" in saw.stderr
    assert before.exit_code == 0, before.output
    assert "late:1 is reproduced, bit for bit" in before.output


def tidied(kind: Kind, pinned: set[int]) -> None:
    """As the ingestor does when all is old."""
    stream, _ = parse(DECLARED, "declared")
    assert isinstance(stream, StreamSpec)
    tables, late = Tables(S3Settings()), datetime.now(UTC) + timedelta(minutes=1)
    compact(tables.open(kind, "flights"))
    newest = tables.open(kind, "flights").version()
    clean(tables, Source(kind=kind, owner="flights", spec=stream), pinned, newest, late)


async def test_what_comes_of_it_later_is_taken_as_usual(world: World) -> None:
    world.published += await asyncio.to_thread(publish, 700, 720, HER)
    await asyncio.to_thread(world.hold)

    assert Counter(row["id"] for row in world.rows("data") if row["entity"] == HER) == Counter(["e703", "e713"])


async def test_an_erasure_goes_on_after_a_kill_while_others_records_are_taken_exactly_once(world: World) -> None:
    superseded = parts.newest("data", "flights").version()  # type: ignore[union-attr]  # it is there

    with feeding(world):
        done = asyncio.create_task(asyncio.to_thread(run, "forget", HIM, "--reason", "he asked", "--yes"))
        await found(lambda: asyncio.to_thread(is_superseded, superseded))
        world.kill()  # the first table is rewritten, and not yet or not wholly purged; the other is whole
        assert await world.pool.fetchval("SELECT NOT said FROM erasure")
        world.begin()
        result = await done
    await asyncio.to_thread(world.hold)

    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout[result.stdout.index("{") :])["told"]
    assert {each["table"]: each["rows"] for each in told["tables"]} == {"data/flights": 6, "labels/flights": 6}
    assert told["letters"] == 1
    assert await asyncio.to_thread(objects_naming, HIM) == []
    assert await asyncio.to_thread(topics_naming, HIM) == []
    assert await tables_naming(HIM, world.pool) == []
    kept = world.accepted(HIM) - Counter(each["id"] for each in world.published if each["entity"] == HER)
    assert Counter(row["id"] for row in world.rows("data") if row["entity"] != HER) == kept


def is_superseded(version: int) -> bool:
    table = parts.newest("data", "flights")
    return table is not None and int((table.metadata().configuration or {}).get("modelbus.erased", 0)) > version


@contextmanager
def feeding(world: World) -> Iterator[None]:
    """Records of others, all the time."""
    over, writer = threading.Event(), parts.producer()

    def feed() -> None:
        for start in range(10_000, 100_000, 20):
            if over.wait(0.2):
                break
            data, _ = records(start, start + 20)
            for each in data:
                writer.produce(DATA.of("flights"), key=each["entity"], value=json.dumps(each).encode())
            world.published += data
        assert writer.flush(30) == 0

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
