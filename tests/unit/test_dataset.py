"""Reading the rows of a cut: nothing of the future, nothing twice, always in one order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.events.parts import Cut, Span
from schemas.specs import ModelSpec, StreamSpec
from shared.dataset import Dataset, read_dataset, time_split
from shared.matrix import Matrix

START = datetime(2013, 1, 1, tzinfo=UTC)
STREAM = StreamSpec.model_validate(
    {
        "stream": "s",
        "entity": "e",
        "features": {"x": {"type": "float"}, "c": {"type": "category", "values": ["a", "b"]}},
        "label": {"type": "bool", "delay": "1h"},
    }
)
MODEL = ModelSpec.model_validate(
    {
        "model": "m",
        "stream": "s",
        "owner": "o",
        "task": "binary",
        "features": ["x"],
        "training": {"window": "10h", "min_rows": 100, "estimators": ["logistic_regression"]},
    }
)
CUT = Cut(
    time=START + timedelta(hours=20),
    data_version=3,
    labels_version=4,
    data_offsets={0: 100},
    labels_offsets={0: 100},
)


class Pinned:
    """Tables in memory, which know the version they are asked for."""

    def __init__(self, data: pa.Table, labels: pa.Table) -> None:
        self.tables = {("data", 3): data, ("labels", 4): labels}

    def read(self, kind: Any, owner: str, version: Any = None, columns: Any = None, filters: Any = None) -> pa.Table:
        return self.tables[kind, version]


def data_of(*rows: tuple[str, float, int]) -> pa.Table:
    """(id, hour, offset); `x` is the offset, so that a row can be told from its repeat."""
    return pa.table(
        {
            "id": [row[0] for row in rows],
            "entity": ["n1"] * len(rows),
            "time": pa.array([START + timedelta(hours=row[1]) for row in rows], pa.timestamp("us", "UTC")),
            "partition": pa.array([0] * len(rows), pa.int32()),
            "offset": pa.array([row[2] for row in rows], pa.int64()),
            "f_x": [float(row[2]) for row in rows],
            "f_c": ["b" if row[2] % 2 else "a" for row in rows],
        }
    )


def labels_of(*rows: tuple[str, float, int, bool]) -> pa.Table:
    table = data_of(*(row[:3] for row in rows)).select(["id", "entity", "time", "partition", "offset"])
    return table.append_column("label", pa.array([row[3] for row in rows]))


def read(data: pa.Table, labels: pa.Table, *quarantined: Span) -> Any:
    return read_dataset(Pinned(data, labels), MODEL, STREAM, CUT, quarantined)


def test_rows_outside_the_window_are_left_out_and_its_last_instant_is_in() -> None:
    data = data_of(("old", 10, 0), ("in", 10.1, 1), ("last", 20, 2), ("future", 20.1, 3))

    got = read(data, labels_of(*((name, 11, 0, True) for name in ("old", "in", "last", "future"))))

    assert got.ids == ["in", "last"]


def test_a_label_that_became_known_after_the_cut_is_not_seen() -> None:
    got = read(data_of(("a", 12, 0), ("b", 13, 1)), labels_of(("a", 21, 0, True), ("b", 14, 1, False)))

    assert got.ids == ["b"]
    assert got.labels.tolist() == [0.0]


def test_records_at_or_behind_the_offsets_of_the_cut_are_not_seen() -> None:
    got = read(data_of(("a", 12, 99), ("b", 13, 100)), labels_of(("a", 14, 99, True), ("b", 14, 98, True)))

    assert got.ids == ["a"]


def test_of_a_repeated_id_the_first_by_time_then_offset_counts() -> None:
    data = data_of(("a", 13, 5), ("a", 12, 9), ("a", 12, 7))

    got = read(data, labels_of(("a", 16, 1, False), ("a", 15, 2, True)))

    assert got.matrix[:, 0].tolist() == [7.0]
    assert got.labels.tolist() == [1.0]


def test_rows_come_in_canonical_order_whatever_the_order_of_the_table() -> None:
    rows = [(str(number), 11 + number % 4, number) for number in range(40)]
    labels = labels_of(*((name, 15, offset, offset % 3 == 0) for name, _, offset in rows))

    one, other = read(data_of(*rows), labels), read(data_of(*reversed(rows)), labels)

    assert one.ids == other.ids
    assert one.labels.tolist() == other.labels.tolist()
    assert (np.diff(one.times) >= np.timedelta64(0)).all()


def test_quarantined_spans_are_out_from_their_start_until_before_their_end() -> None:
    data = data_of(("a", 12, 0), ("b", 13, 1), ("c", 14, 2))
    span = Span(start=START + timedelta(hours=13), end=START + timedelta(hours=14))

    got = read(data, labels_of(*((name, 15, 0, True) for name in "abc")), span)

    assert got.ids == ["a", "c"]


def test_a_cut_without_labels_is_an_empty_dataset() -> None:
    got = read(data_of(("a", 12, 0)), labels_of(("a", 30, 0, True)))

    assert len(got) == 0
    assert got.matrix.shape == (0, 2)


def test_parts_of_a_split_hold_every_row_once_and_keep_equal_times_together() -> None:
    rows = [(str(number), 11 + number // 5, number) for number in range(40)]
    whole = read(data_of(*rows), labels_of(*((name, 19, 0, True) for name, _, _ in rows)))

    first, second, third = time_split(whole.times, (0.6, 0.2, 0.2))
    parts = [whole.part(None, first), whole.part(first, second), whole.part(second, third)]

    assert [name for part in parts for name in part.ids] == whole.ids
    assert not set(parts[0].times.tolist()) & set(parts[1].times.tolist())


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        time_split(np.array(["2013-01-01"], dtype="datetime64[us]"), (0.5, 0.2))


def test_equal_rows_have_equal_digests_in_whatever_order_and_bits_they_are_read() -> None:
    rows = _dataset(np.array([[1.0, np.nan], [2.0, 3.0]]))

    odd = rows.matrix.view(np.uint64).copy()
    odd[0, 1] |= 1 << 63

    assert _dataset(odd.view(np.float64)).digest("xc") == rows.digest("xc")
    assert _dataset(rows.matrix[:, ::-1]).digest("cx") == rows.digest("xc")
    assert _dataset(rows.matrix).digest("cx") != rows.digest("xc")
    assert _dataset(rows.matrix + 1).digest("xc") != rows.digest("xc")


def _dataset(matrix: Matrix) -> Dataset:
    times = np.array(["2013-01-01", "2013-01-02"], dtype="datetime64[us]")
    return Dataset(matrix=matrix, labels=np.zeros(2), times=times, ids=["a", "b"], entities=["e", "e"])
