"""Event time: what moves it, and what must not."""

import random

from services.monitor.domain.clock import CONFIRMATIONS, Checkpoint, Clock, answered_until

HOUR = 3_600_000_000
FAR = 80 * 365 * 24 * HOUR


def fed(clock: Clock, times: list[int], name: str = "e") -> Clock:
    """Three devices send by turns."""
    clock.advance((time, f"{name}{index}", f"d{index % 3}") for index, time in enumerate(times))
    return clock


def of_one(clock: Clock, device: str, times: list[int]) -> Clock:
    clock.advance((time, f"{device}@{time}", device) for time in times)
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

    clock.advance((FAR, "the same", f"d{index}") for index in range(50))

    assert clock.high == 99


def test_a_wrong_first_record_does_not_set_it() -> None:
    clock = fed(Clock(leap=HOUR), [FAR, *range(20)])

    assert clock.high == 19


def test_two_devices_with_wrong_calendars_do_not_move_it_whatever_share_they_send() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))
    rng = random.Random(7)

    for index in range(5000):
        if rng.random() < 0.5:
            of_one(clock, rng.choice(["d0", "d1"]), [FAR + index])
        else:
            of_one(clock, "d2", [100 + index])

    assert clock.high is not None
    assert clock.high < 100 + 5000
    assert clock.implausible > 2000


def test_a_device_that_is_wrong_many_times_in_a_row_does_not_move_it_and_takes_no_room() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))

    of_one(clock, "d0", [FAR + index for index in range(1000)])

    assert clock.high == 99
    assert len(clock.suspects) == CONFIRMATIONS
    assert clock.implausible == 1000 - CONFIRMATIONS


def test_a_gap_is_crossed_while_a_wrong_device_goes_on() -> None:
    clock = fed(Clock(leap=HOUR), list(range(100)))

    of_one(clock, "d0", [FAR + index for index in range(50)])
    fed(clock, [72 * HOUR + index for index in range(20)], "after")

    assert clock.high == 72 * HOUR + 19


def test_a_stream_of_one_device_is_moved_by_it_alone() -> None:
    clock = of_one(Clock(leap=HOUR), "d", list(range(CONFIRMATIONS)))

    of_one(clock, "d", [72 * HOUR + index for index in range(CONFIRMATIONS)])

    assert clock.high == 72 * HOUR + CONFIRMATIONS - 1


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
