"""What is known so far, for whoever looks on; painted by the follower's thread, read under its lock."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from cli.demonstration.counting import DECODE_ANSWER
from cli.demonstration.reading import Raw, Said
from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged, RolloutEnded
from schemas.events.ingestor import DatasetCommitted
from schemas.events.monitor import AlertRaised, AlertResolved, RolloutMeasured, TrainingRequested, WindowMeasured
from schemas.events.registry import ModelRegistered
from schemas.events.trainer import ModelTrained, TrainingFailed, TrainingProgressed
from schemas.events.validator import ModelRejected, ModelValidated


@dataclass(kw_only=True)
class ModelPicture:
    """One model as it is now."""

    predictions: Counter[tuple[int, str]] = field(default_factory=Counter)  # by version and arm
    run: str = "–"
    gates: str = "–"
    rollout: RolloutChanged | None = None
    evidence: RolloutMeasured | None = None
    window: WindowMeasured | None = None
    alerts: dict[str, AlertRaised] = field(default_factory=dict)


@dataclass(kw_only=True)
class Picture:
    """Everything that is shown; `news` is what has happened, a line each."""

    models: dict[str, ModelPicture] = field(default_factory=lambda: defaultdict(ModelPicture))
    tables: dict[str, DatasetCommitted] = field(default_factory=dict)
    dead_letters: int = 0
    predictions: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))  # topic → next offsets
    news: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hear_prediction(self, raw: Raw) -> None:
        answer = DECODE_ANSWER(raw.value)
        with self.lock:
            self.models[answer.model].predictions[answer.version, answer.arm] += 1
            self.predictions[raw.topic][raw.partition] = raw.offset + 1

    def hear_dead_letter(self, _: Raw) -> None:
        with self.lock:
            self.dead_letters += 1

    def hear(self, said: Said) -> None:
        with self.lock:
            self._paint(said)
            if (line := headline(said)) is not None:
                self.news.append(line)

    def _paint(self, said: Said) -> None:
        event = said.event
        model = self.models[event.key] if event.key_field == "model" else ModelPicture()
        match event:
            case DatasetCommitted():
                self.tables[event.table] = event
            case RolloutChanged():
                model.rollout, model.evidence = event, model.evidence if event.challenger else None
            case RolloutMeasured():
                model.evidence = event
            case WindowMeasured():
                model.window = event
            case AlertRaised():
                model.alerts[event.alert] = event
            case AlertResolved():
                model.alerts.pop(event.alert, None)
            case _:
                model.run = run_line(said) or model.run
                model.gates = gates_line(said) or model.gates


def run_line(said: Said) -> str | None:
    """What a training run is at, if the event tells."""
    match said.event:
        case TrainingRequested() as event:
            return f"{event.run_id} ({event.reason}): requested"
        case TrainingProgressed() as event:
            best = f", best {event.best_score:.4f}" if event.best_score is not None else ""
            return f"{event.run_id}: {event.stage} {event.done}/{event.total}{best}"
        case ModelTrained() as event:
            return f"{event.run_id}: trained on {event.candidate.rows:,} rows in {event.run_seconds:.1f} s"
        case TrainingFailed() as event:
            return f"{event.run_id}: {event.reason}"
        case ModelRegistered() as event:
            return f"{event.release.candidate.run_id}: registered as v{event.version}"
        case _:
            return None


def gates_line(said: Said) -> str | None:
    """How a candidate stood at the gates, if the event tells."""
    match said.event:
        case ModelValidated(gates=gates) | ModelRejected(gates=gates):
            failed = [gate for gate in gates if gate.verdict == "failed"]
            passed = sum(gate.verdict == "passed" for gate in gates)
            return "; ".join([f"{passed} passed", *(f"{gate.name} FAILED: {gate.reason}" for gate in failed)])
        case _:
            return None


def headline(said: Said) -> str | None:
    """The event in a line, when it is news."""
    words = _WORDS.get(type(said.event))
    return f"{said.event.key}: {words(said)}" if words else None


def rollout_line(event: RolloutChanged) -> str:
    """Such as `v1 serving` or `v1 serving, v2 canary 25 %`."""
    champion = f"v{event.champion.version} serving"
    if event.challenger is None:
        return champion
    share = f" {event.share:.0%}" if event.phase == "canary" else ""
    return f"{champion}, v{event.challenger.version} {event.phase}{share}"


def _rollout(said: Said) -> str:
    assert isinstance(said.event, RolloutChanged)
    return f"{rollout_line(said.event)}: {said.event.reason}"


def _judged(said: Said) -> str:
    return f"{said.event.event.removeprefix('model.')}: {gates_line(said)}"


def _fields(words: str) -> Callable[[Said], str]:
    """A format of the event's fields."""
    return lambda said: words.format_map(dict(said.event))


_WORDS: dict[type[Event], Callable[[Said], str | None]] = {
    TrainingRequested: _fields("training requested ({reason}): {explanation}"),
    ModelTrained: run_line,
    TrainingFailed: run_line,
    ModelValidated: _judged,
    ModelRejected: _judged,
    ModelRegistered: _fields("registered as v{version}"),
    RolloutChanged: _rollout,
    RolloutEnded: _fields("v{version} {outcome}: {reason}"),
    AlertRaised: _fields("alert ({kind}, {severity}): {explanation}"),
    AlertResolved: _fields("alert resolved: {explanation}"),
}
