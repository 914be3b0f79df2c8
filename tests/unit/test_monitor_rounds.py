"""Rounds: what they say depends on what was read up to the barrier, never on how it arrived."""

import random
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from schemas.events.monitor import AlertRaised, AlertResolved, DataQuarantined, RolloutMeasured, WindowMeasured
from schemas.specs import BoolFeature, CategoryFeature
from schemas.topics import DATA, LABELS, PREDICTIONS, SHADOW
from services.monitor.domain.alerts import Alert
from services.monitor.domain.clock import micros
from services.monitor.domain.facts import Run
from services.monitor.domain.state import dump, load
from services.monitor.intake import Intake
from services.monitor.reference import Reference
from services.monitor.rounds import Engine
from services.monitor.words import Word
from tests.unit.monitor_cases import MODEL, START, STREAM, World, candidate, engine, facts, reference_document, rollout

KIND = CategoryFeature(type="category", values=("a", "b"), slice=True)
NUMBERS, LOSS = {"task": "regression"}, reference_document()["expected"]["losses"]["brier"]
SERVING = facts(rollout(1))
IN_SHADOW = facts(rollout(1), rollout(2, challenger=2))


def events(words: list[Word], kind: type) -> list:
    return [word.event for word in words if isinstance(word.event, kind)]


def conserved(watched: Engine) -> bool:
    counts = watched.state.models["m"].join.counts
    return counts.predictions == counts.joined + counts.pending + counts.expired + counts.sampled_out


def test_the_state_and_the_words_are_the_same_however_the_partitions_arrive() -> None:
    world, shuffle = World(), random.Random(3)
    watched = [engine() for _ in range(3)]
    said: list[list[Word]] = [[] for _ in watched]

    for _ in range(6):
        for _ in range(120):
            world.event(arms={"champion": 1, "shadow": 2}, revision=2, labelled=world.rng.random() < 0.9)
        for index, each in enumerate(watched):
            order = list(world.topics)
            shuffle.shuffle(order)
            said[index] += each.take(world.lanes(each, order), IN_SHADOW)

    assert said[0] == said[1] == said[2]
    assert len(events(said[0], WindowMeasured)) == 3
    positions = [{topic: dict(sorted(at.items())) for topic, at in each.state.positions.items()} for each in watched]
    assert positions[0] == positions[1] == positions[2]
    counts = [each.state.models["m"].join.counts for each in watched]
    assert counts[0] == counts[1] == counts[2]


def test_a_window_recomputed_from_the_log_at_its_vectors_has_the_same_numbers() -> None:
    world, live = World(), engine()
    said: list[Word] = []
    for size in (50, 333, 7, 210):
        for _ in range(size):
            world.event(arms={"champion": 1})
        said += live.take(world.lanes(live), SERVING)
    window = events(said, WindowMeasured)[1]

    again = engine()
    everything = world.lanes(again)
    for (topic, partition), lane in everything.items():
        if topic == PREDICTIONS.of("m"):
            start, end = window.predictions_from.get(partition, 0), window.predictions_to[partition]
            lane.records = lane.records[start:end]
    recomputed = events(again.take(everything, SERVING), WindowMeasured)

    assert len(recomputed) == 1
    assert {each.feature: each.value for each in recomputed[0].drift} == {
        each.feature: each.value for each in window.drift
    }
    assert (recomputed[0].time_min, recomputed[0].time_max) == (window.time_min, window.time_max)


@pytest.mark.parametrize("parallel", [1, 3])
def test_every_window_is_equal_when_it_is_recomputed_from_its_vectors_at_any_parallelism(parallel: int) -> None:
    world, live, shuffle = World(), engine(), random.Random(5)
    said: list[Word] = []
    for size in (150, 333, 57, 210, 400):
        for _ in range(size):
            world.event(arms={"champion": 1}, labelled=world.rng.random() < 0.9)
        said += live.take(world.lanes(live), SERVING)

    windows = events(said, WindowMeasured)
    for window in windows:
        again, order = engine(), list(world.topics)
        if parallel > 1:
            shuffle.shuffle(order)
        lanes = world.lanes(again, order)
        ends = {DATA: window.data_to, PREDICTIONS: window.heard_to, LABELS: window.labels_to}
        for (topic, partition), lane in lanes.items():
            until = next((vector for family, vector in ends.items() if topic.startswith(family.name + ".")), {})
            lane.records = lane.records[: until.get(partition, 0)]
        recomputed = events(again.take(lanes, SERVING), WindowMeasured)[window.window]

        assert recomputed == window

    assert len(windows) == 5
    assert windows[-1].estimated is not None
    assert windows[-1].quality.labelled == 200
    assert windows[-1].clock is not None


