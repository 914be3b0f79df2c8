"""When a model is asked to be trained again, and when the request may be said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.specs import Retraining
from services.monitor.domain.facts import ModelFacts, Order, Run, Said, TableVersion
from services.monitor.domain.retraining import abandoned, covering, wish
from tests.unit.monitor_cases import MODEL, rollout

NOW = datetime(2013, 3, 1, tzinfo=UTC)
SERVING = {1: rollout(1)}
DRIFT = {"drift": ["heat: ks 0.4 above 0.1"]}


def run(state: str = "closed", ago: timedelta = timedelta(days=5), **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "run_id": "m-1",
        "number": 1,
        "state": state,
        "reason": "first",
        "explanation": "",
        "cut_time": NOW - ago,
        "data_offsets": {0: 5},
        "labels_offsets": {0: 3},
    }
    return Run(**fields | changes)


def model(**changes: Any) -> ModelFacts:
    policy = {"every": timedelta(days=30), "cooldown": timedelta(days=2)} | changes.pop("policy", {})
    return ModelFacts(spec=MODEL.model_copy(update={"retraining": Retraining(**policy)}), **changes)


def reason(facts: ModelFacts, rows: int = 1000, alerts: dict[str, list[str]] | None = None) -> str | None:
    found = wish(facts, clock=NOW, matured_rows=rows, alerts=alerts or {})
    return found.reason if found else None


def test_the_first_run_waits_for_min_rows() -> None:
    assert reason(model(), rows=299) is None
    assert reason(model(), rows=300) == "first"


@pytest.mark.parametrize("state", ["wanted", "requested"])
def test_while_a_run_is_open_nothing_is_wished(state: str) -> None:
    order = Order(event_id="o", actor="ann", reason="please")

    assert reason(model(rollouts=SERVING, run=run(state), orders=[order]), alerts=DRIFT) is None


def test_drift_and_decay_ask_when_the_spec_lets_them_and_decay_comes_first() -> None:
    assert reason(model(rollouts=SERVING, run=run()), alerts=DRIFT) == "drift"
    assert reason(model(rollouts=SERVING, run=run()), alerts=DRIFT | {"decay": ["roc_auc 0.6"]}) == "decay"
    assert reason(model(rollouts=SERVING, run=run(), policy={"on": ("schedule",)}), alerts=DRIFT) is None


def test_the_schedule_counts_from_the_last_cut() -> None:
    assert reason(model(rollouts=SERVING, run=run(ago=timedelta(days=29)))) is None
    assert reason(model(rollouts=SERVING, run=run(ago=timedelta(days=30)))) == "schedule"


def test_a_rejected_candidate_is_tried_again_only_after_the_cooldown() -> None:
    assert reason(model(run=run(ago=timedelta(days=1)))) is None
    assert reason(model(run=run(ago=timedelta(days=2)))) == "first"
    assert reason(model(rollouts=SERVING, run=run(ago=timedelta(days=1))), alerts=DRIFT) is None


def test_a_persons_word_does_not_wait_for_the_cooldown() -> None:
    order = Order(event_id="o", actor="ann", reason="please")

    assert reason(model(rollouts=SERVING, run=run(ago=timedelta(hours=1)), orders=[order])) == "person"


def test_a_run_that_vanished_is_given_up_unless_its_candidate_is_being_rolled_out() -> None:
    long_ago = run("requested", ago=timedelta(days=91))

    assert abandoned(model(rollouts=SERVING, run=long_ago), NOW)
    assert not abandoned(model(rollouts={1: rollout(1), 2: rollout(2, challenger=2)}, run=long_ago), NOW)
    assert not abandoned(model(rollouts=SERVING, run=run("requested", ago=timedelta(days=89))), NOW)
    assert not abandoned(model(rollouts=SERVING, run=run("wanted", ago=timedelta(days=91))), NOW)


def test_a_wish_is_said_only_when_both_tables_hold_what_it_was_decided_on() -> None:
    def table(kind: Any, offset: int) -> TableVersion:
        return TableVersion(kind=kind, version=offset, offsets={0: offset}, said=Said(event_id=f"{kind}@{offset}"))

    assert covering(run(), [table("data", 5)]) is None
    assert covering(run(), [table("labels", 2), table("data", 9)]) is None
    found = covering(run(), [table("labels", 3), table("data", 5)])
    assert found is not None
    assert [each.said.event_id for each in found.values()] == ["labels@3", "data@5"]
