"""The sequential test keeps its promises on seeded simulations, looked at again and again."""

import numpy as np
import pytest

from schemas.events.monitor import Pairs
from services.deployer.domain.sequential import Verdict, verdict_of

MARGIN, ERROR_RATE, MAX_LABELS, SPREAD = 0.01, 0.05, 20_000, 0.15
RUNS, LOOK_EVERY = 400, 100


def verdicts(mean: float, seed: int) -> list[Verdict]:
    """The first verdict but wait of each simulated rollout, its losses skewed, looked at every 100 pairs."""
    rng = np.random.default_rng(seed)
    found: list[Verdict] = []
    for _ in range(RUNS):
        losses = mean + SPREAD * (rng.exponential(size=MAX_LABELS) - 1)
        totals, squares = np.cumsum(losses), np.cumsum(losses**2)
        for n in range(LOOK_EVERY, MAX_LABELS + 1, LOOK_EVERY):
            pairs = Pairs(n=n, total=totals[n - 1], total_squares=squares[n - 1])
            verdict = verdict_of(pairs, margin=MARGIN, error_rate=ERROR_RATE, max_labels=MAX_LABELS)
            if verdict != "wait":
                break
        found.append(verdict)
    return found


def share(of: Verdict, found: list[Verdict]) -> float:
    return found.count(of) / len(found)


def test_a_challenger_as_good_as_the_champion_is_rolled_back_at_most_at_the_error_rate() -> None:
    assert share("roll_back", verdicts(0.0, seed=1)) <= ERROR_RATE


def test_a_challenger_worse_by_the_margin_is_promoted_at_most_at_the_error_rate() -> None:
    assert share("promote", verdicts(MARGIN, seed=2)) <= ERROR_RATE


def test_a_challenger_worse_by_three_margins_is_rolled_back() -> None:
    assert share("roll_back", verdicts(3 * MARGIN, seed=3)) >= 0.99


def test_a_better_challenger_is_promoted() -> None:
    assert share("promote", verdicts(-MARGIN, seed=4)) >= 0.99


@pytest.mark.parametrize("n", [0, 1, 499])
def test_few_pairs_say_nothing_however_clear_they_look(n: int) -> None:
    pairs = Pairs(n=n, total=10.0 * n, total_squares=100.0 * n)

    assert verdict_of(pairs, margin=0.01, error_rate=0.05, max_labels=20_000) == "wait"


def test_equal_answers_are_promoted() -> None:
    pairs = Pairs(n=500, total=0.0, total_squares=0.0)

    assert verdict_of(pairs, margin=0.01, error_rate=0.05, max_labels=20_000) == "promote"


@pytest.mark.parametrize(("mean", "expected"), [(0.004, "promote"), (0.006, "roll_back")])
def test_at_the_last_label_half_the_margin_divides(mean: float, expected: Verdict) -> None:
    pairs = Pairs(n=2000, total=mean * 2000, total_squares=2000.0)

    assert verdict_of(pairs, margin=0.01, error_rate=0.05, max_labels=2000) == expected
    assert verdict_of(pairs, margin=0.01, error_rate=0.05, max_labels=2001) == "wait"