def test_a_state_that_was_written_goes_on_as_if_nothing_had_happened() -> None:
    world, steady, restarted = World(), engine(), engine()
    said: list[list[Word]] = [[], []]

    for _ in range(5):
        for _ in range(150):
            world.event(arms={"champion": 1, "shadow": 2}, revision=2)
        said[0] += steady.take(world.lanes(steady), IN_SHADOW)
        said[1] += restarted.take(world.lanes(restarted), IN_SHADOW)
        restarted.state = load(dump(restarted.state))

    assert said[0] == said[1]
    assert dump(steady.state) == dump(restarted.state)


def test_answers_wait_until_their_input_was_read_and_their_revision_was_heard_of() -> None:
    world, watched = World(), engine()
    for _ in range(30):
        world.event(arms={"champion": 1}, revision=2)
    lanes = world.lanes(watched)
    lanes[DATA.of("s"), 0].records = []

    watched.take(lanes, facts(rollout(1)))
    before = watched.state.models["m"].join.counts.predictions
    watched.take({where: lane for where, lane in world.lanes(watched).items() if where[0] != DATA.of("s")}, IN_SHADOW)
    heard = watched.state.models["m"].join.counts.predictions
    watched.take(world.lanes(watched), IN_SHADOW)

    assert before == 0
    assert 0 < heard < 30
    assert watched.state.models["m"].join.counts.predictions == 30


def test_a_lagging_scorer_does_not_make_labels_expire() -> None:
    world, watched = World(), engine()
    for _ in range(600):
        world.event(arms={"champion": 1})
    lanes = world.lanes(watched)
    for (topic, _), lane in lanes.items():
        if topic == PREDICTIONS.of("m"):
            lane.records, lane.at_end = lane.records[:20], False

    watched.take(lanes, SERVING)
    held = watched.state.models["m"].join.counts.expired
    watched.take(world.lanes(watched), SERVING)

    counts = watched.state.models["m"].join.counts
    assert (held, counts.expired, counts.joined, counts.predictions) == (0, 0, 600, 600)


@pytest.mark.parametrize("switched", [{}, {0: 0}])
def test_data_that_runs_ahead_of_answers_and_labels_makes_none_expire_before_every_switch_was_heard_of(
    switched: dict[int, int],
) -> None:
    world, watched = World(), engine()
    for _ in range(600):
        world.event(arms={"champion": 1})
    lanes = world.lanes(watched)
    for where, many in ((PREDICTIONS.of("m"), 1), 120), ((LABELS.of("s"), 1), 60):
        lanes[where].records = lanes[where].records[:many]
    ready = SERVING.models["m"]

    said = watched.take(lanes, replace(SERVING, models={"m": replace(ready, served_from=switched)}))
    held = watched.state.models["m"].join.counts.expired
    watched.take(world.lanes(watched), SERVING)

    counts = watched.state.models["m"].join.counts
    assert len(events(said, WindowMeasured)) == 2
    assert (held, counts.expired, counts.joined, counts.predictions) == (0, 0, 600, 600)


@pytest.mark.parametrize(("switched", "moves"), [({0: 0}, True), ({}, False)])
def test_a_partition_that_nobody_serves_does_not_stop_the_clock_and_before_any_is_served_it_stands(
    switched: dict[int, int], moves: bool
) -> None:
    world, watched = World(), engine()
    for _ in range(600):
        world.event(arms={"champion": 1})
    lanes = world.lanes(watched)
    for partition in range(STREAM.partitions):
        if partition not in switched:
            lanes[PREDICTIONS.of("m"), partition].records = []

    watched.take(lanes, replace(SERVING, models={"m": replace(SERVING.models["m"], served_from=switched)}))

    assert (watched.state.models["m"].clock is not None) == moves


def test_what_was_read_before_the_rollout_was_heard_of_is_joined_all_the_same() -> None:
    world, watched = World(17), engine()
    for _ in range(600):
        world.event(arms={"champion": 1})

    watched.take(world.lanes(watched), facts())
    windows = events(watched.take(world.lanes(watched), SERVING), WindowMeasured)

    counts = watched.state.models["m"].join.counts
    assert (counts.predictions, counts.joined, counts.expired) == (600, 600, 0)
    assert [each.verdict for each in windows] == ["measured"] * 3


