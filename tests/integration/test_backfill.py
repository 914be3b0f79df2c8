"""`modelbus backfill`: Parquet in, records out in time order; a wrong file is refused before anything is sent."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from cli import backfill
from compose.embedded.stack import Stack
from schemas.specs import StreamSpec
from tests.integration import ingestor_parts as parts

pytestmark = pytest.mark.stack
ROWS = 500


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(backfill.backfill)
    return app


@pytest.fixture
async def spec(stack: Stack) -> StreamSpec:
    return await parts.apply(parts.stream_spec(partitions=2))


def columns(rows: int = ROWS) -> dict[str, Any]:
    return {
        "id": [f"e{number}" for number in range(rows)],
        "entity": [f"N{number % 7}" for number in range(rows)],
        "time": pa.array([parts.START + timedelta(hours=number) for number in range(rows)], pa.timestamp("us", "UTC")),
    }


def data_file(folder: Path, **changes: Any) -> Path:
    features = {
        "distance": [float(number) for number in range(ROWS)],
        "carrier": pa.array(["UA"] * ROWS).dictionary_encode(),
    }
    path = folder / "data.parquet"
    pq.write_table(pa.table(columns() | features | changes), path, row_group_size=100)
    return path


def label_file(folder: Path) -> Path:
    late = later(columns()["time"], timedelta(minutes=30))
    path = folder / "labels.parquet"
    pq.write_table(pa.table(columns() | {"time": late, "label": [True] * ROWS}), path)
    return path


def later(times: pa.Array, span: timedelta) -> pa.Array:
    return pa.array([time + span for time in times.to_pylist()], pa.timestamp("us", "UTC"))


def sent(topic: str) -> list[dict[str, Any]]:
    """Records of a topic in order of time, keyed as they must be."""
    messages = parts.everything(topic, 2)
    records = [json.loads(message.value()) for message in messages]
    assert [message.key().decode() for message in messages] == [record["entity"] for record in records]
    return sorted(records, key=lambda record: str(record["time"]))


def test_each_row_becomes_a_record_that_the_ingestor_accepts(
    spec: StreamSpec, command: typer.Typer, tmp_path: Path
) -> None:
    arguments = [spec.stream, str(data_file(tmp_path)), "--labels", str(label_file(tmp_path))]

    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 0, result.output
    with parts.ingestor(tmp_path / "log"):
        parts.until(lambda: parts.holds("data", spec.stream, parts.ends(f"data.{spec.stream}", 2)))
        parts.until(lambda: parts.holds("labels", spec.stream, parts.ends(f"labels.{spec.stream}", 2)))
    data, labels = (parts.newest(kind, spec.stream) for kind in ("data", "labels"))
    assert data is not None
    assert labels is not None
    assert (data.count(), labels.count()) == (ROWS, ROWS)
    assert parts.letters(f"data.{spec.stream}") == {}


def test_rows_of_an_unsorted_file_are_sent_in_time_order_by_partition(
    spec: StreamSpec, command: typer.Typer, tmp_path: Path
) -> None:
    table = pq.read_table(data_file(tmp_path))
    pq.write_table(table.take(list(range(ROWS - 1, -1, -1))), tmp_path / "reversed.parquet")

    result = CliRunner().invoke(command, [spec.stream, str(tmp_path / "reversed.parquet")])

    assert result.exit_code == 0, result.output
    for partition in range(2):
        times = [
            json.loads(message.value())["time"]
            for message in parts.everything(f"data.{spec.stream}", 2)
            if message.partition() == partition
        ]
        assert times == sorted(times)


def test_a_run_goes_on_from_a_row(spec: StreamSpec, command: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [spec.stream, str(data_file(tmp_path)), "--start-row", "490"])

    assert result.exit_code == 0, result.output
    assert [record["id"] for record in sent(f"data.{spec.stream}")] == [f"e{number}" for number in range(490, 500)]


def test_nan_and_null_are_both_missing(spec: StreamSpec, command: typer.Typer, tmp_path: Path) -> None:
    path = data_file(tmp_path, distance=[float("nan"), None] * (ROWS // 2))

    result = CliRunner().invoke(command, [spec.stream, str(path)])

    assert result.exit_code == 0, result.output
    assert {record["features"]["distance"] for record in sent(f"data.{spec.stream}")} == {None}


def test_nanoseconds_are_cut_and_infinity_is_refused(spec: StreamSpec, command: typer.Typer, tmp_path: Path) -> None:
    fine = columns()["time"].cast(pa.timestamp("ns", "Europe/Paris"))
    nanoseconds = pa.array([time.value + 1 for time in fine.to_pylist()]).cast(fine.type)

    cut = CliRunner().invoke(command, [spec.stream, str(data_file(tmp_path, time=nanoseconds))])
    infinite = CliRunner().invoke(
        command, [spec.stream, str(data_file(tmp_path, distance=[float("inf")] * ROWS)), "--start-row", "499"]
    )

    assert cut.exit_code == 0, cut.output
    assert sent(f"data.{spec.stream}")[0]["time"] == "2013-01-01T00:00:00Z"
    assert infinite.exit_code == 1
    assert (
        "expected a finite number, got inf: 499 rows were acknowledged; go on with --start-row 499" in infinite.output
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"time": ["2013-01-01T00:00:00Z"] * ROWS}, "time: expected timestamps with a time zone, got string"),
        ({"time": pa.array([0] * ROWS, pa.timestamp("us"))}, "time: expected timestamps with a time zone"),
        ({"entity": list(range(ROWS))}, "entity: expected strings, got int64"),
        ({"carrier": [["UA"]] * ROWS}, "carrier: expected numbers, strings or bools, got list"),
        ({"id": [*(f"e{number}" for number in range(ROWS - 1)), None]}, "row 499: id: expected a value, got null"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_before_anything_is_sent(
    spec: StreamSpec, command: typer.Typer, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    result = CliRunner().invoke(command, [spec.stream, str(data_file(tmp_path, **changes))])

    assert result.exit_code == 1
    assert complaint in result.output
    assert sent(f"data.{spec.stream}") == []


def test_missing_columns_and_streams_are_named(spec: StreamSpec, command: typer.Typer, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["e1"]}), tmp_path / "narrow.parquet")

    narrow = CliRunner().invoke(command, [spec.stream, str(tmp_path / "narrow.parquet")])
    nowhere = CliRunner().invoke(command, ["no-such-stream", str(data_file(tmp_path))])
    no_file = CliRunner().invoke(command, [spec.stream, str(tmp_path / "nothing.parquet")])

    assert "entity, time missing" in narrow.output
    assert "stream 'no-such-stream' is not applied" in nowhere.output
    assert "nothing.parquet" in no_file.output
    assert {narrow.exit_code, nowhere.exit_code, no_file.exit_code} == {1}
