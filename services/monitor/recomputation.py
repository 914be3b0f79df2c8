"""What the monitor said of a model, computed again from the records below the vectors that its windows name.

A window's own predictions lie between its vectors. What the detectors knew by then follows from the windows before it,
so all of them are taken one after the other, from the model's first; no round in between matters.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from schemas.events.monitor import AlertResolved, Reading, WindowMeasured
from schemas.specs import Monitoring
from schemas.topics import DATA, LABELS, PREDICTIONS
from services.monitor.domain.clock import Clock, length, micros
from services.monitor.domain.facts import StreamFacts
from services.monitor.domain.state import ModelState, StreamState, Vector, VersionState
from services.monitor.domain.windows import Window
from services.monitor.filling import Closed
from services.monitor.intake import Answer, Intake, Lane, Record
from services.monitor.measuring import Measuring
from services.monitor.reference import Reference
from services.monitor.words import Word
from shared.errors import Fault, Refusal

Records = Mapping[tuple[str, int], Sequence[Record]]  # by topic and partition


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The windows that were said together, what was declared then, and the alerts that ended with their version.

    Without windows it is a place at which the join was cleared before they closed.
    """

    at: WindowMeasured | Reading
    facts: StreamFacts
    windows: tuple[WindowMeasured, ...] = ()
    over: tuple[AlertResolved, ...] = ()

    def vectors(self, model: str) -> dict[str, Vector]:
        """By topic, up to where it had been read."""
        at, stream = self.at, self.facts.spec.stream
        return {DATA.of(stream): at.data_to, PREDICTIONS.of(model): at.heard_to, LABELS.of(stream): at.labels_to}


def cuts_of(
    said: Iterable[WindowMeasured | AlertResolved], declared: Callable[[WindowMeasured], StreamFacts]
) -> list[Cut]:
    """From a model's windows and the alerts that ended with their version, in the order in which they were said."""
    cuts: list[Cut] = []
    for _, group in groupby(said, key=_vectors):
        events = list(group)
        windows = tuple(each for each in events if isinstance(each, WindowMeasured))
        if windows:
            facts = declared(windows[0])
            cuts += [Cut(at=place, facts=facts) for window in windows for place in window.cleared]
            cuts.append(Cut(at=windows[-1], facts=facts, windows=windows))
        elif cuts:
            over = tuple(each for each in events if isinstance(each, AlertResolved))
            cuts[-1] = replace(cuts[-1], over=over)
    return cuts


def hold_whole(cuts: Iterable[Cut]) -> None:
    """Nothing was left out of what the cuts' windows count.

    Raises:
        Refusal: more predictions had waited than the monitor keeps, so that what was joined does not follow from them.
    """
    for window in (window for cut in cuts for window in cut.windows if window.sampled_out):
        raise Refusal(
            f"{window.model}:{window.version} window {window.window}: {window.sampled_out} predictions had been sampled"
            " out, expected none: more waited than MODELBUS_MONITOR_PENDING, so the log does not tell what was joined"
        )


def _vectors(said: WindowMeasured | AlertResolved) -> tuple[Any, ...]:
    return (said.heard_to, said.labels_to, said.data_to, said.clock) if isinstance(said, WindowMeasured) else ()