def test_a_backlog_of_labels_holds_the_clock_back() -> None:
    world, watched = World(), engine()
    for _ in range(900):
        world.event(arms={"champion": 1})
    lanes = world.lanes(watched)
    for (topic, _), lane in lanes.items():
        if topic == LABELS.of("s"):
            lane.records, lane.at_end = lane.records[:50], False

    watched.take(lanes, SERVING)
    watched.take(world.lanes(watched), SERVING)

    counts = watched.state.models["m"].join.counts
    assert (counts.expired, counts.joined) == (0, 900)
    assert sum(watched.state.matured.hours.values()) == 900 - 180


def test_a_label_ahead_of_its_time_does_not_hold_up_those_behind_it() -> None:
    world, watched = World(), engine()
    far = {"id": "far", "entity": "d0", "time": START + timedelta(days=30_000), "label": True}
    for partition in range(3):
        world.add(LABELS.of("s"), partition, far)
    for _ in range(900):
        world.event(arms={"champion": 1})
    lanes = world.lanes(watched)
    for (topic, _), lane in lanes.items():
        if topic == DATA.of("s"):
            lane.at_end = False

    watched.take(lanes, SERVING)

    taken = {p: lane.taken for (topic, p), lane in lanes.items() if topic == LABELS.of("s")}
    left = sum(len(lane.records) - lane.taken for (topic, _), lane in lanes.items() if topic == LABELS.of("s"))
    assert all(count > 1 for count in taken.values())
    assert left == 60  # their time is beyond the clock
    assert watched.state.models["m"].join.counts.expired == 0


def test_labels_that_cannot_be_read_are_counted_and_skipped() -> None:
    world, watched = World(), engine()
    for value in (b"[" * 2000, b"{", b"\xff", None, b"{}"):
        world.topics[LABELS.of("s"), 0].append((len(world.topics[LABELS.of("s"), 0]), value))
    for _ in range(30):
        world.event(arms={"champion": 1})

    watched.take(world.lanes(watched), SERVING)

    assert watched.state.labels_refused == 5
    assert watched.state.models["m"].join.counts.joined == 30


def test_predictions_that_no_scorer_writes_are_counted_and_skipped() -> None:
    world, watched = World(), engine()
    world.event(arms={"champion": 1})
    written = next(
        records[0][1] for (topic, _), records in world.topics.items() if topic == PREDICTIONS.of("m") and records
    )
    assert written is not None
    answer = msgspec.json.decode(written) | {"event_id": "other"}
    wrong = [{"partition": 3}, {"offset": -1}, {"offset": 2**63}, {"time": "0001-01-01T00:00:00+14:00"}, {"score": "x"}]
    for value in (b"[" * 2000, b"{", b"\xff", None, *(msgspec.json.encode(answer | each) for each in wrong)):
        for topic in (PREDICTIONS.of("m"), SHADOW.of("m")):
            world.topics[topic, 0].append((len(world.topics[topic, 0]), value))
    for _ in range(30):
        world.event(arms={"champion": 1})

    watched.take(world.lanes(watched), SERVING)

    model = watched.state.models["m"]
    assert (model.refused, model.join.counts.predictions) == (18, 31)


def test_predictions_are_conserved_while_some_labels_never_come() -> None:
    world, watched = World(), engine(pending=100, early_labels=100)

    for _ in range(20):
        for _ in range(world.rng.randrange(150)):
            world.event(arms={"champion": 1}, labelled=world.rng.random() < 0.7)
        watched.take(world.lanes(watched), SERVING)
        assert conserved(watched)

    assert watched.state.models["m"].join.counts.expired > 0


def test_a_challenger_that_is_worse_shows_in_the_paired_losses() -> None:
    world, watched = World(), engine()
    said: list[Word] = []
    for _ in range(12):
        for _ in range(100):
            world.event(arms={"champion": 1, "shadow": 2}, revision=2)
        said += watched.take(world.lanes(watched), IN_SHADOW)

    measured = events(said, RolloutMeasured)

    assert any(each.paired_scores >= 100 for each in measured[:1])
    last = measured[-1]
    assert (last.revision, last.champion, last.challenger) == (2, 1, 2)
    assert last.pairs == last.pairs_of_revision
    assert last.pairs.n > 900
    assert last.pairs.total / last.pairs.n > 0.01
    assert last.arms["champion"].metrics["brier"] < last.arms["challenger"].metrics["brier"]
    assert last.arms["champion"].scored == last.arms["challenger"].scored == last.paired_scores
    after = [word.after for word in said if isinstance(word.event, RolloutMeasured)]
    assert {each.event_id for each in after if each} == {"rollout-2"}


