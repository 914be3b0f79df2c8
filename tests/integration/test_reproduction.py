"""`modelbus reproduce` on real parts: examples trained by the trainer's own child, made again elsewhere and later."""

import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from minio import Minio

from cli.reproduce import CHILD as REPRODUCTION
from examples.digits import scans
from examples.flights.departures import Record
from examples.weather import observations
from schemas.declarations import parse
from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Candidate, Cut
from schemas.specs import ModelSpec, StreamSpec
from services.ingestor.domain.blocks import Taken, block_of
from services.ingestor.domain.rows import read, reader_of
from services.ingestor.domain.sources import Source
from services.ingestor.housekeeping import clean
from services.trainer.app import CHILD
from services.trainer.reproduction import reproduce
from shared.child import JobFailed
from shared.jobs import Limits
from shared.objects import Objects, client_of
from shared.parent import open_child
from shared.settings import S3Settings
from shared.tables import Tables, append, compact, schema_of
from tests.unit.trainer_cases import cut_at

ROOT = Path(__file__).parents[2]
COMMITS = 6  # to a table: the first four are what a version learns from


class Example(NamedTuple):
    """A declared stream and model, and all their records."""

    stream: StreamSpec
    model: ModelSpec
    records: list[Record]


def example_of(path: str, records: Iterable[Record]) -> Example:
    stream, model = parse((ROOT / "examples" / path).read_text(), path)
    assert isinstance(stream, StreamSpec)
    assert isinstance(model, ModelSpec)
    return Example(stream, model, list(records))


def weather() -> Example:
    return example_of(
        "weather/weather.yaml",
        observations.timeline(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC)),
    )


def digits() -> Example:
    return example_of("digits/digits.yaml", scans.timeline())


