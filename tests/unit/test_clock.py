"""Event time: what moves it, and what must not."""

import random

from services.monitor.domain.clock import CONFIRMATIONS, Checkpoint, Clock, answered_until

HOUR = 3_600_000_000
FAR = 80 * 365 * 24 * HOUR


def fed(clock: Clock, times: list[int], name: str = "e") -> Clock:
    clock.advance((time, f"{name}{index}") for index, time in enumerate(times))
    return clock


def test_the_clock_follows_the_highest_event_time() -> None:
    clock = fed(Clock(leap=HOUR), [minute * HOUR // 60 for minute in range(200)])

    fed(clock, [10 * HOUR // 60], "late")

    assert clock.high == 199 * HOUR // 60
    assert clock.implausible == 0


def test_one_record_from_2099_does_not_move_it_and_is_counted() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))

    fed(clock, [FAR, *range(100, 200)], "more")

    assert clock.high == 199
    assert (clock.implausible, clock.suspects) == (1, [])


def test_one_wrong_record_said_many_times_does_not_move_it() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))

    clock.advance((FAR, "the same") for _ in range(50))

    assert clock.high == 99


def test_a_wrong_first_record_does_not_set_it() -> None:
    clock = fed(Clock(leap=HOUR), [FAR, *range(20)])

    assert clock.high == 19


def test_a_device_with_a_wrong_calendar_does_not_move_it_for_ever() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))
    rng = random.Random(7)
    times = [FAR + index if rng.random() < 0.1 else 100 + index for index in range(20_000)]

    fed(clock, times, "mixed")

    assert clock.high is not None
    assert clock.high < 100 + 20_000
    assert clock.implausible > 1800


def test_a_gap_of_days_is_crossed_when_several_records_confirm_it() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))
    after = [72 * HOUR + index for index in range(CONFIRMATIONS + 3)]

    fed(clock, after[: CONFIRMATIONS - 1], "first")
    held = clock.high
    fed(clock, after[CONFIRMATIONS - 1 :], "then")

    assert held == 99
    assert clock.high == after[-1]


def test_a_gap_is_crossed_to_its_far_side_only_when_one_of_the_records_is_wrong() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))

    fed(clock, [FAR, *(72 * HOUR + index for index in range(20))], "after")

    assert clock.high == 72 * HOUR + 19


def test_a_model_is_held_back_to_what_its_answers_have_reached() -> None:
    marks = [Checkpoint({0: 10, 1: 10}, 1), Checkpoint({0: 20, 1: 10}, 2), Checkpoint({0: 20, 1: 30}, 3)]

    assert answered_until(marks, {0: 25, 1: 12}) == 2
    assert answered_until(marks, {}) == 3
    assert answered_until(marks, {0: 9, 1: 99}) is None
