"""Labels and scores by task, and what a partition's fence lets through."""

from itertools import chain

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from schemas.specs import Costs
from schemas.topics import PREDICTIONS, SHADOW
from services.deployer.answers import answers_of, threshold_of
from services.deployer.places import Place
from services.deployer.predictions import Taken
from services.deployer.scoring import StreamScorer
from services.deployer.serving import Known, Serving, Version
from services.deployer.switching import Switch, switches_of
from shared.matrix import Inputs
from shared.runtime import Scores
from tests.scoring_world import changed, model_spec, release_of, stream_spec, wrapped

SPEC = model_spec("m", "s")


@pytest.mark.parametrize(
    ("costs", "threshold"),
    [(None, 0.5), (Costs(false_positive=1, false_negative=4), 0.2), (Costs(false_positive=0, false_negative=0), 0.5)],
)
def test_a_label_is_true_from_where_it_costs_less(costs: Costs | None, threshold: float) -> None:
    spec = SPEC.model_copy(update={"costs": costs})
    scores = Scores(score=np.array([threshold - 0.01, threshold, threshold + 0.01]), probabilities=None)

    assert threshold_of(spec) == threshold
    assert answers_of(1, spec, ("false", "true"), scores).labels == [False, True, True]


def test_a_multiclass_answer_is_the_likeliest_class_with_all_probabilities_also_of_two() -> None:
    spec = SPEC.model_copy(update={"task": "multiclass"})
    scores = Scores(score=np.array([0.3, 0.6]), probabilities=np.array([[0.7, 0.3], [0.4, 0.6]]))

    answers = answers_of(1, spec, ("cold", "hot"), scores)

    assert (answers.labels, answers.scores) == (["cold", "hot"], [0.7, 0.6])
    assert answers.probabilities[0] == {"cold": 0.7, "hot": 0.3}


def test_a_regression_answer_is_the_value_alone() -> None:
    spec = SPEC.model_copy(update={"task": "regression"})

    answers = answers_of(1, spec, (), Scores(score=np.array([3.5]), probabilities=None))

    assert (answers.scores, answers.labels, answers.probabilities) == ([3.5], [None], [None])


def test_a_number_that_is_not_finite_is_no_answer() -> None:
    spec = SPEC.model_copy(update={"task": "multiclass"})
    values = Scores(score=np.array([-np.inf, 0.7, np.inf]), probabilities=None)
    shares = Scores(score=np.array([0.6, 0.6]), probabilities=np.array([[0.4, 0.6], [-np.inf, 0.6]]))

    assert answers_of(1, SPEC, ("false", "true"), values).scores == [None, 0.7, None]
    assert answers_of(1, spec, ("cold", "hot"), shares).scores == [0.6, None]


class Odd:
    """A model that answers the first record of a batch with NaN."""

    def score(self, inputs: Inputs) -> Scores:
        return Scores(score=np.where(np.arange(len(inputs)) == 0, np.nan, 0.7), probabilities=None)


def counted() -> dict[str, float]:
    """Of stream s and model m, so far."""
    labels = {"stream": "s"}, {"model": "m", "version": "1"}
    named = {
        "refused": {**labels[0], "reason": "poison"},
        "keyed_otherwise": labels[0],
        "not_finite": labels[1],
        "predictions": {**labels[1], "arm": "champion"},
    }
    return {name: REGISTRY.get_sample_value(f"modelbus_scorer_{name}_total", of) or 0.0 for name, of in named.items()}


def test_no_prediction_is_written_without_a_finite_score_and_that_is_counted_once_it_is_committed() -> None:
    release = release_of(1, SPEC, stream_spec("s"))
    event = changed(3, release, release_of(2, SPEC, stream_spec("s")))
    odd = Version(release=release, model=Odd())  # type: ignore[arg-type]
    serving = Serving(changed=event, said=wrapped(event, "said"), champion=odd, challenger=odd)
    scorer = StreamScorer(stream_spec("s"), Known(models={"m": "s"}, serving={"m": serving}))
    value = b'{"id":"e%d","entity":"a","time":"2013-01-01T00:00:00Z","features":{"heat":1,"weight":1,"colour":"red"}}'

    values, before = [value % 0, value % 1, b"{", value % 2], counted()
    scored = scorer.score(Taken([0] * 4, [0, 1, 2, 3], [b"a", b"a", b"a", b"b"], values))

    written = [
        (msgspec.json.decode(value)["event_id"], topic) for topic, value, *_ in filter(None, chain(*scored.outputs))
    ]
    topics = [PREDICTIONS.of("m"), SHADOW.of("m")]
    assert written == [(event_id, topic) for event_id in ("e1", "e2") for topic in topics]
    assert counted() == before
    scored.count()
    assert {name: count - before[name] for name, count in counted().items()} == {
        "refused": 1,
        "keyed_otherwise": 1,
        "not_finite": 2,
        "predictions": 2,
    }
    [(model, revision, scoring)] = scored.compared
    assert (model, revision, scoring.batches, scoring.records) == ("m", 3, 1, 3)
    assert scoring.unanswered == {"champion": 1, "challenger": 1}
    assert all(seconds > 0 for seconds in scoring.seconds.values())


def known(revision: int) -> Known:
    event = changed(revision, release_of(1, SPEC, stream_spec("s")))
    version = Version(release=event.champion, model=None)  # type: ignore[arg-type]  # nothing is scored here
    serving = Serving(changed=event, said=wrapped(event, "said"), champion=version, challenger=None)
    return Known(models={"m": "s", "other": "t"}, serving={"m": serving})


def test_partitions_of_the_models_stream_switch_when_they_are_behind_and_only_then() -> None:
    places = {
        ("data.s", 0): Place(position=7, revisions={"m": 2}),
        ("data.s", 1): Place(position=0),
        ("data.s", 2): Place(position=5, revisions={"m": 3}),
        ("data.t", 0): Place(position=9),
    }

    assert switches_of(known(3), places) == [Switch(("data.s", 0), 7, "m", 3), Switch(("data.s", 1), 0, "m", 3)]


def test_a_place_is_committed_with_its_fence_as_metadata() -> None:
    committed = Place(position=7, revisions={"m": 2}).to_commit(("data.s", 3))

    assert (committed.topic, committed.partition, committed.offset) == ("data.s", 3, 7)
    assert committed.metadata == '{"m":2}'
