"""The label join: nothing is lost, nothing counts twice, whatever the order."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.entries import Score
from services.monitor.domain.join import FURTHEST, Join

DELAY, GRACE = 100, 10
CHAMPION = Score(1, 1, "champion", (0.5,))
CHALLENGER = Score(2, 1, "shadow", (0.6,))


def conserved(join: Join) -> bool:
    """By counting what is there, not by the counters' own arithmetic."""
    waiting = [
        entry for room in join.entries.values() for entry in room.values() if entry.served and entry.label is None
    ]
    return join.counts.pending == len(waiting) and join.counts.pending >= 0


def test_a_label_before_or_after_its_prediction_joins_it() -> None:
    join = Join()

    join.serve("late", 0, 5, CHAMPION)
    join.label("late", 0, 50, 1.0)
    join.label("early", 0, 6, 0.0)
    join.serve("early", 0, 5, CHAMPION)

    assert (join.counts.joined, join.counts.pending) == (2, 0)
    assert [(each.id, each.label) for each in join.mature(105, DELAY, GRACE)] == [("early", 0.0), ("late", 1.0)]
    assert join.entries == {0: {}}


def test_early_labels_are_not_measured_before_their_cohort_has_matured() -> None:
    join = Join()
    join.serve("a", 0, 5, CHAMPION)
    join.label("a", 0, 6, 1.0)

    assert join.mature(104, DELAY, GRACE) == []
    assert len(join.mature(105, DELAY, GRACE)) == 1


def test_a_prediction_without_a_label_expires_after_the_grace() -> None:
    join = Join()
    join.serve("a", 0, 5, CHAMPION)

    join.mature(114, DELAY, GRACE)
    held = join.counts.expired
    join.mature(115, DELAY, GRACE)

    assert (held, join.counts.expired, join.counts.pending) == (0, 1, 0)


def test_what_has_settled_is_measured_once_and_known_until_a_window_closes() -> None:
    join = Join()
    join.serve("a", 0, 5, CHAMPION)
    join.label("a", 0, 6, 1.0)

    settled = [join.settle(105, DELAY) for _ in range(2)]
    again = join.serve("a", 0, 5, CHAMPION)
    join.expire(105, DELAY, GRACE)

    assert [len(each) for each in settled] == [1, 0]
    assert (again, join.counts.repeated, join.counts.predictions) == (None, 1, 1)
    assert join.entries == {0: {}}


def test_a_label_that_comes_before_the_window_closes_is_not_too_late() -> None:
    join = Join()
    join.serve("a", 0, 5, CHAMPION)

    join.settle(1000, DELAY)
    join.label("a", 0, 900, 1.0)
    join.settle(1000, DELAY)
    join.expire(1000, DELAY, GRACE)

    assert (join.counts.joined, join.counts.expired) == (1, 0)


def test_a_prediction_whose_labels_may_suddenly_take_longer_waits_again_and_has_one_fate() -> None:
    join = Join()
    for name in ("joined", "expired"):
        join.serve(name, 0, 5, CHAMPION)
    join.settle(110, DELAY)

    join.label("joined", 0, 120, 1.0)
    early = join.mature(120, 3 * DELAY, GRACE)
    join.mature(304, 3 * DELAY, GRACE)
    late = join.mature(305 + GRACE, 3 * DELAY, GRACE)

    assert (early, [each.id for each in late]) == ([], ["joined"])
    assert (join.counts.joined, join.counts.expired, join.counts.pending) == (1, 1, 0)
    assert join.entries == {0: {}}


def test_what_has_its_label_and_was_not_measured_yet_does_not_expire() -> None:
    join = Join()
    join.serve("a", 0, 5, CHAMPION)
    join.settle(105, DELAY)
    join.label("a", 0, 110, 1.0)

    join.expire(1000, DELAY, GRACE)

    assert [each.id for each in join.settle(1000, DELAY)] == ["a"]
    assert (join.counts.joined, join.counts.expired) == (1, 0)


def test_a_join_is_crowded_when_a_quarter_of_what_may_wait_could_leave() -> None:
    join = Join()
    for index in range(130):
        join.serve(f"e{index}", 0, index, CHAMPION)
        if index % 2:
            join.label(f"e{index}", 0, index, 1.0)

    few = join.settle(DELAY + 20, DELAY), join.crowded(20 - GRACE, 100)
    many = join.settle(DELAY + 40, DELAY), join.crowded(40 - GRACE, 100)
    roomy = join.crowded(40 - GRACE, 130)

    assert ([len(few[0]), len(many[0])], few[1], many[1], roomy) == ([10, 10], False, True, False)