def test_evidence_of_a_new_revision_starts_anew_and_the_rollout_goes_on() -> None:
    world, watched = World(), engine()
    in_canary = facts(rollout(1), rollout(2, challenger=2), rollout(3, challenger=2))
    said: list[Word] = []
    for revision in (2, 3):
        for _ in range(6):
            for _ in range(100):
                world.event(arms={"champion": 1, "shadow": 2}, revision=revision)
            said += watched.take(world.lanes(watched), IN_SHADOW if revision == 2 else in_canary)

    last = events(said, RolloutMeasured)[-1]

    assert last.revision == 3
    assert 100 < last.pairs_of_revision.n < last.pairs.n - 300


def test_without_drift_nothing_is_alarmed() -> None:
    world, watched = World(5), engine()
    said: list[Word] = []
    for _ in range(40):
        for _ in range(200):
            world.event(arms={"champion": 1})
        said += watched.take(world.lanes(watched), SERVING)

    assert len(events(said, WindowMeasured)) == 40
    assert events(said, AlertRaised) == []


def test_a_large_shift_is_alarmed_in_its_first_window_and_resolved_when_it_is_gone() -> None:
    world, watched = World(6), engine()
    said: list[list[Word]] = []
    for shift in (0, 0, 0, 1.5, 1.5, 0, 0, 0):
        for _ in range(200):
            world.event(heat=world.rng.gauss(shift, 1), arms={"champion": 1})
        said.append(watched.take(world.lanes(watched), SERVING))

    raised = [events(words, AlertRaised) for words in said]

    assert [len(each) for each in raised] == [0, 0, 0, 1, 0, 0, 0, 0]
    assert (raised[3][0].kind, raised[3][0].features[0], raised[3][0].window) == ("drift", "heat", 3)
    resolved = [events(words, AlertResolved) for words in said]
    assert [len(each) for each in resolved] == [0, 0, 0, 0, 0, 0, 1, 0]
    assert resolved[6][0].alert == raised[3][0].alert
    beginning = next(word.id for word in said[3] if isinstance(word.event, AlertRaised))
    after = next(word.after for word in said[6] if isinstance(word.event, AlertResolved))
    assert after is not None
    assert after.event_id == beginning


def test_a_small_shift_is_alarmed_when_it_persists() -> None:
    world, watched = World(16), engine()
    raised = []
    for shift in (0, 0.6, 0, 0.6, 0.6):
        for _ in range(200):
            world.event(heat=world.rng.gauss(shift, 1), arms={"champion": 1})
        raised.append(events(watched.take(world.lanes(watched), SERVING), AlertRaised))

    assert [len(each) for each in raised] == [0, 0, 0, 0, 1]


def test_a_frozen_sensor_is_a_fault_that_is_quarantined_and_no_drift() -> None:
    world, watched = World(7), engine()
    said: list[Word] = []
    for frozen in (False, True, False):
        for _ in range(200):
            world.event(heat=0.25 if frozen else None, arms={"champion": 1})
        said += watched.take(world.lanes(watched), SERVING)

    raised = events(said, AlertRaised)

    assert [(each.kind, each.features) for each in raised] == [("data_fault", ("heat",))]
    quarantined = events(said, DataQuarantined)
    assert [each.features for each in quarantined] == [("heat",)]
    window = events(said, WindowMeasured)[1]
    assert quarantined[0].span.start == window.time_min


def test_a_wrong_unit_is_a_fault() -> None:
    world, watched = World(8), engine()
    for _ in range(200):
        world.event(heat=1000 * world.rng.gauss(0, 1), arms={"champion": 1})

    raised = events(watched.take(world.lanes(watched), SERVING), AlertRaised)

    assert [(each.kind, each.features) for each in raised] == [("data_fault", ("heat",))]


def test_a_category_that_is_not_declared_is_a_fault_and_no_drift() -> None:
    world, watched = World(10), engine()
    said: list[Word] = []
    for share in (0.0, 0.1):
        for _ in range(200):
            world.event(arms={"champion": 1}, kind="new" if world.rng.random() < share else None)
        said += watched.take(world.lanes(watched), SERVING)

    raised = events(said, AlertRaised)

    assert [(each.kind, each.features) for each in raised] == [("data_fault", ("kind",))]
    assert "not declared" in raised[0].explanation


