"""One round of a stream: everything read up to a barrier is taken in, in an order that no interleaving changes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from schemas.topics import DATA, LABELS, PREDICTIONS, SHADOW
from services.monitor.domain.clock import Checkpoint, answered_until, length
from services.monitor.domain.facts import StreamFacts
from services.monitor.domain.groups import bucket_of
from services.monitor.domain.maturity import HOUR
from services.monitor.domain.state import ModelState, StreamState, Vector
from services.monitor.filling import Closed
from services.monitor.intake import DataPart, Intake, Known, Lane
from services.monitor.measuring import Measuring
from services.monitor.reference import Reference
from services.monitor.settings import Settings
from services.monitor.words import Word

Lanes = Mapping[tuple[str, int], Lane]
_CHECKPOINTS = 1000
_UNHEARD_VALUES = 600_000  # of the newest rows, for answers of models whose rollout was not heard of yet


@dataclass(kw_only=True)
class Engine:
    """Takes rounds of one stream into its state. No I/O; `take` is called from one thread at a time."""

    state: StreamState
    limits: Settings
    intake: Intake
    references: dict[tuple[str, int], Reference] = field(default_factory=dict)  # by model and version

    def take(self, lanes: Lanes, facts: StreamFacts) -> list[Word]:
        """Take in what may be taken; each lane says how much that was. Returns what is to be said of it."""
        stream = facts.spec.stream
        self._sample(facts)
        data = {p: self.intake.data(lane.records) for p, lane in _of(lanes, DATA.of(stream))}
        self._data(data)
        for _, lane in _of(lanes, DATA.of(stream)):
            lane.taken = len(lane.records)
        models = {name: self.measuring(name, facts) for name in facts.models}
        closed = {name: self._answers(measuring, lanes) for name, measuring in models.items()}
        self._labels(stream, lanes)
        self._moved(lanes)
        self._checkpoint()
        self._mature(facts, lanes, models)
        self._clear(closed, models)
        self._forget(models)
        return [word for name, measuring in models.items() for word in measuring.words(closed[name])]

    def _sample(self, facts: StreamFacts) -> None:
        """Before anything is read: what waits is sampled as what comes will be."""
        level = self.intake.level = self.state.sampling
        self.state.labelled.sample(level)
        for name in facts.models if level else ():
            self.state.models.setdefault(name, ModelState()).join.sample(level)

    def measuring(self, name: str, facts: StreamFacts) -> Measuring:
        """One model's measurements, on the state as it stands."""
        return Measuring(
            name=name,
            facts=facts.models[name],
            spec=facts.spec,
            stream_revision=facts.revision,
            state=self.state,
            model=self.state.models.setdefault(name, ModelState()),
            references={version: each for (model, version), each in self.references.items() if model == name},
        )

    def _data(self, parts: Mapping[int, DataPart]) -> None:
        state = self.state
        times = [time for part in parts.values() for time in part.times]
        if times and not state.clock.steady(times):
            seen = (zip(part.times, part.ids, _witnesses(part), strict=True) for part in parts.values())
            state.clock.advance(_in_turn(seen))
        for partition, part in parts.items():
            state.refused += part.refused
            if part.end is not None:
                state.data[partition] = part.end
            if not part.ids:
                continue
            state.rows.add(partition, part.offsets, part.values)
            state.labelled.serve(partition, part.ids, part.times)

    def _answers(self, measuring: Measuring, lanes: Lanes) -> list[Closed]:
        """Answers to what was read, given under a revision that was heard of; the others wait, both are under way."""
        name, model = measuring.name, measuring.model
        known = Known(data=self.state.data, revisions=measuring.facts.rollouts.keys())
        topic = PREDICTIONS.of(name)
        start = dict(self.state.positions.get(topic, {}))
        taken = [self.intake.answers(partition, lane, known) for partition, lane in _of(lanes, topic)]
        served = measuring.serve([answer for each in taken for answer in each.answers], self.state.rows)
        measuring.pass_over([passed for each in taken for passed in each.passed])
        for partition, lane in _of(lanes, SHADOW.of(name)):
            measuring.shadow(self.intake.answers(partition, lane, known))
        measuring.compare(self.state.rows)
        model.refused, self.intake.refused_answers = model.refused + self.intake.refused_answers, 0
        return measuring.filling.fill(served, self.state.rows, start)

    def _labels(self, stream: str, lanes: Lanes) -> None:
        """Labels do not run ahead of the data while there is a backlog, so that few have to wait for their events."""
        state, high = self.state, self.state.clock.high
        caught_up = all(lane.at_end for _, lane in _of(lanes, DATA.of(stream)))
        for partition, lane in _of(lanes, LABELS.of(stream)):
            taken = self.intake.labels(lane, lambda time: not caught_up and high is not None and time > high)
            if taken.end is not None:
                state.labels[partition] = taken.end
            if not taken.said:
                continue
            names, times, _ = zip(*taken.said, strict=True)
            reached = max(times) if high is None else min(max(times), high)
            state.labels_time[partition] = max(state.labels_time.get(partition, 0), reached)
            state.labelled.label(partition, names, times)
            for model in state.models.values():
                model.join.label_all(partition, taken.said)
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

    def _mature(self, facts: StreamFacts, lanes: Lanes, models: Mapping[str, Measuring]) -> None:
        state, spec = self.state, facts.spec
        delay, grace = length(spec.label.delay), length(spec.lateness)
        high = _labels_reach(state, spec.stream, lanes)
        if high is None:
            return
        clock = state.matured_until = max(high - grace, state.matured_until or 0)
        state.matured.add(state.labelled.mature(clock, delay, grace))
        longest = max((model.spec.training.window for model in facts.models.values()), default=spec.label.delay)
        state.matured.forget(clock - length(longest) - HOUR)
        for measuring in models.values():
            model = measuring.model
            answered = _answered(measuring)
            reached = answered_until(state.checkpoints, answered) if measuring.facts.rollouts and answered else None
            if reached is not None:
                model.clock = max(min(high, reached) - grace, model.clock or 0)
            if model.clock is not None:
                measuring.settle(model.join.settle(model.clock, delay))

    def _clear(self, closed: Mapping[str, Sequence[Closed]], models: Mapping[str, Measuring]) -> None:
        for name, measuring in models.items():
            if closed[name] or measuring.clearing.due(self.limits.pending):
                measuring.part(measuring.clearing.clear(closed=bool(closed[name])))

    def _forget(self, models: Mapping[str, Measuring]) -> None:
        """What all served models have answered, and what is more than the bounds allow.

        A model that is declared may be served already, though it was not heard of yet: its labels wait in its join,
        and some rows for its answers.
        """
        state = self.state
        vectors = [_answered(measuring) for measuring in models.values() if measuring.facts.rollouts]
        needed = [_needed(measuring) for measuring in models.values() if measuring.facts.rollouts]
        first = {p: min((vector.get(p, 0) for vector in needed), default=at) for p, at in state.data.items()}
        unheard = _UNHEARD_VALUES // len(self.intake.spec.features) if len(vectors) < len(models) else 0
        state.rows.answered(first, unheard // self.intake.spec.partitions)
        state.rows.bound(self.limits.unanswered_rows)
        state.labelled.bound(self.limits.pending, self.limits.early_labels, state.sampling)
        for measuring in models.values():
            measuring.model.join.bound(self.limits.pending, self.limits.early_labels, state.sampling)
            measuring.forget()
        marks = state.checkpoints
        passed = [all(answered_until([mark], vector) is not None for vector in vectors) for mark in marks]
        state.checkpoints = marks[max((index for index, each in enumerate(passed) if each), default=0) :]


def _of(lanes: Lanes, topic: str) -> Iterator[tuple[int, Lane]]:
    return ((partition, lane) for (name, partition), lane in sorted(lanes.items()) if name == topic)


def _witnesses(part: DataPart) -> Iterator[str]:
    """Entities by their buckets: told apart well enough, and nobody's name gets into the state."""
    return (str(bucket_of(entity)) for entity in part.entities)


def _in_turn(parts: Iterable[Iterable[tuple[int, str, str]]]) -> Iterator[tuple[int, str, str]]:
    """One record of each partition after the other: the same order however they arrived."""
    return (each for each in chain.from_iterable(zip_longest(*parts)) if each is not None)


def _answered(measuring: Measuring) -> Vector:
    """Input offsets without an answer yet, of the partitions that are served: a switch or an answer says so.

    Answers may be read before the switch is heard of; and a partition stays without either where its scorer cannot load
    the first champion.
    """
    served, answered = measuring.facts.served_from, measuring.model.answered
    return {p: max(served.get(p, 0), answered.get(p, 0)) for p in served.keys() | answered.keys()}


def _needed(measuring: Measuring) -> Vector:
    """Rows that somebody waits for begin there: of numbers, both arms' answers are held against their row."""
    heard, facts = _answered(measuring), measuring.facts
    if facts.spec.task != "regression" or facts.rollout is None or facts.rollout.challenger is None:
        return heard
    shadowed, served = measuring.model.shadowed, facts.served_from
    return {p: min(at, max(served.get(p, 0), shadowed.get(p, 0))) for p, at in heard.items()}


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
