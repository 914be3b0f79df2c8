"""Decisions that hide labels: what the scorer says of them, and what quality is worth then."""

from dataclasses import replace
from itertools import chain

import msgspec
import numpy as np
import pytest

from schemas.events.monitor import WindowMeasured
from schemas.specs import Costs, Label, StreamSpec
from services.deployer.domain.exploring import is_explored
from services.deployer.predictions import Taken
from services.deployer.scoring import StreamScorer
from services.deployer.serving import Known, Serving, Version
from services.monitor.domain.entries import Score, Settled
from services.monitor.domain.estimate import SELECTIVE
from services.monitor.domain.realised import Realised
from services.monitor.intake import Intake, Lane
from shared.matrix import Inputs
from shared.quality import metrics
from shared.records import EXPLORE
from shared.runtime import Scores
from tests.scoring_world import changed, model_spec, release_of, stream_spec, wrapped
from tests.unit.monitor_cases import START, STREAM, World, engine, facts, rollout

SHARE = 0.1
INTAKE = Intake(spec=STREAM)
COSTS = Costs(false_positive=1, false_negative=4)


def labels(**fields: object) -> Label:
    return Label.model_validate({"type": "bool", "delay": "2h", "feedback": "selective"} | fields)


@pytest.mark.parametrize(
    "wrong",
    [{"type": "float"}, {"feedback": "complete", "explore": "2%"}, {"explore": 1}, {"explore": -0.1}],
)
def test_selective_feedback_is_of_a_bool_and_only_it_can_be_explored(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        labels(**wrong)


def test_the_lot_falls_on_the_declared_share_of_events_and_does_not_know_the_arms() -> None:
    ids = [f"e{number}" for number in range(20_000)]

    chosen = [is_explored(each, "m", 0.02) for each in ids]

    assert sum(chosen) / len(ids) == pytest.approx(0.02, abs=0.004)
    assert chosen != [is_explored(each, "other", 0.02) for each in ids]


class Halves:
    """A model that answers every second record with true."""

    def score(self, inputs: Inputs) -> Scores:
        return Scores(score=np.where(np.arange(len(inputs)) % 2, 0.9, 0.2), probabilities=None)


def answered(stream: StreamSpec, events: int = 2000) -> list[dict[str, object]]:
    spec = model_spec("m", "s")
    event = changed(3, release_of(1, spec, stream))
    version = Version(release=event.champion, model=Halves())  # type: ignore[arg-type]
    serving = Serving(changed=event, said=wrapped(event, "said"), champion=version, challenger=None)
    value = b'{"id":"e%d","entity":"a","time":"2013-01-01T00:00:00Z","features":{"heat":9}}'
    taken = Taken([0] * events, range(events), [b"a"] * events, [value % number for number in range(events)])
    scored = StreamScorer(stream, Known(models={"m": "s"}, serving={"m": serving})).score(taken)
    return [msgspec.json.decode(value) for _, value, *_ in filter(None, chain(*scored.outputs))]


def test_where_a_stream_explores_predictions_say_how_likely_their_label_is_and_on_which_the_lot_falls() -> None:
    records = answered(stream_spec("s").model_copy(update={"label": labels(explore=SHARE)}))

    true, false = ([each for each in records if each["label"] is said] for said in (True, False))

    assert {each["propensity"] for each in true} == {1.0}
    assert {each["propensity"] for each in false} == {SHARE}
    assert {tuple(each["flags"]) for each in true} == {("out_of_range:heat",)}  # type: ignore[arg-type]
    explored = [each for each in false if EXPLORE in each["flags"]]  # type: ignore[operator]
    assert len(explored) / len(false) == pytest.approx(SHARE, abs=0.03)
    assert all("out_of_range:heat" in each["flags"] for each in explored)  # type: ignore[operator]


def test_where_it_does_not_nothing_is_added() -> None:
    records = answered(stream_spec("s"), events=10)

    assert all(each.keys().isdisjoint({"propensity"}) for each in records)


def test_labels_that_come_by_lot_speak_for_those_that_do_not() -> None:
    rng, held = np.random.default_rng(5), Realised()
    score = rng.random(20_000)
    truth = rng.random(20_000) < np.where(score < 0.3, 0.4, score)  # wrong where decisions hide it
    explored = np.array([is_explored(f"e{number}", "m", SHARE) for number in range(len(score))])

    seen = np.flatnonzero((score >= 0.5) | explored)
    held.add([settled(each, bool(truth[each]), float(score[each])) for each in seen.tolist()], 20_000)
    true, blind = metrics("binary", truth, score), held.quality("binary", COSTS, [], "selective")
    weighted = held.quality("binary", COSTS, [], "explored")

    for name in ("roc_auc", "accuracy", "brier", "log_loss"):
        assert abs(weighted.metrics[name] - true[name]) < 3 * weighted.errors[name], name
        assert abs(blind.metrics[name] - true[name]) > 3 * blind.errors[name], name
    assert (blind.biased, weighted.biased, weighted.labelled) == (True, False, len(seen))
    assert 0.1 * len(seen) < (weighted.effective or 0.0) < len(seen)
    assert weighted.cost == pytest.approx(
        (((score >= 0.2) & ~truth).mean() + 4 * ((score < 0.2) & truth).mean()), rel=0.1
    )


def settled(number: int, label: bool, score: float) -> Settled:
    answer = {"propensity": 1.0 if score >= 0.5 else SHARE, "label": score >= 0.5, "flags": (EXPLORE,)}
    return Settled(number, 0, f"e{number}", float(label), scored(**answer, score=score), None)


def scored(**said: object) -> Score:
    """As the monitor reads it from a prediction."""
    record = {
        "id": "e@m:1", "event_id": "e", "entity": "d", "model": "m", "version": 1, "arm": "champion", "revision": 1,
        "partition": 0, "offset": 0, "score": 0.5, "label": False, "time": START,
    }  # fmt: skip
    lane = Lane(records=[(0, msgspec.json.encode(record | said))])
    (answer,) = INTAKE.answers(0, lane).answers
    return answer.score


def test_a_label_that_was_not_to_come_speaks_for_nothing() -> None:
    weights = [
        scored(propensity=1.0, label=True).weight,
        scored(propensity=0.1, label=False, flags=[EXPLORE]).weight,
        scored(propensity=0.1, label=False).weight,
        scored().weight,
    ]

    assert weights == [1.0, 10.0, 0.0, 1.0]


@pytest.mark.parametrize(("label", "biased"), [(labels(), True), (labels(explore="10%"), False)])
def test_a_window_says_that_estimates_and_unexplored_labels_are_biased(label: Label, biased: bool) -> None:
    spec, world, watched = STREAM.model_copy(update={"label": label}), World(4), engine()
    watched.intake = Intake(spec=spec)
    for _ in range(600):
        world.event(arms={"champion": 1})

    said = watched.take(world.lanes(watched), replace(facts(rollout(1)), spec=spec))

    last = [word.event for word in said if isinstance(word.event, WindowMeasured)][-1]
    assert last.quality.labelled == 200
    assert last.quality.biased is biased
    assert last.estimated is not None
    assert last.estimated.biased
    assert SELECTIVE in last.estimated.limits
    assert not last.quality.disagrees or not biased
