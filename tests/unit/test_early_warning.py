"""The declared number of false alarms holds over seeded replays, on streams whose rows hang together too."""

import numpy as np
import pytest

from services.monitor.domain.wander import Law, Wander
from shared.reference import feature_reference, with_blocks
from tests.unit.early_warning import (
    BUDGET,
    NUMBER,
    Replay,
    Rows,
    Stream,
    autocorrelated,
    independent,
    rain,
    upper_rate,
    weather,
)


@pytest.mark.parametrize(
    ("stream", "reference", "window"),
    [
        (independent, 20_000, 1000),
        (independent, 20_000, 100),
        (autocorrelated(20), 20_000, 1000),
        (autocorrelated(400), 20_000, 1000),
        (weather, 57_600, 2000),
        (rain, 57_600, 2000),
    ],
    ids=["independent", "small windows", "AR 20", "AR 400", "weather", "rain"],
)
def test_forty_replays_without_drift_keep_the_declared_false_alarms(
    stream: Stream, reference: int, window: int
) -> None:
    replay = Replay(stream=stream, reference=reference, window=window)

    alarms = sum(len(replay(seed)) for seed in range(40))

    assert upper_rate(alarms, 40 * replay.windows) <= BUDGET


def test_one_sigma_in_one_of_twenty_features_is_alarmed_in_its_first_window_and_named_first() -> None:
    def shifted(number: int, rows: Rows) -> Rows:
        rows[:, 7] += number >= 3
        return rows

    replay = Replay(stream=independent, columns=20, windows=4)

    found = [list(replay.alerts(seed, shifted)) for seed in range(5)]

    assert [each[:3] for each in found] == [[None] * 3] * 5
    assert {alert.subjects[0] for *_, alert in found if alert} == {"x7"}
    assert all(last for *_, last in found)


def test_a_shift_beyond_what_the_weather_does_is_alarmed_nevertheless() -> None:
    def warmer(number: int, rows: Rows) -> Rows:
        rows[:, 2] += 4.0 * (number >= 3)
        return rows

    replay = Replay(stream=weather, reference=57_600, window=2000, windows=6)

    found = [replay(seed, warmer) for seed in range(5)]

    assert [[alert.subjects[0] for alert in each] for each in found] == [["x2"]] * 5


def test_the_blocks_of_independent_rows_say_so() -> None:
    column = np.random.default_rng(1).normal(size=20_000)

    wander = Wander.of(with_blocks(feature_reference(NUMBER, column), column, 1000))

    assert wander.blocks == 20
    assert 1.0 <= wander.inflation(Law(compared=None, scale=0.03), 0.001) < 1.5
