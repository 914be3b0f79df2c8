"""A stream while it is read: its declaration grows, and a record comes that nobody outlives."""

import signal
from pathlib import Path

import pytest

from compose.embedded.stack import Stack
from schemas.specs import CategoryFeature
from services.ingestor.app import MIGRATIONS
from services.ingestor.store import Store
from shared.settings import S3Settings
from shared.tables import Tables
from tests.conftest import PoolFor
from tests.integration import ingestor_parts as parts

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FAULT = """
import os, signal, msgspec

class Decoder:
    def __init__(self, *arguments):
        self._sound = sound(*arguments)

    def decode(self, value):
        if b"deadly" in value:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._sound.decode(value)

sound, msgspec.json.Decoder = msgspec.json.Decoder, Decoder
"""  # on a process's path, a record that says `deadly` ends it while it is decoded, as a fault in native code would


async def test_a_feature_that_is_added_while_the_stream_is_read_is_missing_before_and_pinned_versions_read_equal(
    stack: Stack, tmp_path: Path
) -> None:
    spec = await parts.apply(parts.stream_spec(partitions=2))
    topic, tables = f"data.{spec.stream}", Tables(S3Settings())
    rain = {"rain": CategoryFeature(type="category", values=("none", "much"))}
    wider = spec.model_copy(update={"features": rain | spec.features})  # declared before the others

    with parts.ingestor(tmp_path / "log"):
        parts.publish(topic, [parts.data(number) for number in range(50)])
        parts.until(lambda: parts.holds("data", spec.stream, parts.ends(topic, 2)))
        pinned = tables.open("data", spec.stream).version()
        before = tables.read("data", spec.stream, pinned).sort_by("id")
        await parts.apply(wider, revision=2)
        parts.until(lambda: _accepts_rain(topic, spec.stream, tables))

    rows = tables.read("data", spec.stream, None)
    raining = rows.filter(rows["f_rain"].is_valid())
    assert rows.num_rows == 50 + raining.num_rows
    assert rows.filter(rows["f_rain"].is_null()).select(before.column_names).sort_by("id").equals(before)
    assert set(raining["f_rain"].to_pylist()) == {"much"}
    assert tables.read("data", spec.stream, pinned).sort_by("id").equals(before)


def _accepts_rain(topic: str, stream: str, tables: Tables) -> bool:
    """The same process goes by the new declaration within moments; until then it parks such records."""
    wet = parts.data(1000, features={"rain": "much", "distance": 7.0})
    parts.publish(topic, [wet])
    parts.until(lambda: parts.holds("data", stream, parts.ends(topic, 2)))
    rows = tables.read("data", stream, None)  # the column may be there before a record with it is accepted
    return "f_rain" in rows.column_names and rows["f_rain"].null_count < rows.num_rows


async def test_only_other_lives_that_ended_over_the_same_start_are_counted(pool_for: PoolFor) -> None:
    pool = await pool_for("ingestor_attempts", [MIGRATIONS])

    async with pool.acquire() as connection:
        store = Store(connection)
        counted = [
            await store.attempt("data.x", {0: 5, 1: 7}, life)
            for life in ("first", "first", "second", "third")  # an attempt that is repeated is no death
        ]
        await store.survived("data.x", "third")
        counted += [await store.attempt("data.x", {0: 5}, "fourth"), await store.attempt("data.x", {0: 6}, "fifth")]

    assert counted == [0, 0, 1, 2, 2, 0]


async def test_a_record_that_ends_its_process_again_and_again_is_parked_and_all_others_become_rows(
    stack: Stack, tmp_path: Path
) -> None:
    spec = await parts.apply(parts.stream_spec(partitions=2))
    topic, log = f"data.{spec.stream}", tmp_path / "log"
    records = [parts.data(number) for number in range(40)]
    records[7]["id"], records[31]["id"] = "deadly-é-7", "deadly-é-31"  # not plain: so it is the decoder that reads them
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    deadly = {"PYTHONPATH": str(tmp_path)}

    process = parts.spawn(log, **deadly)  # reads as it takes once it has committed: then its end leaves no trace
    parts.publish(topic, records[:5])
    parts.until(lambda: parts.holds("data", spec.stream, parts.ends(topic, 2)))
    parts.publish(topic, records[5:])
    ends = parts.ends(topic, 2)
    assert process.wait(60) == -signal.SIGKILL, log.read_text()
    for _ in range(2):
        process = parts.spawn(log, **deadly)
        assert process.wait(60) == -signal.SIGKILL, log.read_text()
    with parts.ingestor(log, **deadly):
        parts.until(lambda: parts.holds("data", spec.stream, ends))

    rows = Tables(S3Settings()).read("data", spec.stream, None, ["id"])["id"].to_pylist()
    assert sorted(rows) == sorted(record["id"] for record in records if "deadly" not in record["id"])
    letters = [dict(letter.headers()) | {"value": letter.value()} for letter in parts.letters(topic).values()]
    assert len(letters) == 2
    assert all(b"deadly" in letter["value"] for letter in letters)
    assert {(letter["dlq-reason"], letter["dlq-attempts"]) for letter in letters} == {(b"exhausted", b"3")}
