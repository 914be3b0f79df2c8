"""Of a stream's events it is known how many have labels and have matured, in whatever order they come."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.join import FURTHEST
from services.monitor.domain.labelled import Labelled

DELAY, GRACE = 100, 10


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_each_labelled_event_matures_once_whatever_the_order(seed: int) -> None:
    rng, events, matured = random.Random(seed), Labelled(), list[int]()
    said = [("event", number) for number in range(40)] + [("label", number) for number in range(0, 40, 2)]
    said += rng.choices(said, k=20)
    rng.shuffle(said)

    for start in range(0, len(said), 7):
        for kind, number in said[start : start + 7]:
            take = events.serve if kind == "event" else events.label
            take(number % 3, [f"e{number}"], [number])
        matured += events.mature(rng.randrange(DELAY), DELAY, GRACE).tolist()
    matured += events.mature(DELAY + 40, DELAY, GRACE).tolist()

    assert sorted(matured) == list(range(0, 40, 2))
    assert all(not room.joined for room in events.rooms.values())


def test_what_is_dated_too_far_ahead_ends_and_what_never_comes_is_forgotten() -> None:
    events = Labelled()
    events.serve(0, ["far", "unlabelled"], [10**15, 5])
    events.label(0, ["far", "nobody's"], [6, 7])

    before = events.mature(1000, DELAY, GRACE).tolist()
    after = events.mature(1000 + FURTHEST + DELAY, DELAY, GRACE).tolist()

    assert (before, after) == ([], [1000 + FURTHEST])
    assert [len(times) for times in (events.rooms[0].waiting, events.rooms[0].joined, events.rooms[0].early)] == [
        0,
        0,
        0,
    ]


def test_beyond_the_cap_events_are_sampled_and_count_for_as_many() -> None:
    events, matured = Labelled(), 0
    for start in range(0, 20_000, 500):
        names, times = [f"e{number}" for number in range(start, start + 500)], list(range(start, start + 500))
        events.serve(0, names, times)
        events.label(0, names, times)
        matured += len(events.mature(start, 5000, GRACE))
        events.bound(1000, 100)

    assert len(events.rooms[0].joined) <= 1000
    assert matured == pytest.approx(20_000 - 500 - 5000, rel=0.1)


def test_labels_without_an_event_are_bounded_and_the_oldest_go_first() -> None:
    events = Labelled()
    events.label(0, [f"e{number}" for number in range(300)], list(range(300)))

    events.bound(100, 50)

    assert sorted(events.rooms[0].early.values()) == list(range(250, 300))
