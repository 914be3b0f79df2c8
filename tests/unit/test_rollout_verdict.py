"""The sequential test keeps its promises on seeded rollouts, looked at again and again; `make bench` has 500 each."""

import numpy as np
import pytest
from scipy.stats import beta

from schemas.events.monitor import Groups, Pairs
from schemas.specs import Rollout as Policy
from services.deployer.domain.sequential import Verdict, variance_of, verdict_of
from services.monitor.domain.entries import Score, Settled
from services.monitor.domain.groups import BUCKETS, Grouped, bucket_of
from services.monitor.domain.pairs import Evidence, Sums
from tests.unit.rollout_cases import POLICY, Case, Told, Trial

SEEDS = 60
_DAY = 86_400_000_000
EQUAL = Case()
WORSE = Case(by=POLICY.margin)
BETTER = Case(by=-POLICY.margin)
LESS_ACCURATE = Case(differs="accuracy", by=0.03)
TOGETHER = {"entities": 500, "shared": 0.3}


def rollouts(case: Case) -> list[Told]:
    return [Trial(case, seed).run() for seed in range(SEEDS)]


def refuted(count: int, *, at_most: float = 1.0, at_least: float = 0.0) -> bool:
    """Whether so many of the seeds contradict the promise at 5 % (Clopper, Pearson 1934)."""
    least = float(beta.ppf(0.05, count, SEEDS - count + 1)) if count else 0.0
    most = float(beta.ppf(0.95, count + 1, SEEDS - count)) if count < SEEDS else 1.0
    return least > at_most or most < at_least


def count(outcome: str, found: list[Told]) -> int:
    return sum(each.outcome == outcome for each in found)


@pytest.mark.parametrize("case", [EQUAL, Case(**TOGETHER)], ids=["alone", "together"])
def test_a_challenger_as_good_as_the_champion_is_settled_and_hardly_ever_falls(case: Case) -> None:
    found = rollouts(case)

    assert not refuted(count("rolled_back", found), at_most=POLICY.error_rate)
    assert not refuted(count("promoted", found), at_least=0.8)
    assert all(each.pairs <= POLICY.max_labels for each in found if each.outcome == "promoted")


def test_a_challenger_worse_by_the_margin_is_hardly_ever_promoted() -> None:
    found = rollouts(Case(by=POLICY.margin, **TOGETHER))

    assert not refuted(count("promoted", found), at_most=POLICY.error_rate)


def test_a_challenger_less_accurate_by_three_points_falls_before_it_has_all_traffic_though_labels_lag() -> None:
    found = rollouts(Case(differs="accuracy", by=0.03, lag=8000, **TOGETHER))

    assert not refuted(count("rolled_back", found), at_least=0.9)
    assert {each.share for each in found} <= {0.0, 0.05, 0.25}


def test_a_challenger_better_by_the_margin_is_promoted() -> None:
    assert count("promoted", rollouts(BETTER)) >= 0.95 * SEEDS


@pytest.mark.parametrize("n", [0, 1, 499])
def test_few_pairs_say_nothing_however_clear_they_look(n: int) -> None:
    pairs = Pairs(n=n, total=10.0 * n, total_squares=100.0 * n)

    assert verdict_of(pairs, POLICY) == "wait"


def test_equal_answers_are_promoted() -> None:
    pairs = Pairs(n=500, total=0.0, total_squares=0.0)

    assert verdict_of(pairs, POLICY) == "promote"


@pytest.mark.parametrize(("mean", "expected"), [(0.004, "promote"), (0.006, "roll_back")])
def test_at_the_last_label_half_the_margin_divides(mean: float, expected: Verdict) -> None:
    pairs = Pairs(n=2000, total=mean * 2000, total_squares=2000.0)

    assert verdict_of(pairs, Policy(max_labels=2000)) == expected
    assert verdict_of(pairs, Policy(max_labels=2001)) == "wait"


def sums(differences: list[float], entities: list[str], minutes: list[int]) -> Pairs:
    found = Sums()
    buckets = np.array([bucket_of(entity) for entity in entities], dtype=np.int64)
    found.add(np.array(differences), buckets, np.array(minutes, dtype=np.int64) * 60_000_000)
    return found.said()


def test_pairs_of_one_entity_that_agree_count_as_one() -> None:
    rng = np.random.default_rng(5)
    of_entity, noise = np.repeat(rng.normal(size=400), 10), rng.normal(size=4000)
    entities, minutes = [f"d{index // 10}" for index in range(4000)], rng.permutation(4000).tolist()

    agreeing, others = sums(of_entity.tolist(), entities, minutes), sums(noise.tolist(), entities, minutes)

    assert 7.0 < variance_of(agreeing) < 14.0
    assert 0.8 < variance_of(others) < 1.6


def test_pairs_of_one_day_that_agree_count_as_one() -> None:
    rng = np.random.default_rng(6)
    of_day, entities = np.repeat(rng.normal(size=32), 100), [f"d{index}" for index in range(3200)]
    minutes = (np.arange(3200) * 14).tolist()

    assert variance_of(sums(of_day.tolist(), entities, minutes)) > 30.0


def test_of_a_handful_of_entities_the_test_asks_about_just_these() -> None:
    alone = Pairs(n=1000, total=0.0, total_squares=10.0)
    seven = Groups(by="entity", groups=7, n=1000, counts_squared=1000 * 1000 // 7, products=0.0, totals_squared=1e6)

    assert variance_of(alone.model_copy(update={"groups": (seven,)})) == variance_of(alone) == 0.01


def test_what_is_kept_of_groups_is_bounded_however_long_a_rollout_takes() -> None:
    grouped, rng = Grouped(), np.random.default_rng(7)

    for day in range(400):
        times = (day * 86_400_000_000 + rng.integers(0, 86_400_000_000, 50)).astype(np.int64)
        grouped.add(rng.integers(0, BUCKETS, 50), times, rng.normal(size=50))

    assert 16 <= len(grouped.stretches) <= 32
    assert sum(count for count, _ in grouped.stretches.values()) == grouped.counts.sum() == 20_000
    assert sum(total for _, total in grouped.stretches.values()) == pytest.approx(grouped.totals.sum())


def test_scattered_wrong_dates_do_not_widen_the_stretches_of_time() -> None:
    rng, began = np.random.default_rng(8), 10_000 * _DAY
    evidence = Evidence(champion=1, challenger=2, since=began)

    for day in range(20):
        right = began + day * _DAY + rng.integers(0, _DAY, 100)
        wrong = rng.integers(0, 20_000 * _DAY, 20)
        times = np.append(right, wrong)
        evidence.expect(rng.normal(size=120), rng.integers(0, BUCKETS, 120), times, began + (day + 1) * _DAY)
        matured = [time for time in times.tolist() if time <= began + (day + 1) * _DAY]
        evidence.settle("binary", [settled(time) for time in sorted(matured)])

    assert all(16 <= len(sums.groups.stretches) <= 32 for sums in (evidence.pairs, evidence.expected))
    assert all(sums.groups.length <= 2 * _DAY for sums in (evidence.pairs, evidence.expected))


def settled(time: int) -> Settled:
    """A pair."""
    arms = Score(1, 1, "champion", (0.5,)), Score(2, 1, "shadow", (0.6,))
    return Settled(time, 0, "", 1.0, *arms)
