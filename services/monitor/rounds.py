"""One round of a stream: everything read up to a barrier is taken in, in an order that no interleaving changes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest

from schemas.topics import DATA, LABELS, PREDICTIONS, SHADOW
from services.monitor.domain.clock import Checkpoint, answered_until, length
from services.monitor.domain.facts import ModelFacts, StreamFacts
from services.monitor.domain.join import Score, Settled
from services.monitor.domain.state import ModelState, StreamState, Vector
from services.monitor.intake import Answer, DataPart, Intake, LabelSaid, Lane
from services.monitor.settings import Settings

Lanes = Mapping[tuple[str, int], Lane]
_SEEN = Score(0, 0, "data", ())  # in the stream's own join, where data events stand in the place of predictions
_CHECKPOINTS = 1000


@dataclass(kw_only=True)
class Engine:
    """Takes rounds of one stream into its state. No I/O; `take` is called from one thread at a time."""

    state: StreamState
    limits: Settings
    intake: Intake

    def take(self, lanes: Lanes, facts: StreamFacts) -> dict[str, list[Settled]]:
        """Take in what may be taken; each lane says how much that was. Returns what matured, by model."""
        stream = facts.spec.stream
        data = {p: self.intake.data(lane.records) for p, lane in _of(lanes, DATA.of(stream))}
        self._data(data)
        for _, lane in _of(lanes, DATA.of(stream)):
            lane.taken = len(lane.records)
        served = {name: model for name, model in facts.models.items() if model.rollouts}
        for name, model in served.items():
            self._answers(name, model, lanes)
        self._labels(stream, lanes)
        self._moved(lanes)
        self._checkpoint()
        return self._mature(facts, lanes, served)

    def _data(self, parts: Mapping[int, DataPart]) -> None:
        state = self.state
        state.clock.advance(_in_turn(zip(part.times, part.ids, strict=True) for part in parts.values()))
        for partition, part in parts.items():
            state.refused += part.refused
            if not part.ids:
                continue
            state.data[partition] = int(part.offsets[-1]) + 1
            state.rows.add(partition, part.offsets, part.values)
            for event, time in zip(part.ids, part.times, strict=True):
                state.join.serve(event, partition, time, _SEEN, state.clock.high)

    def _answers(self, name: str, facts: ModelFacts, lanes: Lanes) -> None:
        model = self.state.models.setdefault(name, ModelState())

        def known(answer: Answer) -> bool:
            """Its input was read, and its revision heard of: else it waits, as both are under way."""
            return (
                answer.input_offset < self.state.data.get(answer.input_partition, 0)
                and answer.score.revision in facts.rollouts
            )

        for partition, lane in _of(lanes, PREDICTIONS.of(name)):
            for answer in self.intake.answers(partition, lane, known):
                model.join.serve(answer.id, partition, answer.time, answer.score, self.state.clock.high)
                at = answer.input_partition
                model.answered[at] = max(model.answered.get(at, 0), answer.input_offset + 1)
        for partition, lane in _of(lanes, SHADOW.of(name)):
            for answer in self.intake.answers(partition, lane, known):
                model.join.shadow(answer.id, partition, answer.time, answer.score)

    def _labels(self, stream: str, lanes: Lanes) -> None:
        """Labels do not run ahead of the data while there is a backlog, so that few have to wait for their events."""
        state, high = self.state, self.state.clock.high
        caught_up = all(lane.at_end for _, lane in _of(lanes, DATA.of(stream)))
        for partition, lane in _of(lanes, LABELS.of(stream)):
            taken = self.intake.labels(lane, lambda time: caught_up or high is None or time <= high)
            if taken:
                state.labels[partition] = taken[-1].offset + 1
                state.labels_time[partition] = max(state.labels_time.get(partition, 0), *(_plausible(taken, high)))
            for join in (state.join, *(model.join for model in state.models.values())):
                for label in taken:
                    join.label(label.id, partition, label.time, label.value)
        state.labels_refused, self.intake.refused_labels = state.labels_refused + self.intake.refused_labels, 0

    def _moved(self, lanes: Lanes) -> None:
        for (topic, partition), lane in lanes.items():
            if lane.taken:
                self.state.positions.setdefault(topic, {})[partition] = lane.records[lane.taken - 1][0] + 1

    def _checkpoint(self) -> None:
        state = self.state
        if state.clock.high is None or (state.checkpoints and state.checkpoints[-1].offsets == state.data):
            return
        state.checkpoints.append(Checkpoint(dict(state.data), state.clock.high))
        if len(state.checkpoints) > _CHECKPOINTS:
            state.checkpoints = state.checkpoints[::2] + state.checkpoints[-1:]

    def _mature(self, facts: StreamFacts, lanes: Lanes, served: Mapping[str, ModelFacts]) -> dict[str, list[Settled]]:
        state, spec = self.state, facts.spec
        delay, grace = length(spec.label.delay), length(spec.lateness)
        high = _labels_reach(state, spec.stream, lanes)
        if high is None:
            return {}
        clock = state.matured_until = max(high - grace, state.matured_until or 0)
        state.matured.add(settled.time for settled in state.join.mature(clock, delay, grace))
        state.join.bound(self.limits.pending, self.limits.early_labels)
        matured = {}
        for name, model_facts in served.items():
            model = state.models[name]
            reached = answered_until(state.checkpoints, _answered(model, model_facts))
            if reached is not None:
                model.clock = max(min(high, reached) - grace, model.clock or 0)
                matured[name] = model.join.mature(model.clock, delay, grace)
            model.join.bound(self.limits.pending, self.limits.early_labels)
        self._forget(served)
        return matured

    def _forget(self, served: Mapping[str, ModelFacts]) -> None:
        """Rows and checkpoints that all served models have answered."""
        state = self.state
        vectors = [_answered(state.models[name], facts) for name, facts in served.items()]
        state.rows.answered({p: min(vector.get(p, 0) for vector in vectors) if vectors else at
                             for p, at in state.data.items()})  # fmt: skip
        state.rows.bound(self.limits.unanswered_rows)
        reached = [i for i, mark in enumerate(state.checkpoints)
                   if all(answered_until([mark], vector) is not None for vector in vectors)]  # fmt: skip
        state.checkpoints = state.checkpoints[reached[-1] if reached else 0 :]


def _of(lanes: Lanes, topic: str) -> Iterator[tuple[int, Lane]]:
    return ((partition, lane) for (name, partition), lane in sorted(lanes.items()) if name == topic)


def _in_turn(parts: Iterable[Iterable[tuple[int, str]]]) -> Iterator[tuple[int, str]]:
    """One record of each partition after the other: the same order however they arrived."""
    return (each for each in chain.from_iterable(zip_longest(*parts)) if each is not None)


def _plausible(labels: list[LabelSaid], high: int | None) -> Iterator[int]:
    return (label.time if high is None else min(label.time, high) for label in labels)


def _answered(model: ModelState, facts: ModelFacts) -> Vector:
    """Input offsets without an answer yet, of the partitions that are served."""
    return {p: max(at, model.answered.get(p, 0)) for p, at in facts.served_from.items()}


def _labels_reach(state: StreamState, stream: str, lanes: Lanes) -> int | None:
    """The clock, held back to how far the labels have been read while there is a backlog of them."""
    high = state.clock.high
    if high is None:
        return None
    for partition, lane in _of(lanes, LABELS.of(stream)):
        waiting = lane.taken < len(lane.records)
        if not lane.at_end and not waiting:
            high = min(high, state.labels_time.get(partition, 0))
    return high