def test_a_small_shift_that_is_kept_up_is_alarmed_though_no_window_shows_it() -> None:
    world, watched = World(11), engine()
    said: list[Word] = []
    for shift in (*[0.0] * 5, *[0.2] * 25):
        for _ in range(200):
            world.event(heat=world.rng.gauss(shift, 1), arms={"champion": 1})
        said += watched.take(world.lanes(watched), SERVING)

    raised = [each for each in events(said, AlertRaised) if each.kind == "drift"]

    assert len(raised) >= 1
    assert raised[0].window >= 5
    assert "kept up since" in raised[0].explanation
    assert [each.explanation for each in open_drift(watched)]


def test_a_sudden_shift_is_dated_to_the_window_it_came_in_and_a_slow_one_is_not() -> None:
    found = []
    for shifts in ([0, 0, 0, 2, 2], [0.3, 0.5, 0.7, 0.9, 1.1]):
        world, watched = World(12), engine()
        for shift in shifts:
            for _ in range(200):
                world.event(heat=world.rng.gauss(shift, 1), arms={"champion": 1})
            watched.take(world.lanes(watched), SERVING)
        found.append([each.since for each in open_drift(watched)])

    assert found == [[micros(START + timedelta(minutes=600))], [None]]


def test_retraining_that_brings_nothing_better_is_said_once_and_resolved_when_a_run_serves() -> None:
    world, watched = World(13), engine()
    run = Run(
        run_id="m-2", number=2, state="closed", reason="drift", explanation="", cut_time=START, data_offsets={},
        labels_offsets={}, outcome="rejected: roc_auc", misses=1,
    )  # fmt: skip
    said: list[list[Word]] = []
    for last in (run, replace(run, misses=2), replace(run, run_id="m-4", misses=0, outcome="serving")):
        world.event(arms={"champion": 1})
        said.append(watched.take(world.lanes(watched), facts(rollout(1), run=last)))

    raised = events([word for words in said for word in words], AlertRaised)

    assert [(each.kind, each.alert) for each in raised] == [("operations", "m-2-no-better")]
    assert "the champion stays" in raised[0].explanation
    assert [len(events(words, AlertResolved)) for words in said] == [0, 0, 1]


def open_drift(watched: Engine) -> list[Alert]:
    return watched.measuring("m", SERVING).open_alerts()["drift"]


def test_quality_below_the_promise_is_decay_when_it_persists() -> None:
    world, watched = World(9), engine()
    serving = facts(rollout(1, champion=2))
    said: list[Word] = []
    for _ in range(10):
        for _ in range(200):
            world.event(arms={"champion": 2})
        said += watched.take(world.lanes(watched), serving)

    raised = events(said, AlertRaised)

    assert [(each.kind, each.features) for each in raised if each.kind == "decay"] == [("decay", ("roc_auc",))]


def test_decay_is_dated_to_where_the_losses_rose() -> None:
    world, watched = World(15), engine()
    for turned in [False] * 5 + [True] * 3:
        for _ in range(200):
            world.event(arms={"champion": 1}, turned=turned)
        watched.take(world.lanes(watched), SERVING)

    (alert,) = watched.measuring("m", SERVING).open_alerts()["decay"]

    assert set(alert.subjects) == {"roc_auc", "brier"}
    assert alert.since is not None
    assert abs(alert.since - micros(START + timedelta(minutes=1000))) <= 40 * 60_000_000


def test_labels_that_stay_away_are_told_once_and_it_is_over_when_they_come_again() -> None:
    world, watched = World(14), engine()
    said: list[Word] = []
    for labelled in (*[0.8] * 4, *[0.1] * 6, *[0.8] * 8):
        for _ in range(200):
            world.event(arms={"champion": 1}, labelled=world.rng.random() < labelled)
        said += watched.take(world.lanes(watched), SERVING)

    raised = [each for each in events(said, AlertRaised) if each.kind == "operations"]

    assert [each.features for each in raised] == [("labels",)]
    assert raised[0].window in (5, 6)
    assert [each.alert for each in events(said, AlertResolved)] == [raised[0].alert]


