"""spans.c finds texts where Python keeps them."""

import gc
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.specs import FloatFeature, Label, StreamSpec
from shared.plain import PlainReader
from shared.spans import Spans

STREAM = StreamSpec(
    stream="plain",
    entity="machine",
    partitions=1,
    features={"heat": FloatFeature(type="float")},
    label=Label(type="bool", delay=timedelta(hours=1)),
)
TEXTS = st.sampled_from(["", "a", "b", "ab", "a\0", "\u00e9"])


@given(st.lists(st.tuples(st.none() | TEXTS.map(str.encode), TEXTS)), st.integers(0, 2))
def test_it_compares_as_python_does(pairs: list[tuple[bytes | None, str]], skipped: int) -> None:
    spans = Spans([mine for mine, _ in pairs])
    texts = pa.array([*["x"] * skipped, *[other for _, other in pairs]], pa.string()).slice(skipped)

    assert spans.same(texts).tolist() == spans.same_by_python(texts).tolist()
    assert spans.bytes == sum(spans.sizes.tolist()) == sum(len(mine or b"") for mine, _ in pairs)


def test_what_is_no_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="str found"):
        Spans([b"a", "b"])  # type: ignore[list-item]  # that is the point


def test_texts_live_as_long_as_what_was_read_of_them() -> None:
    """Also when nobody else holds them."""

    def record(number: int) -> bytes:
        said = f'"id":"e{number}","entity":"m","time":"2013-01-01T00:00:00Z"'
        return f'{{{said},"features":{{"heat":{number}}}}}'.encode()

    plain = PlainReader(STREAM).read(Spans([record(number) for number in range(1000)]))
    gc.collect()
    others = [b"x" * len(record(number)) for number in range(1000)]

    assert plain is not None
    assert plain.text(0).to_pylist() == [f"e{number}" for number in range(1000)]
    assert np.array_equal(plain.matrix[0], np.arange(1000))
    assert len(others) == 1000
