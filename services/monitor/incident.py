"""An alert recomputed from the log: is what was said what its records say, and what would have been said otherwise?

Readers of their own read exactly the records below the windows' vectors, each its share of the partitions; they are
merged in the order of their places, so that their number changes nothing.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from schemas.events.base import Event
from schemas.events.monitor import AlertRaised, WindowMeasured
from schemas.specs import Monitoring
from schemas.topics import DATA, LABELS, PREDICTIONS
from services.monitor.domain.state import Vector
from services.monitor.history import History
from services.monitor.intake import Record
from services.monitor.recomputation import Cut, Recomputation, hold_whole
from services.monitor.stream import Reader, Where
from services.monitor.words import Word
from shared.errors import Fault
from shared.objects import Objects
from shared.reading import Reader as SpanReader
from shared.settings import KafkaSettings

_BUDGET = 20_000  # records in memory, a reader
_STALLED_SECONDS = 60.0


@dataclass(kw_only=True)
class Verdict:
    """What came out: events that are equal to those said, those that are not, and all that was said now."""

    equal: int = 0
    different: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def alerts(self) -> list[AlertRaised]:
        return [each for each in self.events if isinstance(each, AlertRaised)]


def recomputed(
    history: History,
    cuts: Sequence[Cut],
    *,
    kafka: KafkaSettings,
    objects: Objects,
    parallel: int = 1,
    asked: Monitoring | None = None,
) -> Iterator[Verdict]:
    """The verdict so far, after each cut; the last one is whole.

    Raises:
        Refusal: predictions had been sampled out.
        Fault: the log no longer has the records, or S3 or the broker do not answer.
    """
    hold_whole(cuts)
    windows = [window for cut in cuts for window in cut.windows]
    documents = {
        version: json.loads(objects.get_now(history.releases[version].reference.digest))
        for version in {window.version for window in windows}
    }
    again = Recomputation(model=history.model, windows=history.windows, documents=documents, asked=asked)
    verdict = Verdict()
    with Readers(kafka, _starts(kafka, history, cuts), parallel) as readers:
        for cut in cuts:
            words = again.take(cut, readers.read_to(cut.vectors(history.model)))
            verdict.events += [word.event for word in words]
            if asked is None:
                _hold(verdict, history, cut, words)
            yield verdict


def _hold(verdict: Verdict, history: History, cut: Cut, words: Sequence[Word]) -> None:
    """Each word beside the event that was said under its id, bit for bit, and the other way round."""
    for word in words:
        said = history.said.get(word.id)
        if said is not None and said.event.encode() == word.event.encode():
            verdict.equal += 1
        else:
            verdict.different.append(f"{word.event.event} {_named(word.event)}: {_differences(said, word.event)}")
    again, places = {word.id for word in words}, {(window.version, window.window) for window in cut.windows}
    for name, said in history.said.items():
        event = said.event
        if isinstance(event, AlertRaised) and (event.version, event.window) in places and name not in again:
            verdict.different.append(f"alert.raised {event.alert}: was said, and is not found again")


def _named(event: Event) -> str:
    return f"{event.version}#{event.window}" if isinstance(event, WindowMeasured) else str(getattr(event, "alert", ""))


def _differences(said: Any, event: Event) -> str:
    """Fields that differ, as said and as found."""
    if said is None:
        return "was not said"
    then, now = said.event.model_dump(mode="json"), event.model_dump(mode="json")
    return "; ".join(f"{name} {then[name]} was said, {now[name]} found" for name in now if then[name] != now[name])


def _starts(kafka: KafkaSettings, history: History, cuts: Sequence[Cut]) -> dict[Where, int]:
    """Where reading begins: predictions and labels with the log, data where the model's answers begin.

    Raises:
        Fault: the log begins later.
    """
    partitions = range(cuts[0].facts.spec.partitions)
    starts: dict[Where, int] = {}
    with SpanReader(kafka, "modelbus.cli") as reader:
        for topic, wanted in (
            (DATA.of(history.stream), history.served_from),
            (PREDICTIONS.of(history.model), dict.fromkeys(partitions, 0)),
            (LABELS.of(history.stream), dict.fromkeys(partitions, 0)),
        ):
            for partition, (begins, _) in reader.spans(topic).items():
                if begins > wanted.get(partition, begins):
                    raise Fault(f"{topic}[{partition}] begins at {begins}: what the windows were made from is gone")
                starts[topic, partition] = wanted.get(partition, begins)
    return starts


class Readers:
    """So many readers, each with its share of the partitions; use it as a context manager."""

    def __init__(self, kafka: KafkaSettings, starts: Mapping[Where, int], parallel: int) -> None:
        self._kafka = kafka
        self._places = [sorted(starts)[index::parallel] for index in range(parallel)]
        self._positions: dict[str, Vector] = {}
        for (topic, partition), start in starts.items():
            self._positions.setdefault(topic, {})[partition] = start

    def __enter__(self) -> "Readers":
        with ExitStack() as opened:
            self._readers = [
                opened.enter_context(closing(Reader(self._kafka, f"incident.{index}")))
                for index in range(len(self._places))
            ]
            self._threads = opened.enter_context(ThreadPoolExecutor(len(self._places)))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def read_to(self, vectors: Mapping[str, Vector]) -> dict[Where, list[Record]]:
        """The records from where the last call ended up to these vectors.

        Raises:
            Fault: they do not come.
        """
        found: dict[Where, list[Record]] = {}
        for part in self._threads.map(self._read, self._readers, self._places, repeat(vectors)):
            found |= part
        for (topic, partition), records in found.items():
            if records:
                self._positions[topic][partition] = records[-1][0] + 1
        return found

    def _read(
        self, reader: Reader, places: Sequence[Where], vectors: Mapping[str, Vector]
    ) -> dict[Where, list[Record]]:
        ends = {(topic, partition): vectors[topic].get(partition, 0) for topic, partition in places}
        positions = {topic: dict(vector) for topic, vector in self._positions.items()}
        found: dict[Where, list[Record]] = {where: [] for where in places}
        deadline = time.monotonic() + _STALLED_SECONDS
        while True:
            lanes = reader.read(ends, positions, _BUDGET)
            for where, lane in lanes.items():
                found[where] += lane.records
                lane.taken = len(lane.records)
                if lane.taken:
                    positions[where[0]][where[1]] = lane.records[-1][0] + 1
                    deadline = time.monotonic() + _STALLED_SECONDS
            reader.taken(lanes)
            if all(lane.at_end for lane in lanes.values()):
                return found
            if time.monotonic() > deadline:
                raise Fault(f"nothing came for {_STALLED_SECONDS:.0f} s from {places}")
