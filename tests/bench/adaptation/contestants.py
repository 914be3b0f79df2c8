"""Who answers a stream: the first version for ever, the platform, an oracle that knows the changes, and a forest.

All but the forest begin with the same first version, and the oracle trains by the same trainer: on what came since a
change, as soon as `min_rows` of it have matured, and serves at once what it trained. The forest (Gomes et al.: Adaptive
random forests for evolving data stream classification, Machine Learning 106, 2017; river's, by its own defaults) learns
each label as it comes, from the very first on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import forest

from schemas.events.parts import Candidate
from services.deployer.answers import answers_of
from shared.child import JobFailed
from shared.matrix import Projection
from shared.records import StreamDecoder
from shared.runtime import Model
from tests.bench.adaptation.platform import Platform, Told
from tests.bench.adaptation.streams import Stream, stream_of
from tests.bench.adaptation.training import Past

Hits = NDArray[np.bool_]  # an entry an event: whether the answer was right
Answer = bool | str | None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Hits by contestant, and what the platform did; `start` is the first event that all of them answer."""

    name: str
    kind: str
    changes: tuple[int, ...]
    start: int
    hits: dict[str, Hits]
    told: list[Told]
    seconds: float  # of CPU

    @property
    def events(self) -> int:
        return len(self.hits["ours"])

    @property
    def versions(self) -> int:
        """How many became champion."""
        return 1 + sum("promoted" in each.what for each in self.told)

    def accuracy(self, contestant: str) -> float:
        """Prequential: over all events, each answered before its label was known."""
        return float(self.hits[contestant][self.start :].mean())


def contest_of(name: str, *, with_forest: bool = True) -> Contest:
    """All contestants on one stream; not in the main module, which a spawned process does not find again."""
    began, stream = time.process_time(), stream_of(name)
    past = Past(stream)
    platform = Platform(past=past).run()
    assert platform.first is not None
    answers = {
        "static": _answers(past, platform.first),
        "ours": platform.answers,
        "oracle": _oracle(past, platform.first),
    }
    if with_forest:
        answers["forest"] = forest_answers(stream)
    return Contest(
        name=stream.name,
        kind=stream.kind,
        changes=stream.changes,
        start=next(index for index, answer in enumerate(platform.answers) if answer is not None),
        hits={name: hits_of(stream, each) for name, each in answers.items()},
        told=platform.told,
        seconds=time.process_time() - began,
    )


def hits_of(stream: Stream, answers: Sequence[Answer]) -> Hits:
    """Which answers were right; none is wrong."""
    return np.array([answer == label for answer, label in zip(answers, stream.labels, strict=True)])


def _answers(past: Past, candidate: Candidate, start: int = 0) -> list[Answer]:
    """Of a version, to every event from `start` on."""
    batch = StreamDecoder(past.stream.spec).decode(past.stream.values[start:])
    inputs = Projection(candidate.signature, past.stream.spec)(batch.matrix)
    scores = Model(past.shelf.get_now(candidate.onnx.digest), candidate.signature).score(inputs)
    return list(answers_of(1, candidate.spec, candidate.signature.classes, scores).labels)


def _oracle(past: Past, first: Candidate) -> list[Answer]:
    stream, answers = past.stream, _answers(past, first)
    matured = np.array([time + stream.spec.label.delay for time in stream.times])
    for change in stream.changes:
        ready = change + stream.model.training.min_rows
        if ready >= len(stream):
            continue
        cut_time = matured[ready]
        serves = next((index for index, time in enumerate(stream.times) if time >= cut_time), len(stream))
        trained = _since(past, stream.times[change], cut_time)
        if trained is not None and serves < len(stream):
            answers[serves:] = _answers(past, trained, serves)
    return answers


def _since(past: Past, change: datetime, cut_time: datetime) -> Candidate | None:
    spec = past.stream.model
    window = min(spec.training.window, cut_time - change + timedelta(microseconds=1))
    training = spec.training.model_copy(update={"window": window})
    try:
        return past.train(spec.model_copy(update={"training": training}), f"oracle-{change:%Y%m%d%H%M}", cut_time)
    except JobFailed:
        return None


def forest_answers(stream: Stream) -> list[Answer]:
    """An answer before each label; labels are learned when they come."""
    model, present = forest.ARFClassifier(seed=7), [_present(each) for each in stream.features]
    learn, answers = _learner(stream, present), list[Answer]()
    for now, features in zip(stream.times, present, strict=True):
        learn(model, now)
        said: dict[Any, float] = model.predict_proba_one(features)
        answers.append(max(said, key=said.__getitem__) if said else None)
    return answers


def _present(features: dict[str, Any]) -> dict[str, Any]:
    """Its trees know what to do without a feature, not with None."""
    return {name: value for name, value in features.items() if value is not None}


def _learner(stream: Stream, present: Sequence[dict[str, Any]]) -> Callable[[forest.ARFClassifier, datetime], None]:
    waiting = sorted(((at, index) for index, at in enumerate(stream.known) if at is not None), reverse=True)

    def learn(model: forest.ARFClassifier, now: datetime) -> None:
        while waiting and waiting[-1][0] <= now:
            _, index = waiting.pop()
            model.learn_one(present[index], stream.labels[index])

    return learn
