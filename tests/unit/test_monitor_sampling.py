"""A monitor that falls behind measures a sample: what it leaves out is counted, and makes nothing wrong."""

import pytest

from schemas.events.monitor import WindowMeasured
from schemas.topics import PREDICTIONS
from services.monitor.domain.sampling import MOST, Pace, kept, kept_of
from services.monitor.domain.state import dump, load
from services.monitor.rounds import Engine
from services.monitor.words import Word
from tests.unit.monitor_cases import World, engine, facts, rollout

IN_SHADOW = facts(rollout(1), rollout(2, challenger=2))
ROUND = 100


def lived(world: World, watched: Engine, levels: list[int]) -> list[Word]:
    """Rounds of a hundred events, all labelled, each at its level; then enough for the last of them to mature."""
    said = list[Word]()
    for level in levels:
        watched.state.sampling = level
        for _ in range(ROUND):
            world.event(arms={"champion": 1, "shadow": 2}, revision=2)
        said += watched.take(world.lanes(watched), IN_SHADOW)
    return said


def counted(watched: Engine) -> tuple[int, int, int, int]:
    counts = watched.state.models["m"].join.counts
    assert counts.predictions == counts.joined + counts.pending + counts.expired + counts.sampled_out
    return counts.predictions, counts.joined + counts.pending, counts.sampled_out, counts.expired


def test_what_is_left_out_is_counted_and_the_rest_is_joined_as_ever() -> None:
    world, watched = World(1), engine()

    said = lived(world, watched, [1] * 16)

    mine = sum(kept(f"e{index}", 1) for index in range(1600))
    assert counted(watched) == (1600, mine, 1600 - mine, 0)
    windows = [word.event for word in said if isinstance(word.event, WindowMeasured)]
    assert len(windows) == mine // 200
    assert {window.predictions for window in windows} == {200}
    assert all(window.verdict == "measured" for window in windows)
    assert windows[-1].estimated is not None
    assert watched.state.models["m"].evidence["1:2"].paired_scores == mine


@pytest.mark.parametrize("levels", [[0] * 5 + [1] * 5 + [3] * 5, [3] * 5 + [2] * 5 + [0] * 10])
def test_when_the_sample_becomes_smaller_or_larger_no_prediction_waits_in_vain(levels: list[int]) -> None:
    world, watched = World(2), engine()

    lived(world, watched, levels)

    predictions, taken, left_out, expired = counted(watched)
    assert (predictions, expired) == (len(levels) * ROUND, 0)
    assert taken > 0
    assert left_out > 0
    assert watched.state.models["m"].join.level == watched.intake.level == levels[-1]


def test_of_events_that_are_sampled_each_counts_for_as_many_as_it_stands_for() -> None:
    world, watched = World(3), engine()

    lived(world, watched, [2] * 40)

    matured = sum(watched.state.matured.hours.values())
    assert matured == pytest.approx(4000 - 180, rel=0.1)


def test_the_clock_comes_to_the_last_answer_though_it_was_left_out() -> None:
    world, watched = World(4), engine()

    lived(world, watched, [MOST] * 4)

    model = watched.state.models["m"]
    assert model.answered == watched.state.data
    assert model.clock == watched.state.matured_until


def test_what_no_scorer_wrote_is_refused_and_holds_nothing_up_though_its_id_is_left_out() -> None:
    world, watched = World(6), engine()
    watched.state.sampling = 1
    left_out = next(f"x{number}" for number in range(100) if not kept(f"x{number}", 1))
    for partition, place in ((0, {"partition": 0, "offset": 10**6}), (1, {"partition": -1, "offset": 0})):
        world.add(PREDICTIONS.of("m"), partition, {"event_id": left_out, "revision": 1} | place)
    for _ in range(ROUND):
        world.event(arms={"champion": 1})

    watched.take(world.lanes(watched), facts(rollout(1)))

    assert counted(watched)[0] == ROUND
    assert watched.state.models["m"].refused == 2


def test_many_names_are_chosen_as_each_of_them() -> None:
    names = [f"e{number}" for number in range(1000)]

    for level in range(MOST + 1):
        assert kept_of(names, level) == [kept(name, level) for name in names]


def test_a_sample_goes_on_as_a_sample_after_a_restart() -> None:
    world, steady, restarted = World(5), engine(), engine()

    for _ in range(4):
        for watched in (steady, restarted):
            watched.state.sampling = 2
        for _ in range(ROUND):
            world.event(arms={"champion": 1})
        for watched in (steady, restarted):
            watched.take(world.lanes(watched), facts(rollout(1)))
        restarted.state = load(dump(restarted.state))

    assert dump(steady.state) == dump(restarted.state)


def test_a_backlog_that_shrinks_is_read_to_its_end() -> None:
    pace, level = Pace(backlog=100), 0

    for second in range(0, 100, 2):
        level = pace.level(level, float(second), 100_000 + 10 * second, 1000 * second)

    assert level == 0


def test_as_much_is_measured_as_can_be_while_more_comes() -> None:
    pace, level, written, taken, seen = Pace(backlog=1000), 0, 0.0, 0.0, list[int]()

    for second in range(120):
        written += 10_000
        taken = min(written, taken + 1_000_000 / (40 + 160 / 2**level))
        level = pace.level(level, float(second), int(written), int(taken))
        seen.append(level)

    assert set(seen[20:]) <= {1, 2, 3}
    assert written - taken < 100_000


def test_where_hardly_more_comes_than_goes_the_sample_becomes_hardly_smaller() -> None:
    pace, level, written, taken = Pace(backlog=1000), 0, 0.0, 0.0

    for second in range(20):
        written += 10_000
        taken += 1_000_000 / (40 + 80 / 2**level)
        level = pace.level(level, float(second), int(written), int(taken))

    assert level == 1
