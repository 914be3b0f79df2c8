"""Frozen bins: counts that merge, values that always fall into the same bin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.specs import BoolFeature, CategoryFeature, FloatFeature
from shared.reference import BINS, binned, counts_of, feature_reference, quantile_edges

NUMBERS = st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), max_size=300)


def test_a_continuous_column_has_as_many_even_bins_as_are_asked_for() -> None:
    values = np.random.default_rng(1).normal(size=256 * 40)

    found = binned(values)

    assert (len(found["edges"]), len(found["counts"])) == (BINS - 1, BINS)
    assert max(abs(count - 40) for count in found["counts"]) <= 1


@given(NUMBERS)
def test_edges_rise_strictly_and_every_present_value_is_counted_once(values: list[float]) -> None:
    edges = quantile_edges(values)

    assert edges == sorted(set(edges))
    assert sum(counts_of(edges, values)) == int((~np.isnan(np.array(values, dtype=np.float64))).sum())


@given(NUMBERS, NUMBERS)
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(first: list[float], second: list[float]) -> None:
    edges = quantile_edges(first)

    together = np.add(counts_of(edges, first), counts_of(edges, second))

    assert together.tolist() == counts_of(edges, first + second)


def test_each_value_of_a_discrete_column_has_a_bin_of_its_own() -> None:
    column = np.repeat([0.0, 0.1, 0.2], 1000)

    edges = quantile_edges(column)

    assert [count for count in counts_of(edges, column) if count] == [1000, 1000, 1000]


def test_categories_bools_and_missing_values_are_counted_by_value() -> None:
    category = feature_reference(CategoryFeature(type="category", values=("a", "b")), np.array([0, 0, 1, np.nan]))
    truth = feature_reference(BoolFeature(type="bool"), np.array([1.0, 1.0]))
    number = feature_reference(FloatFeature(type="float"), np.array([np.nan, np.nan]))

    assert category == {"type": "category", "values": ["a", "b"], "counts": [2, 1], "unseen": 1}
    assert truth == {"type": "bool", "values": ["false", "true"], "counts": [0, 2], "unseen": 0}
    assert number == {"type": "float", "edges": [], "counts": [0], "missing": 2}
