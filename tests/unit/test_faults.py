"""Broken data is told apart from drift."""

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.specs import StreamSpec
from services.monitor.domain.bins import Bins
from services.monitor.domain.faults import faults, limits
from services.monitor.domain.windows import Window
from shared.expectation import count
from shared.reference import binned, feature_reference, with_blocks
from tests.unit.early_warning import weather
from tests.unit.monitor_cases import STREAM

Values = NDArray[np.float64]
ROWS = 1000


def fahrenheit(rng: np.random.Generator, rows: int) -> Values:
    return rng.normal(60, 15, rows)


def miles(rng: np.random.Generator, rows: int) -> Values:
    return rng.lognormal(6.5, 0.4, rows)


def explained(usual: Values, seen: Values, unseen: int = 0) -> list[str]:
    part = with_blocks(feature_reference(STREAM.features["heat"], usual), usual, ROWS)
    bins = Bins.of({"features": {"heat": part}, "score": binned(np.linspace(0, 1, 500))}, ["heat"])
    declared = {**STREAM.model_dump(mode="json"), "features": {"heat": {"type": "float"}}}
    window, inputs = Window(number=0, start={}), seen.astype(np.float32).reshape(-1, 1)
    times, scores = np.arange(len(seen), dtype=np.int64), np.linspace(0, 1, len(seen))
    spec = StreamSpec.model_validate(declared)
    cells = count(scores[:, None])
    window.add(bins, limits(bins, spec), times, inputs, scores, unseen=np.array([unseen]), cells=cells)
    return [each.explanation for each in faults(window, bins)]


@pytest.mark.parametrize(
    ("make", "convert", "words"),
    [
        (fahrenheit, lambda x: (x - 32) * 5 / 9, "Celsius for Fahrenheit"),
        (fahrenheit, lambda x: -x, "the other sign"),
        (miles, lambda x: x * 1.609344, "kilometres for miles"),
        (miles, lambda x: x / 1000, "0.001 times"),
        (miles, lambda x: x * 1000, "far from the reference"),
        (fahrenheit, lambda x: np.full_like(x, 61.0), "frozen at 61"),
        (fahrenheit, lambda x: np.where(np.arange(len(x)) % 2, x, np.nan), "missing in 50%"),
    ],
)
def test_a_broken_source_is_named(make, convert, words: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)

        found = explained(make(rng, 20_000), convert(make(rng, ROWS)))

        assert len(found) == 1
        assert words in found[0]


@pytest.mark.parametrize("shift", [-2.0, -1.0, 1.0, 3.0])
@pytest.mark.parametrize("spread", [0.7, 1.0, 1.5])
def test_a_shift_or_another_spread_is_no_fault(shift: float, spread: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        usual, seen = fahrenheit(rng, 20_000), fahrenheit(rng, ROWS)

        assert explained(usual, 60 + shift * 15 + (seen - 60) * spread) == []


def test_a_spell_of_what_wanders_is_not_taken_for_another_unit() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        usual, seen = np.split(60 + 15 * weather(rng, 3000 + ROWS), [3000])

        assert explained(usual, seen) == []
        assert "far from the reference" in explained(usual, seen * 1000)[0]


def test_values_that_are_not_declared_are_a_fault_and_a_missing_surge_is_another() -> None:
    rng = np.random.default_rng(1)
    usual, seen = fahrenheit(rng, 20_000), fahrenheit(rng, ROWS)
    seen[:400] = np.nan

    new, missing, few = explained(usual, seen, 400), explained(usual, seen, 0), explained(usual, seen[390:], 10)

    assert "not declared in 40%" in new[0]
    assert "missing in 40%" in missing[0]
    assert few == []