def test_quality_is_measured_of_every_arm_and_slice_too() -> None:
    sliced = STREAM.model_copy(update={"features": STREAM.features | {"kind": KIND}})
    world, watched = World(15), engine()
    watched.intake = Intake(spec=sliced)
    known = replace(facts(rollout(1), rollout(2, champion=2, challenger=1)), spec=sliced)
    said: list[Word] = []
    for number in range(1200):
        arm = {"canary": 1} if number % 4 == 0 else {"champion": 1}
        world.event(arms=arm, revision=2, kind="a" if number % 3 else "b")
        if number % 100 == 99:
            said += watched.take(world.lanes(watched), known)

    last = events(said, WindowMeasured)[-1]

    assert {arm: each.labelled for arm, each in last.arms.items()} == {"champion": 150, "canary": 50}
    assert [(each.feature, each.value) for each in last.slices] == [("kind", "a"), ("kind", "b")]
    assert sum(each.quality.labelled for each in last.slices) == last.quality.labelled == 200
    assert all(each.quality.errors["roc_auc"] > last.quality.errors["roc_auc"] for each in last.slices)
    assert last.quality.errors.keys() == {"roc_auc", "accuracy", "brier", "log_loss"}


def test_when_other_features_are_sliced_what_was_seen_of_the_first_is_not_taken_for_theirs() -> None:
    first, other = KIND.model_copy(update={"slice": True}), BoolFeature(type="bool", slice=True)
    before = STREAM.model_copy(update={"features": STREAM.features | {"kind": first, "hot": BoolFeature(type="bool")}})
    kind = KIND.model_copy(update={"slice": False})
    after = STREAM.model_copy(update={"features": STREAM.features | {"kind": kind, "hot": other}})
    world, watched, said = World(1), engine(), []

    for spec in (before, before, after, after):
        watched.intake = Intake(spec=spec)
        for _ in range(200):
            world.event(arms={"champion": 1}, more={"hot": world.rng.random() < 0.3})
        said.append(events(watched.take(world.lanes(watched), replace(SERVING, spec=spec)), WindowMeasured)[-1].slices)

    assert [{each.feature for each in slices} for slices in said[1:]] == [{"kind"}, set(), {"hot"}]


def test_what_is_expected_of_numbers_counts_every_pair_however_late_the_shadow_is_heard() -> None:
    world, together, apart = World(8), engine(), engine()
    document = reference_document()
    document = document | {"expected": document["expected"] | {"losses": {"squared": LOSS, "absolute": LOSS}}}
    known = replace(IN_SHADOW, models={"m": replace(IN_SHADOW.models["m"], spec=MODEL.model_copy(update=NUMBERS))})
    for each in (together, apart):
        each.references = {("m", v): Reference.of(document, candidate(v), STREAM) for v in (1, 2)}

    for _ in range(4):
        for _ in range(100):
            world.event(arms={"champion": 1, "shadow": 2}, revision=2)
        together.take(world.lanes(together), known)
        lanes = world.lanes(apart)
        apart.take({where: lane for where, lane in lanes.items() if where[0] != SHADOW.of("m")}, known)
        apart.take({where: lane for where, lane in lanes.items() if where[0] == SHADOW.of("m")}, known)

    expected = [each.state.models["m"].evidence["1:2"].expected for each in (together, apart)]
    assert [each.n for each in expected] == [400, 400]
    assert expected[0].total == pytest.approx(expected[1].total)
    assert sum(len(block.offsets) for block in apart.state.rows.blocks.values()) == 0


def test_the_state_holds_what_waits_and_what_is_suspect_but_names_no_entity() -> None:
    world, watched = World(), engine()
    for _ in range(5):
        world.event(arms={"champion": 1})
    far = {"time": START + timedelta(days=9000), "features": {"heat": 1.0, "kind": "a"}}
    for number in range(3):
        world.add(DATA.of("s"), 0, {"id": f"far{number}", "entity": "anna-14228", **far})
    served = {"event_id": "far0", "entity": "anna-14228", "model": "m", "version": 1, "arm": "champion"}
    place = {"revision": 1, "partition": 0, "offset": 0, "score": 0.5, "label": False, "time": START}
    world.add(PREDICTIONS.of("m"), 0, {"id": "far0@m:1", **served, **place})

    watched.take(world.lanes(watched), SERVING)

    assert {"far0", "far1", "far2"} <= {suspect.id for suspect in watched.state.clock.suspects}
    assert "far0" in watched.state.models["m"].join.entries[0]
    assert b"anna" not in dump(watched.state)
