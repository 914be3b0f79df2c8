"""What the soak calls growth."""

import random

import pytest

from tests.bench.soak import _figure

SECONDS = 1200.0


def sizes(grown: float, seed: int) -> list[tuple[float, float]]:
    """As an ingestor's: two seconds apart, noisy, with a peak each two minutes; more in the first minutes."""
    rng = random.Random(seed)
    return [
        (at, 300 * (1 + grown * at / SECONDS) + rng.gauss(0, 15) + 200 * (at % 120 < 20) - 100 * (at < 60))
        for at in (2.0 * number for number in range(600))
    ]


@pytest.mark.parametrize("seed", range(5))
def test_what_grows_is_told_from_what_only_has_peaks(seed: int) -> None:
    steady, growing = (_figure("ingestor", sizes(grown, seed), SECONDS, own=True) for grown in (0.0, 0.15))

    assert (steady.holds, growing.holds) == (True, False)
    assert growing.ratio == pytest.approx(1.15 / 1.0375, abs=0.05)
