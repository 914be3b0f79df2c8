"""spans.c finds texts where Python keeps them."""

import gc
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
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


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | TEXTS.map(str.encode), TEXTS)), st.integers(0, 2))
def test_it_compares_as_python_does(pairs: list[tuple[bytes | None, str]], skipped: int) -> None:
    spans = Spans.of([mine for mine, _ in pairs])
    texts = pa.array([*["x"] * skipped, *[other for _, other in pairs]], pa.string()).slice(skipped)

    assert spans.same(texts).tolist() == spans.same_by_python(texts).tolist()
    assert spans.bytes == sum(spans.sizes.tolist()) == sum(len(mine or b"") for mine, _ in pairs)
    assert [*spans] == [mine for mine, _ in pairs]


def test_they_are_found_without_c_too(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [None, b"", b"a\0b", b"x" * 1000]
    found = Spans.of(texts)
    monkeypatch.setattr("shared.spans.native", lambda _: None)
    by_python = Spans.of(texts)

    assert [*by_python] == [by_python[row] for row in range(len(texts))] == texts
    assert (by_python.bytes, by_python.sizes.tolist()) == (found.bytes, found.sizes.tolist())
    assert by_python.same(pa.array(["", "", "a\0b", ""])).tolist() == [False, True, True, False]


def test_some_can_be_chosen() -> None:
    chosen = Spans.of([b"ab", None, b"c", b""]).where(np.array([True, True, False, True]))

    assert [*chosen] == [b"ab", None, b""]
    assert (len(chosen), chosen.bytes) == (3, 2)


def test_what_is_no_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="str found"):
        Spans.of([b"a", "b"])  # type: ignore[list-item]  # that is the point


def test_texts_live_as_long_as_what_was_read_of_them() -> None:
    """Also when nobody else holds them."""

    def record(number: int) -> bytes:
        said = f'"id":"e{number}","entity":"m","time":"2013-01-01T00:00:00Z"'
        return f'{{{said},"features":{{"heat":{number}}}}}'.encode()

    plain = PlainReader(STREAM).read(Spans.of([record(number) for number in range(1000)]))
    gc.collect()
    others = [b"x" * len(record(number)) for number in range(1000)]

    assert plain is not None
    assert plain.text(0).to_pylist() == [f"e{number}" for number in range(1000)]
    assert np.array_equal(plain.matrix[0], np.arange(1000))
    assert len(others) == 1000
