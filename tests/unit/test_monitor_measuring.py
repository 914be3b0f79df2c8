"""What has matured is measured under the declaration that holds now."""

from dataclasses import replace
from math import isfinite

import msgspec
import pytest

from schemas.specs import ModelSpec, StreamSpec
from services.monitor.domain.clock import Clock, Suspect
from services.monitor.domain.entries import Score, Settled
from services.monitor.domain.state import ModelState, StreamState, dump, load
from services.monitor.measuring import Measuring
from shared.errors import Fatal
from tests.unit.monitor_cases import MODEL, STREAM, facts, rollout


def declared(task: str, **label: object) -> tuple[StreamSpec, ModelSpec]:
    stream = STREAM.model_dump(mode="json") | {"label": {"delay": "2h", **label}}
    return StreamSpec.model_validate(stream), MODEL.model_copy(update={"task": task})


def measuring(state: StreamState, stream: StreamSpec, model: ModelSpec) -> Measuring:
    known = facts(rollout(1), rollout(2, challenger=2)).models["m"]
    mine = state.models.setdefault("m", ModelState())
    known = replace(known, spec=model)
    return Measuring(name="m", facts=known, spec=stream, stream_revision=1, state=state, model=mine, references={})


def settled(number: int, label: float, served: tuple[float, ...], shadow: tuple[float, ...]) -> Settled:
    arms = Score(1, 2, "champion", served), Score(2, 2, "shadow", shadow)
    return Settled(number, 0, f"e{number}", label, *arms)


def test_a_class_that_is_appended_had_no_probability_before() -> None:
    state = StreamState(clock=Clock(leap=1))
    two, model = declared("multiclass", type="category", values=["a", "b"])
    three, _ = declared("multiclass", type="category", values=["a", "b", "c"])

    measuring(state, two, model).settle([settled(1, 0.0, (0.75, 0.25), (0.5, 0.5))])
    state = load(dump(state))
    late = settled(2, 2.0, (0.0, 1.0), (0.5, 0.5))
    measuring(state, three, model).settle([late, settled(3, 2.0, (0.0, 0.5, 0.5), (0.0, 0.0, 1.0))])

    mine = state.models["m"]
    assert mine.versions[1].realised.outputs.tolist() == [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]
    evidence = mine.evidence["1:2"]
    assert evidence.outputs[2].tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert evidence.pairs.total == (0.25 - 0.0625) + (0.75 - 1.0) + (0.0 - 0.25)
    assert mine.versions[1].realised.quality("multiclass", None, []).labelled == 3


def test_numbers_beyond_all_measure_leave_every_total_finite() -> None:
    state = StreamState(clock=Clock(leap=1))
    stream, model = declared("regression", type="float")

    measuring(state, stream, model).settle([settled(1, 1e308, (-1e308,), (1.0,)), settled(2, 2.0, (1.0,), (1e200,))])

    evidence = state.models["m"].evidence["1:2"]
    told = evidence.tell(rollout(2, challenger=2), "m", 0, measured=evidence.metrics("regression"))
    numbers = [told.pairs.total, told.pairs.total_squares, *told.arms["challenger"].metrics.values()]
    assert told.pairs.n == 2
    assert all(isfinite(number) for number in numbers)


def test_a_state_of_another_form_is_refused_with_a_way_out() -> None:
    later = StreamState(clock=Clock(leap=1), form=2)

    with pytest.raises(Fatal, match="form 2, expected 1; run the release that wrote it"):
        load(dump(later))


def test_a_state_that_cannot_be_read_is_refused_with_a_way_out() -> None:
    with pytest.raises(Fatal, match="delete the stream's row"):
        load(msgspec.msgpack.encode({"clock": "noon"}))


def test_a_state_from_before_the_form_was_written_is_read() -> None:
    before = msgspec.msgpack.encode({"clock": {"leap": 1, "suspects": [[5, "e", 0]]}})

    assert load(before).clock.suspects == [Suspect(5, "e", 0)]