@dataclass(kw_only=True)
class Recomputation:
    """One model's, cut by cut; `documents` are the references of its versions.

    With `asked`, windows close as another configuration would have closed them. What had matured is then known at the
    places of the log at which it was.
    """

    model: str
    windows: Sequence[WindowMeasured]
    documents: Mapping[int, Mapping[str, Any]]
    asked: Monitoring | None = None

    def __post_init__(self) -> None:
        self._state = StreamState(clock=Clock(leap=0))
        self._mine = self._state.models[self.model] = ModelState()
        self._open: dict[tuple[int, int], Window] = {}  # by version and number
        self._windows: dict[int, list[WindowMeasured]] = {}
        for window in sorted(self.windows, key=lambda each: each.window):
            self._windows.setdefault(window.version, []).append(window)
        self._ends: dict[tuple[int, int], list[int]] = {}  # by version and partition
        self._references: dict[tuple[int, int], Reference] = {}  # by version and the stream's revision

    def take(self, cut: Cut, records: Records) -> list[Word]:
        """Records between the cut before and this one; returns what there is to say of its windows."""
        measuring, vectors = self._measuring(cut), cut.vectors(self.model)
        intake, stream, topic = Intake(spec=measuring.spec), measuring.spec.stream, PREDICTIONS.of(self.model)
        for partition, lane in _lanes(records, DATA.of(stream)):
            part = intake.data(lane.records)
            self._state.rows.add(partition, part.offsets, part.values)
        served = [each for p, lane in _lanes(records, topic) for each in intake.answers(p, lane).answers]
        closed = self._filled(measuring, cut, measuring.serve(served, self._state.rows))
        for partition, lane in _lanes(records, LABELS.of(stream)):
            self._mine.join.label_all(partition, intake.labels(lane, lambda _: False).said)
        self._state.data, self._state.labels = dict(vectors[DATA.of(stream)]), dict(vectors[LABELS.of(stream)])
        self._state.positions[topic] = dict(vectors[topic])
        self._mature(cut, measuring, closed=bool(closed))
        words = [word for each in closed for word in measuring.window(each)]
        self._end(cut.over)
        return words

    def _measuring(self, cut: Cut) -> Measuring:
        facts = cut.facts.models[self.model]
        if self.asked is not None:
            facts = replace(facts, spec=facts.spec.model_copy(update={"monitoring": self.asked}))
        return Measuring(
            name=self.model,
            facts=facts,
            spec=cut.facts.spec,
            stream_revision=cut.facts.revision,
            state=self._state,
            model=self._mine,
            references={version: self._reference(version, cut) for version in self.documents},
        )

    def _reference(self, version: int, cut: Cut) -> Reference:
        place = version, cut.facts.revision
        if place not in self._references:
            candidate = cut.facts.models[self.model].releases[version]
            self._references[place] = Reference.of(self.documents[version], candidate, cut.facts.spec)
        return self._references[place]

    def _filled(self, measuring: Measuring, cut: Cut, served: Sequence[Answer]) -> list[Closed]:
        """The windows of the cut, or those that another configuration closes by it."""
        if self.asked is not None:
            start = dict(self._state.positions.get(PREDICTIONS.of(self.model), {}))
            closed = measuring.filling.fill(served, self._state.rows, start)
        else:
            self._fill(measuring, served)
            closed = [self._closed(window) for window in cut.windows]
        self._state.rows.answered(self._mine.answered)
        return closed

    def _fill(self, measuring: Measuring, served: Sequence[Answer]) -> None:
        for window, answers in self._sorted(served):
            place = window.version, window.window
            mine = self._open.setdefault(place, Window(number=window.window, start=dict(window.predictions_from)))
            measuring.filling.add(mine, window.version, answers, self._state.rows)

    def _sorted(self, served: Sequence[Answer]) -> Iterator[tuple[WindowMeasured, list[Answer]]]:
        """Answers by the window between whose vectors they lie; some lie in one that has not closed yet."""
        found: dict[tuple[int, int], list[Answer]] = {}
        for each in served:
            version, ends = each.score.version, self._ends_of(each.score.version, each.partition)
            index = bisect_right(ends, each.offset)
            if index < len(ends) and each.offset >= self._windows[version][index].predictions_from.get(
                each.partition, 0
            ):
                found.setdefault((version, index), []).append(each)
        for (version, index), answers in sorted(found.items(), key=lambda item: item[0]):
            yield self._windows[version][index], answers

    def _ends_of(self, version: int, partition: int) -> list[int]:
        if (version, partition) not in self._ends:
            said = self._windows.get(version, [])
            self._ends[version, partition] = [each.predictions_to.get(partition, 0) for each in said]
        return self._ends[version, partition]

    def _closed(self, said: WindowMeasured) -> Closed:
        window = self._open.pop((said.version, said.window), None)
        if window is None:
            raise Fault(f"{self.model}:{said.version}: no prediction of window {said.window} is in the log any more")
        self._mine.versions.setdefault(said.version, VersionState())
        return Closed(version=said.version, window=window, end=dict(said.predictions_to))

    def _mature(self, cut: Cut, measuring: Measuring, *, closed: bool) -> None:
        if cut.at.clock is None:
            return
        clock = self._mine.clock = micros(cut.at.clock)
        measuring.settle(self._mine.join.settle(clock, length(measuring.spec.label.delay)))
        if closed or not cut.windows:
            measuring.part(measuring.clearing.clear(closed=closed))

    def _end(self, over: Sequence[AlertResolved]) -> None:
        ended = {each.alert for each in over}
        for version in self._mine.versions.values():
            for alarm in (version.data_fault, version.drift, version.decay):
                if alarm.open is not None and alarm.open.id in ended:
                    alarm.close()


def _lanes(records: Records, topic: str) -> Iterator[tuple[int, Lane]]:
    return ((partition, Lane(records=found)) for (name, partition), found in sorted(records.items()) if name == topic)