def test_of_repeated_labels_the_first_stands_and_a_conflict_is_counted() -> None:
    join = Join()
    join.serve("a", 0, 5, CHAMPION)
    for value in (1.0, 1.0, 0.0):
        join.label("a", 0, 6, value)

    assert (join.counts.labels_repeated, join.counts.labels_conflicting) == (1, 1)
    assert join.mature(200, DELAY, GRACE)[0].label == 1.0


def test_a_label_without_a_prediction_is_orphaned_in_the_end() -> None:
    join = Join()
    join.label("nobody", 0, 5, 1.0)

    join.mature(116, DELAY, GRACE)

    assert join.counts.labels_orphaned == 1
    assert join.entries == {0: {}}


def test_a_prediction_from_2099_does_not_wait_until_2099() -> None:
    join = Join()
    join.serve("far", 0, 10**15, CHAMPION)

    join.mature(1000, DELAY, GRACE)
    join.mature(1000 + FURTHEST + DELAY + GRACE, DELAY, GRACE)

    assert join.counts.expired == 1


def test_a_label_from_2099_does_not_wait_until_2099() -> None:
    join = Join()
    join.label("far", 0, 10**15, 1.0)

    join.mature(1000, DELAY, GRACE)
    join.mature(1000 + FURTHEST + DELAY + GRACE, DELAY, GRACE)

    assert join.counts.labels_orphaned == 1


def test_beyond_the_cap_predictions_are_sampled_by_id_and_counted() -> None:
    join = Join()
    for index in range(4000):
        join.serve(f"e{index}", 0, index, CHAMPION)

    join.bound(1000, 1000)
    kept = len(join.entries[0])
    for index in range(4000, 4400):
        join.serve(f"e{index}", 0, index, CHAMPION)

    assert 400 < kept <= 1000
    assert join.counts.predictions == 4400
    assert join.counts.sampled_out > 3000
    assert conserved(join)


def test_early_labels_are_bounded_and_the_oldest_go_first() -> None:
    join = Join()
    for index in range(300):
        join.label(f"e{index}", index % 3, index, 1.0)

    join.bound(100, 50)

    assert sorted(entry.time for room in join.entries.values() for entry in room.values()) == list(range(250, 300))
    assert join.counts.labels_orphaned == 250


def test_labels_that_nobody_waits_for_leave_nothing_behind() -> None:
    join = Join()
    for index in range(20_000):
        join.label(f"e{index}", index % 3, index, 1.0)
        if index % 100 == 0:
            join.bound(100, 80)

    assert len(join._maturing) < 2000
    assert len(join.mature(10**9, DELAY, GRACE)) == 0
    assert join.counts.labels_orphaned == 20_000


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 200))
def test_predictions_are_conserved_under_any_order(seed: int, size: int) -> None:
    rng, join, clock = random.Random(seed), Join(), 0
    served: set[str] = set()

    for _ in range(size):
        event, time = f"e{rng.randrange(40)}", rng.randrange(400)
        match rng.randrange(6):
            case 0 | 1:
                before = join.counts.predictions
                join.serve(event, 0, time, CHAMPION)
                served |= {event} if join.counts.predictions > before else set()
            case 2 | 3:
                join.label(event, 0, time, float(rng.randrange(2)))
            case 4:
                join.shadow(event, 0, time, CHALLENGER)
            case _:
                clock += rng.randrange(100)
                join.mature(clock, DELAY, GRACE)
                join.bound(rng.randrange(5, 30), rng.randrange(5, 30))
        assert conserved(join)
    join.mature(10**9, DELAY, GRACE)

    assert join.counts.pending == 0
    assert join.counts.predictions >= len(served)
    assert all(not room for room in join.entries.values())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_what_matures_does_not_depend_on_the_order_of_arrival(seed: int) -> None:
    rng = random.Random(seed)
    arrivals = [("serve", index) for index in range(30)] + [("label", index) for index in range(0, 30, 2)]
    arrivals += [("shadow", index) for index in range(0, 30, 3)]
    outcomes = []

    for _ in range(3):
        rng.shuffle(arrivals)
        join = Join()
        for kind, index in arrivals:
            event = f"e{index}"
            if kind == "serve":
                join.serve(event, index % 3, index, CHAMPION)
            elif kind == "label":
                join.label(event, index % 3, index + 5, 1.0)
            else:
                join.shadow(event, index % 3, index, CHALLENGER)
        outcomes.append((join.mature(500, DELAY, GRACE), join.counts))

    assert outcomes[0] == outcomes[1] == outcomes[2]