def committed(s3: S3Settings, example: Example) -> Cut:
    """The records in their tables, a sixth a commit; the cut after four."""
    cut: dict[str, Any] = {}
    for kind, told in (("data", "data"), ("labels", "label")):
        mine = [record for record in example.records if record.kind == told]
        taken = [Taken(0, offset, 0, record.key.encode(), record.value) for offset, record in enumerate(mine)]
        schema = schema_of(kind, example.stream)  # type: ignore[arg-type]  # of the two literals
        reading = read(reader_of(kind, example.stream, schema), [block_of(taken)])  # type: ignore[arg-type]
        rows = reading.rows
        assert not reading.refused
        table, size = Tables(s3).ensure(kind, example.stream.stream, schema), len(rows) // COMMITS + 1  # type: ignore[arg-type]
        for number in range(COMMITS):
            append(table, rows.slice(number * size, size), {}, {})
            if number == 3:
                cut |= {f"{kind}_version": table.version(), f"{kind}_offsets": {0: 4 * size}}
                compact(table)
    return Cut(time=example.records[len(example.records) * 4 // 6].time, **cut)


def request_of(example: Example, cut: Cut) -> TrainingRequested:
    return TrainingRequested(
        model=example.model.model,
        run_id="run-1",
        reason="first",
        explanation="enough rows have matured",
        spec=example.model,
        stream_spec=example.stream,
        cut=cut,
    )


async def outcome_of(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """What the child says in the end."""
    async with open_child(module, Limits().memory_bytes) as child:
        await child.ask(request)
        async for line in child.lines():
            if "progress" not in line:
                return line
    raise AssertionError("lines end with an outcome or Crashed")


async def trained(s3: S3Settings, example: Example) -> Candidate:
    request = request_of(example, committed(s3, example))
    outcome = await outcome_of(CHILD, request.model_dump(mode="json"))
    return Candidate.model_validate(outcome["result"]["candidate"])


def recorded(candidate: Candidate) -> dict[str, Any]:
    """As `modelbus reproduce` asks, from what the registry says."""
    said = candidate.model_dump(mode="json", include={"model", "run_id", "spec", "stream_spec", "cut"})
    digests = {"onnx": candidate.onnx.digest, "reference": candidate.reference.digest}
    return {"manifest": candidate.manifest.digest, "recorded": said | {"digests": digests}, "anyway": False}


def tidied(s3: S3Settings, candidate: Candidate, *, pinned: bool) -> int:
    """All that a version or the newest rows do not need is removed, as if it were old."""
    removed, kinds = 0, {"data": candidate.cut.data_version, "labels": candidate.cut.labels_version}
    for kind, version in kinds.items():
        table = Tables(s3).open(kind, candidate.stream_spec.stream)  # type: ignore[arg-type]  # of the two literals
        source = Source(kind=kind, owner=candidate.stream_spec.stream, spec=candidate.stream_spec)  # type: ignore[arg-type]
        compact(table)
        late = datetime.now(UTC) + timedelta(minutes=1)
        removed += clean(Tables(s3), source, [version] if pinned else [], table.version(), late)
    return removed


def elsewhere(folder: Path) -> Path:
    """The code in another folder."""
    for name in ("schemas", "shared", "services"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", folder)
    return folder


@pytest.mark.parametrize("example", [weather, digits])
async def test_a_version_is_made_again_in_another_folder_after_its_tables_were_compacted_and_cleaned(
    s3: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Any
) -> None:
    candidate = await trained(s3, example())
    assert tidied(s3, candidate, pinned=True) > 0
    monkeypatch.chdir(elsewhere(tmp_path))

    outcome = await outcome_of(REPRODUCTION, recorded(candidate))

    digests = {"onnx": candidate.onnx.digest, "reference": candidate.reference.digest}
    assert outcome.keys() == {"result"}, outcome
    assert (outcome["result"]["made"], outcome["result"]["recorded"]) == (digests, digests)
    assert outcome["result"]["differences"] == []


@dataclass(frozen=True)
class Kept:
    """A version on record, and the store it lies in."""

    s3: S3Settings
    candidate: Candidate

    def refused(self, **changes: Any) -> JobFailed:
        """What `reproduce` says when the registry records it so."""
        request = recorded(self.candidate)
        request["recorded"] |= changes
        with pytest.raises(JobFailed) as failed:
            reproduce(request, lambda _: None)
        return failed.value

    def data_file(self) -> str:
        """The key of one of its data files."""
        stream, version = self.candidate.stream_spec.stream, self.candidate.cut.data_version
        uris = Tables(self.s3).open("data", stream, version).file_uris()
        return min(uris).removeprefix(f"s3://{self.s3.bucket}/")

    @contextmanager
    def holding(self, key: str, change: Callable[[bytes], bytes] | None) -> Iterator[None]:
        """Other bytes under a key, or none, for a while."""
        client, bucket = client_of(self.s3), self.s3.bucket
        before = client.get_object(bucket_name=bucket, object_name=key).read()
        if change is None:
            client.remove_object(bucket_name=bucket, object_name=key)
        else:
            _put(client, bucket, key, change(before))
        try:
            yield
        finally:
            _put(client, bucket, key, before)


def _put(client: Minio, bucket: str, key: str, data: bytes) -> None:
    client.put_object(bucket_name=bucket, object_name=key, data=io.BytesIO(data), length=len(data))


@pytest.fixture(scope="module")
async def kept(s3: S3Settings) -> Kept:
    """A small version, on a stream of its own."""
    whole = digits()
    stream = whole.stream.model_copy(update={"stream": "kept"})
    training = whole.model.training.model_copy(update={"trials": 1})
    model = whole.model.model_copy(update={"stream": "kept", "training": training})
    return Kept(s3, await trained(s3, Example(stream, model, whole.records)))


def key_of(digest: str) -> str:
    return f"artifacts/{digest.replace(':', '/')}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "run-2"),
        ("model", "another"),
        ("digests", {"onnx": f"sha256:{'0' * 64}", "reference": f"sha256:{'0' * 64}"}),
        ("cut", cut_at().model_dump(mode="json")),
    ],
)
def test_a_registry_row_that_says_otherwise_than_the_manifest_is_refused(kept: Kept, field: str, value: Any) -> None:
    failed = kept.refused(**{field: value})

    assert failed.reason == "altered"
    assert f"expected the {field} of manifest" in failed.explanation


def test_a_manifest_with_one_other_byte_is_refused(kept: Kept) -> None:
    with kept.holding(key_of(kept.candidate.manifest.digest), lambda data: data.replace(b"7", b"8", 1)):
        failed = kept.refused()

    assert failed.reason == "altered"


def test_a_manifest_that_is_gone_is_refused(kept: Kept) -> None:
    with kept.holding(key_of(kept.candidate.manifest.digest), None):
        failed = kept.refused()

    assert failed.reason == "expired"


def test_rows_that_are_not_those_that_were_learned_from_are_refused(kept: Kept) -> None:
    with kept.holding(kept.data_file(), darker):
        failed = kept.refused()

    assert failed.reason == "altered"
    assert failed.explanation.startswith("expected the rows sha256:")


def darker(data: bytes) -> bytes:
    """The same rows, one pixel aside, in a file of the same length."""
    rows = pq.read_table(io.BytesIO(data))
    pixels = rows["f_p33"].to_pylist()
    changed = rows.set_column(
        rows.schema.get_field_index("f_p33"), "f_p33", pa.array([(pixels[0] + 1) % 17, *pixels[1:]])
    )
    sink = io.BytesIO()
    pq.write_table(changed, sink, compression="zstd", compression_level=20, write_statistics=False)
    written = sink.getvalue()
    footer = len(written) - 8 - int.from_bytes(written[-8:-4], "little")
    assert len(written) <= len(data)
    return written[:footer] + bytes(len(data) - len(written)) + written[footer:]


@pytest.mark.parametrize("change", [lambda data: data[:-100], lambda data: b"x" * len(data)])
def test_a_data_file_that_is_no_longer_one_is_refused(kept: Kept, change: Callable[[bytes], bytes]) -> None:
    with kept.holding(kept.data_file(), change):
        failed = kept.refused()

    assert failed.reason == "altered"


def test_a_data_file_that_is_gone_is_refused(kept: Kept) -> None:
    with kept.holding(kept.data_file(), None):
        failed = kept.refused()

    assert failed.reason == "expired"


async def test_an_environment_that_differs_is_refused_with_all_that_differs(kept: Kept) -> None:
    manifest = json.loads(await Objects(kept.s3).get(kept.candidate.manifest.digest))
    manifest |= {
        "python": "2.7.18",
        "blas": "none",
        "lock_hash": "0",
        "libraries": manifest["libraries"] | {"numpy": "1"},
    }
    stored = await Objects(kept.s3).put(json.dumps(manifest).encode())

    with pytest.raises(JobFailed) as failed:
        reproduce(recorded(kept.candidate) | {"manifest": stored.digest}, lambda _: None)

    assert failed.value.reason == "environment"
    for word in (
        "python: recorded 2.7.18, here",
        "blas: recorded none, here",
        "lock_hash: recorded 0",
        "numpy: recorded 1, here",
    ):
        assert word in failed.value.explanation


def test_a_version_whose_tables_nobody_pinned_expires(kept: Kept) -> None:
    assert tidied(kept.s3, kept.candidate, pinned=False) > 0

    assert kept.refused().reason == "expired"
