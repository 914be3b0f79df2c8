"""What was said of a model follows from its records below the vectors, whatever the rounds in between were."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events.monitor import AlertRaised, AlertResolved, DataQuarantined, WindowMeasured
from schemas.specs import Monitoring
from schemas.topics import DATA, LABELS, PREDICTIONS
from services.monitor.domain.facts import StreamFacts
from services.monitor.recomputation import Cut, Recomputation, Records, cuts_of, hold_whole
from services.monitor.rounds import Engine
from services.monitor.words import Word
from shared.errors import Refusal
from tests.unit.monitor_cases import START, World, engine, facts, reference_document, rollout


def of_windows(window: int) -> StreamFacts:
    """Two versions, and windows of so many predictions."""
    model = BOTH.models["m"]
    spec = model.spec.model_copy(update={"monitoring": Monitoring(window=window)})
    return replace(BOTH, models={"m": replace(model, spec=spec)})


SERVING = facts(rollout(1))
BOTH = facts(rollout(1), rollout(2, challenger=2))
WIDE, NEVER = of_windows(1000), of_windows(100_000)
OF_WINDOWS = (WindowMeasured, AlertRaised, AlertResolved, DataQuarantined)


def lived(world: World, seed: int, watched: Engine | None = None, declared: StreamFacts = BOTH) -> list[Word]:
    """A life of many rounds: drift, a broken sensor, labels that come early, late, again, otherwise or never."""
    rng, watched, said, late = random.Random(seed), watched or engine(), list[Word](), list[int]()
    for _ in range(rng.randrange(8, 16)):
        shift, frozen = rng.choice([0, 0, 0, 0.6, 2]), rng.random() < 0.1
        for _ in range(rng.randrange(1, 300)):
            heat = 0.25 if frozen else rng.gauss(shift, 1)
            world.event(heat=heat, arms={"champion": rng.choice([1, 1, 1, 2])}, labelled=rng.random() < 0.8)
            late += [world.made - 1] * (rng.random() < 0.3)
        for index in [late.pop(rng.randrange(len(late))) for _ in range(len(late) // 2)]:
            time, partition = START + timedelta(minutes=index), rng.randrange(3)
            known = {"id": f"e{index}", "entity": f"d{partition}", "time": time, "label": rng.random() < 0.5}
            world.add(LABELS.of("s"), partition, known)
        if rng.random() < 0.3:
            again(world, rng)
        lanes = world.lanes(watched)
        for lane in lanes.values():
            if rng.random() < 0.3:
                lane.records, lane.at_end = lane.records[: rng.randrange(len(lane.records) + 1)], False
        said += watched.take(lanes, declared)
    return [word for word in said if isinstance(word.event, OF_WINDOWS)]


def again(world: World, rng: random.Random) -> None:
    """A producer repeats some of what it sent, and each is answered again."""
    for (topic, _), records in world.topics.items():
        if topic == PREDICTIONS.of("m") and records:
            records.append((len(records), records[rng.randrange(len(records))][1]))


def cuts(said: Sequence[Word], declared: StreamFacts = BOTH) -> list[Cut]:
    return cuts_of([word.event for word in said if isinstance(word.event, WindowMeasured)], lambda _: declared)


def recomputed(
    world: World, said: Sequence[Word], asked: Monitoring | None = None, declared: StreamFacts = BOTH
) -> list[Word]:
    windows, document = [each.event for each in said if isinstance(each.event, WindowMeasured)], reference_document()
    again = Recomputation(model="m", windows=windows, documents={1: document, 2: document}, asked=asked)
    found, at = list[Word](), dict[tuple[str, int], int]()
    for cut in cuts(said, declared):
        found += again.take(cut, between(world, cut, at))
    return found


def between(world: World, cut: Cut, at: dict[tuple[str, int], int]) -> Records:
    """The records up to the cut's vectors, from where the last one ended."""
    records = {}
    for topic, vector in cut.vectors("m").items():
        for partition in range(3):
            where, end = (topic, partition), vector.get(partition, 0)
            records[where] = world.topics[where][at.get(where, 0) : end]
            at[where] = max(at.get(where, 0), end)
    return records


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_windows_and_alerts_are_equal_bit_for_bit_whatever_the_rounds_were(seed: int) -> None:
    world = World(seed)
    said = lived(world, seed)

    found = recomputed(world, said)

    assert [(word.id, word.event.encode()) for word in found] == [(word.id, word.event.encode()) for word in said]


