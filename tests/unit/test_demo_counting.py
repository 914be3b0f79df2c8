"""The demo's independent count: what it accepts, and that it finds each kind of fault."""

import json

import pytest

from cli.demonstration.counting import DECODE_ANSWER, Topics, count, first_served, latencies_ms
from cli.demonstration.reading import Raw
from schemas.events.deployer import RolloutSwitched

MODEL = "m"


def raw(topic: str, partition: int, offset: int, value: object, *, at: int = 0, headers: tuple = ()) -> Raw:
    return Raw(topic, partition, offset, at, None, list(headers), json.dumps(value).encode())


def answer(offset: int, **changes: object) -> dict[str, object]:
    said = {"event_id": f"e{offset}", "entity": "a", "model": MODEL, "version": 1, "arm": "champion", "partition": 0}
    return said | {"offset": offset, "score": 0.5} | changes


def topics(*answers: dict[str, object], events: int = 4) -> Topics:
    found = Topics(data={(0, n): raw("data.s", 0, n, {"id": f"e{n}", "entity": "a"}, at=n) for n in range(events)})
    for place, each in enumerate(answers):
        said = raw(f"predictions.{MODEL}", 0, place, each, at=10 * (place + 1))
        found.answers[MODEL].append((said, DECODE_ANSWER(said.value)))
    return found


def letter(partition: int, offset: int, topic: str = "data.s") -> Raw:
    headers = {"topic": topic, "partition": partition, "offset": offset}
    told = [(f"dlq-origin-{name}", str(value).encode()) for name, value in headers.items()]
    return raw("dead-letters", 0, 0, "?", headers=(*told, ("dlq-reason", b"rejected")))


def test_one_prediction_for_each_accepted_event_since_the_first_champion_has_no_fault() -> None:
    read = topics(answer(1), answer(3, version=2, arm="canary"))
    read.bury(letter(0, 2), "data.s")

    found = count(MODEL, read, {0: 1})

    assert not found.faults
    assert (found.accepted, found.answered_once, found.unserved) == (3, 2, 1)
    assert found.by_version_and_arm == {"v1 champion": 1, "v2 canary": 1}
    assert read.dead_reasons == {"data.s: rejected": 1}


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ([answer(1), answer(3)], "missing"),
        ([answer(1), answer(2), answer(2), answer(3)], "repeated"),
        ([answer(0), answer(1), answer(2), answer(3)], "before_first_champion"),
        ([answer(1), answer(2), answer(3), answer(9)], "of_no_event"),
        ([answer(1), answer(2, event_id="e1"), answer(3)], "other_event"),
        ([answer(1), answer(2, entity="b"), answer(3)], "other_event"),
        ([answer(1), answer(2, arm="shadow"), answer(3)], "wrong_arm"),
        ([answer(1), answer(2, version=0), answer(3)], "without_version"),
        ([answer(1), answer(3), answer(2)], "out_of_order"),
    ],
)
def test_each_kind_of_fault_is_found(answers: list[dict[str, object]], fault: str) -> None:
    found = count(MODEL, topics(*answers), {0: 1})

    assert found.faults.get(fault) == 1


def test_a_prediction_for_a_refused_event_is_a_fault() -> None:
    read = topics(answer(1), answer(2), answer(3))
    read.bury(letter(0, 2), "data.s")

    assert count(MODEL, read, {0: 1}).faults == {"of_refused": 1}


def test_dead_letters_of_other_topics_refuse_no_event() -> None:
    read = topics(answer(1), answer(2), answer(3))
    read.bury(letter(0, 2, topic="labels.s"), "data.s")

    assert not count(MODEL, read, {0: 1}).faults


def test_a_partition_that_was_never_switched_is_unserved() -> None:
    assert count(MODEL, topics(), {}).unserved == 4


def test_a_model_is_served_in_each_partition_from_its_first_switch_on() -> None:
    def switch(partition: int, offset: int, revision: int, model: str = MODEL) -> RolloutSwitched:
        return RolloutSwitched(model=model, stream="s", partition=partition, offset=offset, revision=revision)

    switches = [switch(0, 9, 2), switch(0, 4, 1), switch(1, 7, 1), switch(1, 1, 1, model="other")]

    assert first_served(switches, MODEL) == {0: 4, 1: 7}


def test_latency_is_from_the_brokers_time_of_the_event_to_that_of_its_prediction() -> None:
    assert latencies_ms(topics(answer(1), answer(3)), MODEL) == [9, 17]
