"""When a model is asked to be trained again, and when the request may be said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.specs import Retraining
from services.monitor.domain.alerts import Alert
from services.monitor.domain.clock import micros
from services.monitor.domain.facts import ModelFacts, Order, Run, Said, TableVersion
from services.monitor.domain.retraining import Wish, abandoned, covering, next_attempt, wish
from tests.unit.monitor_cases import MODEL, rollout

NOW = datetime(2013, 3, 1, tzinfo=UTC)
SERVING = {1: rollout(1)}
DRIFT = {"drift": [Alert("a", ("heat",), "heat: ks 0.4 above 0.1")]}
DECAY = {"decay": [Alert("b", ("roc_auc",), "roc_auc 0.6")]}


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


def wished(facts: ModelFacts, rows: int = 1000, alerts: dict[str, list[Alert]] | None = None) -> Wish | None:
    return wish(facts, clock=NOW, matured=lambda _: rows, alerts=alerts or {})


def reason(facts: ModelFacts, rows: int = 1000, alerts: dict[str, list[Alert]] | None = None) -> str | None:
    found = wished(facts, rows, alerts)
    return found.reason if found else None


def sudden(ago: timedelta) -> dict[str, list[Alert]]:
    return {"drift": [Alert("a", ("heat",), "heat: ks 0.4 above 0.1", micros(NOW - ago))]}


def test_the_first_run_waits_for_min_rows() -> None:
    assert reason(model(), rows=299) is None
    assert reason(model(), rows=300) == "first"


@pytest.mark.parametrize("state", ["wanted", "requested"])
def test_while_a_run_is_open_nothing_is_wished(state: str) -> None:
    order = Order(event_id="o", actor="ann", reason="please")

    assert reason(model(rollouts=SERVING, run=run(state), orders=[order]), alerts=DRIFT) is None


def test_drift_and_decay_ask_when_the_spec_lets_them_and_decay_comes_first() -> None:
    assert reason(model(rollouts=SERVING, run=run()), alerts=DRIFT) == "drift"
    assert reason(model(rollouts=SERVING, run=run()), alerts=DRIFT | DECAY) == "decay"
    assert reason(model(rollouts=SERVING, run=run(), policy={"on": ("schedule",)}), alerts=DRIFT) is None


def test_the_schedule_counts_from_the_last_cut() -> None:
    assert reason(model(rollouts=SERVING, run=run(ago=timedelta(days=29)))) is None
    assert reason(model(rollouts=SERVING, run=run(ago=timedelta(days=30)))) == "schedule"


def test_a_rejected_candidate_is_tried_again_only_after_the_cooldown() -> None:
    assert reason(model(run=run(ago=timedelta(days=1)))) is None
    assert reason(model(run=run(ago=timedelta(days=2)))) == "first"
    assert reason(model(rollouts=SERVING, run=run(ago=timedelta(days=1))), alerts=DRIFT) is None


def test_after_a_dated_change_a_run_waits_until_enough_has_come_since_but_not_for_ever() -> None:
    serving = model(rollouts=SERVING, run=run(ago=timedelta(days=20)))

    early, enough = (wished(serving, rows, sudden(timedelta(days=3))) for rows in (299, 300))
    given_up = wished(serving, 299, sudden(timedelta(days=30)))
    long_ago = wished(serving, 300, sudden(timedelta(days=60)))

    assert early is None
    assert (enough and enough.since) == NOW - timedelta(days=3)
    assert [each and (each.reason, each.since) for each in (given_up, long_ago)] == [("drift", None)] * 2


def test_after_a_change_a_run_is_followed_by_another_when_what_is_known_of_the_new_world_has_doubled() -> None:
    changed, cut = NOW - timedelta(days=9), NOW - timedelta(days=5)
    serving = model(rollouts=SERVING, run=run(reason="decay", cut_time=cut, since=changed))

    def followed(since_the_cut: int, facts: ModelFacts = serving) -> Wish | None:
        rows = {changed: 1000, cut: since_the_cut}
        return wish(facts, clock=NOW, matured=lambda since: rows.get(since, 0), alerts={})

    found = followed(500)

    assert (found and (found.reason, found.since)) == ("decay", changed)
    assert followed(499) is None
    assert followed(500, model(rollouts=SERVING, run=serving.run, policy={"on": ("schedule",)})) is None


def test_when_the_window_holds_the_new_world_alone_nothing_follows() -> None:
    old = run(reason="decay", ago=timedelta(days=5), since=NOW - timedelta(days=60))

    assert wished(model(rollouts=SERVING, run=old)) is None


def test_a_run_that_was_no_better_is_tried_again_later_each_time_up_to_the_schedule() -> None:
    def days(misses: int) -> int:
        facts = model(rollouts=SERVING, run=run(misses=misses))
        assert facts.run is not None
        return (next_attempt(facts, facts.run) - facts.run.cut_time).days

    assert [days(misses) for misses in range(6)] == [2, 4, 8, 16, 30, 30]
    assert reason(model(rollouts=SERVING, run=run(misses=2)), alerts=DRIFT) is None


def test_five_hundred_alerts_make_one_run_and_drift_during_it_one_follow_up() -> None:
    requests, open_run, clock = [], None, NOW
    for hour in range(500):
        clock = NOW + timedelta(hours=hour)
        if open_run is not None and hour == 400:
            open_run = replace(open_run, state="closed", outcome="serving")
        facts = model(rollouts=SERVING, run=open_run, policy={"on": ("drift",)})
        found = wish(facts, clock=clock, matured=lambda _: 1000, alerts=DRIFT)
        if found:
            requests.append(hour)
            open_run = run("requested", cut_time=clock)

    assert requests == [0, 400]


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