@pytest.mark.parametrize("seed", [0, 3, 8, 12])
def test_they_are_equal_too_where_the_join_was_cleared_before_a_window_closed(seed: int) -> None:
    world = World(seed)
    said = lived(world, seed, engine(pending=700), WIDE)
    windows = [word.event for word in said if isinstance(word.event, WindowMeasured)]

    found = recomputed(world, said, declared=WIDE)

    assert [(word.id, word.event.encode()) for word in found] == [(word.id, word.event.encode()) for word in said]
    assert any(window.cleared for window in windows)
    assert not any(window.sampled_out for window in windows)


def test_a_model_that_closes_no_window_holds_no_more_than_a_quarter_beyond_what_may_wait() -> None:
    world, watched, most = World(4), engine(pending=400), 0
    for _ in range(20):
        for _ in range(200):
            world.event(arms={"champion": 1})
        watched.take(world.lanes(watched), NEVER)
        most = max(most, sum(map(len, watched.state.models["m"].join.entries.values())))

    counts = watched.state.models["m"].join.counts
    assert most <= 500
    assert (counts.predictions, counts.sampled_out, counts.expired) == (4000, 0, 0)
    assert counts.joined > 3500


def test_windows_beyond_whose_bounds_predictions_were_sampled_out_are_not_recomputed() -> None:
    world, watched, said = World(2), (engine(), engine(pending=100)), ([], [])
    for _ in range(4):
        for _ in range(150):
            world.event(arms={"champion": 1})
        for each, words in zip(watched, said, strict=True):
            words.extend(each.take(world.lanes(each), SERVING))
    whole, sampled = map(cuts, said)

    hold_whole(whole)
    with pytest.raises(Refusal, match=r"m:1 window 0: \d+ predictions had been sampled out"):
        hold_whole(sampled)


def test_alerts_of_every_kind_come_out_again() -> None:
    world, watched, said = World(9), engine(), list[Word]()
    serving = facts(rollout(1, champion=2))
    for shift in (0, 0, 2, 2, 0, 0, *[0] * 6):
        for _ in range(200):
            world.event(heat=world.rng.gauss(shift, 1), arms={"champion": 2})
        said += watched.take(world.lanes(watched), serving)
    said = [word for word in said if isinstance(word.event, OF_WINDOWS)]

    found = recomputed(world, said)

    assert [word.event for word in found] == [word.event for word in said]
    assert {word.event.kind for word in found if isinstance(word.event, AlertRaised)} == {"drift", "decay"}


@pytest.mark.parametrize(("asked", "raised"), [(Monitoring(window=200), 1), (Monitoring(window=1000), 0)])
def test_another_configuration_says_what_it_would_have_said(asked: Monitoring, raised: int) -> None:
    world, watched, said = World(6), engine(), list[Word]()
    for shift in (0, 0, 0, 1.5, 0, 0):
        for _ in range(200):
            world.event(heat=world.rng.gauss(shift, 1), arms={"champion": 1})
        said += watched.take(world.lanes(watched), SERVING)

    found = recomputed(world, said, asked)

    assert len([word for word in found if isinstance(word.event, AlertRaised)]) == raised
    assert len([word for word in found if isinstance(word.event, WindowMeasured)]) == 1200 // asked.window


def test_what_a_record_of_the_log_is_changed_to_shows() -> None:
    world, watched = World(3), engine()
    for _ in range(400):
        world.event(arms={"champion": 1})
    said = watched.take(world.lanes(watched), replace(SERVING))
    where = next(place for place in world.topics if place[0] == DATA.of("s"))
    world.topics[where][0] = (0, world.topics[where][1][1])

    found = recomputed(world, [word for word in said if isinstance(word.event, OF_WINDOWS)])

    assert [word.event for word in found] != [word.event for word in said if isinstance(word.event, OF_WINDOWS)]
