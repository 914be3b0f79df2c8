"""What is lost beyond the promise: seen where a ranking sees nothing, dated, and quiet where rows are only hard."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.monitor.domain.alerts import Finding
from services.monitor.domain.entries import Score, Settled
from services.monitor.domain.losses import Losses, beyond
from shared.quality import metrics
from tests.unit.early_warning import autocorrelated

_WINDOW = 500
_RARELY = 0.01


def held(chances: NDArray[np.float64], said: NDArray[np.float64], rng: np.random.Generator) -> Losses:
    """A prediction a microsecond: `said` is the version's probability, `chances` the world's."""
    losses, labels = Losses(), (rng.random(len(chances)) < chances).astype(np.float64)
    settled = [
        Settled(time, 0, f"e{time}", float(label), Score(1, 1, "champion", (float(p),)), None)
        for time, (label, p) in enumerate(zip(labels, said, strict=True))
    ]
    for start in range(0, len(settled), 37):
        losses.add("binary", settled[start : start + 37], _WINDOW)
    return losses


def checked(chances: NDArray[np.float64], said: NDArray[np.float64], rng: np.random.Generator) -> Finding | None:
    return held(chances, said, rng).check(_WINDOW, _RARELY)


def test_a_threshold_that_moved_is_found_and_dated_though_the_ranking_is_as_before() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(2000)
    said, moved = np.where(x > 0.4, 0.9, 0.1), np.where(x > 0.6, 0.9, 0.1)
    chances = np.where(np.arange(2000) < 1200, said, moved)

    found = checked(chances, said, rng)

    assert found is not None
    assert (found.subject, found.overwhelming) == ("brier", True)
    assert found.since is not None
    assert abs(found.since - 1200) <= _WINDOW // 10


def test_a_rise_in_the_middle_of_the_newest_window_is_dated_while_its_mean_is_still_noisy() -> None:
    rng = np.random.default_rng(5)
    x = rng.random(1250)
    said, moved = np.where(x > 0.4, 0.9, 0.1), np.where(x > 0.4, 0.1, 0.9)
    losses = held(np.where(np.arange(1250) < 1050, said, moved), said, rng)

    since = losses.rose(_WINDOW)

    assert losses.check(_WINDOW, _RARELY) is None
    assert since is not None
    assert abs(since - 1050) <= _WINDOW // 10


def test_where_probabilities_mean_what_they_say_hardly_a_rise_is_dated() -> None:
    dated = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        dated += held(np.full(2000, 0.3), np.full(2000, 0.3), rng).rose(_WINDOW) is not None

    assert dated <= 2


def test_rows_that_are_only_harder_lose_no_more_than_they_promise() -> None:
    rng = np.random.default_rng(1)
    easy, hard = np.where(rng.random(1000) > 0.5, 0.97, 0.03), np.full(1000, 0.5)
    chances = np.concatenate([easy, hard])

    assert checked(chances, chances, rng) is None
    labels = rng.random(2000) < chances
    assert (
        metrics("binary", labels[1000:], chances[1000:])["brier"] > 5 * metrics("binary", labels[:1000], easy)["brier"]
    )


@pytest.mark.parametrize("hang_together", [False, True], ids=["independent rows", "a storm lasts 20 rows"])
def test_while_probabilities_mean_what_they_say_few_windows_are_found(hang_together: bool) -> None:
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        unknown = autocorrelated(20)(rng, 600) if hang_together else rng.normal(size=600)
        said = np.full(600, 0.3)
        found += checked(0.3 + 0.2 * np.clip(unknown, -1, 1), said, rng) is not None

    assert found <= 8


def test_a_version_that_never_kept_its_promise_is_dated_to_its_beginning() -> None:
    rng = np.random.default_rng(2)

    found = checked(np.full(700, 0.5), np.full(700, 0.9), rng)

    assert found is not None
    assert found.since == 0


def test_several_classes_promise_as_two_do() -> None:
    three = [Settled(0, 0, "e", 2.0, Score(1, 1, "champion", (0.0, 0.25, 0.75)), None)]
    two = [Settled(0, 0, "e", 1.0, Score(1, 1, "champion", (0.75,)), None)]

    assert beyond("multiclass", three) == pytest.approx(beyond("binary", two))


def test_too_few_matured_say_nothing() -> None:
    rng = np.random.default_rng(3)

    assert checked(np.full(400, 0.5), np.full(400, 0.9), rng) is None
    assert Losses().began(_WINDOW) is None


def test_memory_is_bounded() -> None:
    rng = np.random.default_rng(4)

    losses = held(np.full(20_000, 0.5), np.full(20_000, 0.5), rng)

    assert len(losses.starts) == len(losses.sizes) == len(losses.totals) == 200
