"""Drift over frozen bins: few false alarms, robust to wild values, and the drifted feature first."""

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.events.monitor import FeatureDrift
from schemas.specs import FloatFeature
from services.monitor.domain.alerts import Alarm, Finding
from services.monitor.domain.bins import Bins
from services.monitor.domain.drift import measure, overwhelming, per_test
from shared.reference import binned, counts_of, feature_reference, quantile_edges

FEATURES = [f"x{index}" for index in range(20)]
NUMBER = FloatFeature(type="float")
ROWS = 20_000
CHANCE = per_test(4, 200, 21)


@pytest.fixture(scope="module")
def bins() -> Bins:
    rng = np.random.default_rng(1)
    features = {name: feature_reference(NUMBER, rng.normal(size=ROWS)) for name in FEATURES}
    return Bins.of({"features": features, "score": binned(rng.random(ROWS))}, FEATURES)


def window(bins: Bins, rng: np.random.Generator, rows: int, shift: float = 0.0, spoilt: int = 0) -> NDArray[np.int64]:
    inputs = rng.normal(size=(rows, 20)).astype(np.float32)
    inputs[:, 7] += shift
    inputs[:spoilt, 7] = 1e9
    return bins.count(inputs, rng.random(rows))


def drifted(found: tuple[FeatureDrift, ...]) -> list[str]:
    return [each.feature for each in found if each.drifted]


def test_two_hundred_windows_without_drift_raise_nothing(bins: Bins) -> None:
    rng = np.random.default_rng(2)

    found = [drifted(measure(bins, window(bins, rng, 1000), probability=CHANCE)) for _ in range(200)]

    assert sum(map(len, found)) == 0


def test_a_year_of_small_windows_without_drift_keeps_to_the_budget_and_alarms_of_nothing() -> None:
    rng, described = np.random.default_rng(3), np.random.default_rng(1)
    features = {name: feature_reference(NUMBER, described.normal(size=ROWS)) for name in FEATURES}
    bins, alarm = Bins.of({"features": features, "score": binned(described.random(ROWS))}, FEATURES), Alarm()
    findings = []

    for index in range(200):
        measured = measure(bins, window(bins, rng, 100), probability=CHANCE)
        found = [finding(each.feature, overwhelming(each)) for each in measured if each.drifted]
        findings += found
        assert alarm.hear(found, str(index)) is None

    assert len(findings) <= 10  # 4 are expected of 4200 tests; more than 10 come once in 300 years


def test_one_sigma_in_one_feature_of_twenty_is_overwhelming_in_one_window_and_named_first(bins: Bins) -> None:
    rng = np.random.default_rng(4)

    found = measure(bins, window(bins, rng, 1000, shift=1), probability=CHANCE)

    assert drifted(found) == ["x7"]
    assert found[0].feature == "x7"
    assert overwhelming(found[0])


def test_one_wild_value_hides_no_shift_and_makes_none(bins: Bins) -> None:
    rng = np.random.default_rng(5)

    hidden = measure(bins, window(bins, rng, 2000, shift=1, spoilt=20), probability=CHANCE)
    alone = measure(bins, window(bins, rng, 2000, spoilt=1), probability=CHANCE)

    assert drifted(hidden) == ["x7"]
    assert drifted(alone) == []


def test_too_few_rows_say_nothing(bins: Bins) -> None:
    assert measure(bins, window(bins, np.random.default_rng(6), 99), probability=CHANCE) == ()


def test_bins_agree_with_the_reference_on_values_that_lie_on_an_edge() -> None:
    values = np.round(np.random.default_rng(8).normal(size=5000), 1)
    document = {"features": {"x": feature_reference(NUMBER, values)}, "score": binned(values)}
    bins = Bins.of(document, ["x"])

    counts = bins.count(values.astype(np.float32).reshape(-1, 1), values)

    assert counts[bins.slices[0]][:-1].tolist() == counts_of(quantile_edges(values), values)
    assert (counts == bins.reference).all()


def test_a_new_share_of_a_category_and_of_missing_values_is_drift() -> None:
    described = {"type": "category", "values": ["a", "b"], "counts": [5000, 4900], "unseen": 100}
    bins = Bins.of({"features": {"x": described}, "score": binned(np.random.default_rng(9).random(5000))}, ["x"])
    scores = np.random.default_rng(10).random(1000)
    usual, moved, missing = (
        np.repeat(np.array([[0.0], [1.0], [np.nan]], dtype=np.float32), shares, axis=0)
        for shares in ([505, 485, 10], [800, 190, 10], [400, 390, 210])
    )

    found = [drifted(measure(bins, bins.count(each, scores), probability=CHANCE)) for each in (usual, moved, missing)]

    assert found == [[], ["x"], ["x"]]


def finding(subject: str, at_once: bool = False) -> Finding:
    return Finding(subject=subject, explanation=subject, overwhelming=at_once)


def test_what_is_overwhelming_alarms_at_once_and_the_rest_when_it_persists() -> None:
    assert Alarm().hear([finding("x", at_once=True)], "a") is not None
    alarm = Alarm()

    said = [
        alarm.hear(each, str(index)) for index, each in enumerate([[finding("x")], [], [finding("x")], [finding("x")]])
    ]

    assert [each.id if each else None for each in said] == [None, None, None, "3"]


def test_findings_coalesce_into_an_open_alert_and_two_clean_windows_resolve_it() -> None:
    alarm = Alarm()
    alarm.hear([finding("x", at_once=True)], "a")

    again = [alarm.hear([finding("y", at_once=True)], str(index)) for index in range(500)]
    alarm.hear([], "clean")
    still = alarm.over()
    alarm.hear([], "clean")

    assert set(again) == {None}
    assert still is None
    over = alarm.over()
    assert over is not None
    assert over.id == "a"
    assert alarm.over() is None
